//! What an edit that the database refuses is answered with, and that it fails no other edit.

use std::sync::{Arc, Mutex, OnceLock};

use fieldsync::backend::StoreError;
use fieldsync::{Collection, Engine, Grant, StartError, View};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;

use crate::app::{App, Server};
use crate::database::{Database, on_both_databases, trigger};

on_both_databases!(
    a_broken_trigger_fails_only_the_edit_that_runs_it,
    what_a_trigger_raises_is_logged_and_not_sent,
    what_a_trigger_raises_is_sent_if_the_app_shows_it,
    a_unique_index_on_an_expression_names_its_column,
    a_a_hidden_column_of_a_unique_index_is_not_named,
    a_check_of_the_table_names_its_columns,
    a_column_that_is_no_field_and_refuses_null_is_the_servers_fault,
    a_constraint_of_another_table_blames_no_field,
    a_deferred_reference_to_a_missing_record_names_its_field,
    a_deferred_reference_of_another_table_blames_no_field,
);

/// A collection of texts that may be null.
fn collection(name: &str, fields: &[&str]) -> Collection {
    let text = |name: &&str| ((*name).to_owned(), json!({"type": ["string", "null"]}));
    let properties: serde_json::Map<_, _> = fields.iter().map(text).collect();
    Collection::from_schema(name, &json!({"type": "object", "properties": properties}))
}

async fn start(database: &Database, collection: Collection) -> App {
    start_as(database, collection, "postgres").await
}

async fn start_as(database: &Database, collection: Collection, role: &str) -> App {
    start_with(database, collection, role, "").await
}

/// `options` are those of PostgreSQL's URL.
async fn start_with(database: &Database, collection: Collection, role: &str, options: &str) -> App {
    // Only the owner may create triggers.
    let collection = if role == "postgres" {
        collection.capture()
    } else {
        collection.without_capture()
    };
    let builder = Engine::builder().collection(collection.open_to_everyone());
    let builder = database.store(builder, role, options).await;
    App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await
}

#[track_caller]
fn check(reply: &(u16, Value), status: u16, fields: &[&str]) {
    assert_eq!(reply.0, status, "{}", reply.1);
    let errors = reply.1["errors"].as_object().into_iter().flatten();
    let blamed: Vec<&str> = errors.map(|(field, _)| field.as_str()).collect();
    assert_eq!(blamed, fields, "{}", reply.1);
}

/// Sends an edit beside 32 that are fine.
async fn beside_others(app: &App, method: &str, path: &str, body: Value) -> (u16, Value) {
    let collection = path.split('/').take(3).collect::<Vec<_>>().join("/") + "/";
    let fine = (0..32).map(|number| {
        let (collection, body) = (&collection, json!({"body": format!("fine {number}")}));
        async move { app.send("POST", collection, &body).await }
    });
    let (fine, refused) = tokio::join!(join_all(fine), app.send(method, path, &body));
    for (status, reply) in fine {
        assert_eq!(status, 201, "{reply}");
    }
    refused
}

/// What all tests log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn shared() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false);
            let subscriber = subscriber.with_max_level(LevelFilter::INFO);
            subscriber.with_writer(move || writer.clone()).init();
            log
        })
    }

    /// The only line that contains these words.
    #[track_caller]
    fn line_with(&self, words: &[&str]) -> String {
        let log = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        let contains = |line: &&str| words.iter().all(|word| line.contains(word));
        let lines: Vec<&str> = log.lines().filter(contains).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].to_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn a_broken_trigger_fails_only_the_edit_that_runs_it(database: Database) {
    let log = Log::shared();
    let table = if database.is_postgres() {
        "pages"
    } else {
        "leaves"
    };
    database
        .run(&format!(
            "create table {table} ($key, body text, note text)"
        ))
        .await;
    // SQLite compiles a trigger with each statement that may run it.
    let on_sqlite = format!(
        "create trigger broken before update of note on {table} begin insert into missing values (1); end"
    );
    let body = "insert into missing values (1)";
    let on_postgres = trigger(table, "broken", "new.note = 'x'", body);
    database.run_own(&on_sqlite, &on_postgres).await;
    let app = start(&database, collection(table, &["body", "note"])).await;
    let path = format!("/api/{table}/");
    let (_, made) = app.send("POST", &path, &json!({})).await;
    let path = format!("{path}{}/", made["id"]);
    let reply = beside_others(&app, "PATCH", &path, json!({"note": "x"})).await;
    check(&reply, 500, &[]);
    assert!(!reply.1.to_string().contains("missing"), "{}", reply.1);
    let line = log.line_with(&[&format!("table {table}"), "missing"]);
    assert!(line.contains("ERROR"), "{line}");
}

/// A table whose trigger refuses one name.
async fn with_raising_trigger(database: &Database, table: &str) {
    let raise = "select raise(abort, 'too many seats') where new.name = 'full'";
    let on_sqlite = format!("create trigger seats before insert on {table} begin {raise}; end");
    let raise = "raise exception 'too many seats' using errcode = 'ZZ001'";
    let on_postgres = trigger(table, "seats", "new.name = 'full'", raise);
    let create = format!("create table {table} ($key, body text, name text)");
    database.run(&create).await;
    database.run_own(&on_sqlite, &on_postgres).await;
}

async fn what_a_trigger_raises_is_logged_and_not_sent(database: Database) {
    let log = Log::shared();
    let table = if database.is_postgres() {
        "halls"
    } else {
        "rooms"
    };
    with_raising_trigger(&database, table).await;
    let app = start(&database, collection(table, &["body", "name"])).await;
    let full = json!({"body": "a", "name": "full"});
    let reply = beside_others(&app, "POST", &format!("/api/{table}/"), full).await;
    check(&reply, 422, &[]);
    assert_eq!(reply.1["detail"], "the database refused the edit");
    let line = log.line_with(&[table, "too many seats"]);
    assert!(line.contains("INFO"), "{line}");
}

async fn what_a_trigger_raises_is_sent_if_the_app_shows_it(database: Database) {
    with_raising_trigger(&database, "shows").await;
    let shows = collection("shows", &["body", "name"]).show_database_messages();
    let app = start(&database, shows).await;
    let full = json!({"body": "a", "name": "full"});
    let reply = beside_others(&app, "POST", "/api/shows/", full).await;
    check(&reply, 422, &[]);
    assert_eq!(reply.1["detail"], "too many seats");
}

async fn a_unique_index_on_an_expression_names_its_column(database: Database) {
    database
        .run(
            "create table users ($key, body text, email text, team text); \
             create unique index one_email on users (lower(email)) where team is null",
        )
        .await;
    let app = start(&database, collection("users", &["body", "email", "team"])).await;
    let user = |email: &str| json!({"body": "a", "email": email});
    let (status, _) = app.send("POST", "/api/users/", &user("ada@example")).await;
    assert_eq!(status, 201);
    let reply = beside_others(&app, "POST", "/api/users/", user("Ada@example")).await;
    check(&reply, 409, &["email"]);
}

async fn a_a_hidden_column_of_a_unique_index_is_not_named(database: Database) {
    database
        .run(
            "create table cards ($key, body text, badge text); \
             create unique index one_badge on cards (badge); \
             create unique index one_body on cards (badge, body)",
        )
        .await;
    let cards = collection("cards", &["body", "badge"])
        .capture()
        .on_create(|_, card| {
            let badge = card["body"].as_str().unwrap_or_default().len().to_string();
            card.insert("badge".into(), badge.into());
        })
        .authorize_fn(|who, _| {
            Ok(match who.name() {
                Some("boss") => Grant::full(),
                _ => Grant::full()
                    .with_view(View::only(["body"]))
                    .with_writable(View::only(["body"])),
            })
        });
    let builder = Engine::builder().collection(cards);
    let builder = database.store(builder, "postgres", "").await;
    let app = App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await;
    let create = async |who: &str, body: &str| {
        let request = app.request("POST", "/api/cards/").header("x-user", who);
        let reply = request.json(&json!({"body": body})).send().await.unwrap();
        (
            reply.status().as_u16(),
            reply.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(create("eve", "a").await.0, 201);
    check(&create("boss", "b").await, 409, &["badge"]);
    let reply = create("eve", "b").await;
    check(&reply, 409, &[""]);
    assert!(!reply.1.to_string().contains("badge"), "{}", reply.1);
}

async fn a_check_of_the_table_names_its_columns(database: Database) {
    database
        .run(
            "create table spans ($key, body text, first text, last text, \
             constraint \"in order\" check (first <= last))",
        )
        .await;
    let app = start(&database, collection("spans", &["body", "first", "last"])).await;
    let span = json!({"body": "a", "first": "b", "last": "a"});
    let reply = beside_others(&app, "POST", "/api/spans/", span).await;
    check(&reply, 422, &["first", "last"]);
}

async fn a_column_that_is_no_field_and_refuses_null_is_the_servers_fault(database: Database) {
    let log = Log::shared();
    let table = if database.is_postgres() {
        "notes"
    } else {
        "memos"
    };
    let create = format!("create table {table} ($key, body text, owner text)");
    database.run(&create).await;
    let path = format!("/api/{table}/");
    let app = start(&database, collection(table, &["body"])).await;
    let on_sqlite = format!(
        "create table new (id integer primary key, body text, owner text not null); \
         drop table {table}; alter table new rename to {table}"
    );
    let on_postgres = format!("alter table {table} alter owner set not null");
    database.run_own(&on_sqlite, &on_postgres).await;
    let reply = app.send("POST", &path, &json!({"body": "a"})).await;
    check(&reply, 500, &[]);
    let line = log.line_with(&[&format!("table {table}"), "owner"]);
    assert!(line.contains("ERROR"), "{line}");
}

async fn a_constraint_of_another_table_blames_no_field(database: Database) {
    let insert = "insert into slots values (new.name)";
    let on_sqlite = format!("create trigger slot after insert on trips begin {insert}; end");
    let on_postgres = trigger("trips", "slot", "new.name is not null", insert);
    database
        .run("create table slots (name text unique); create table trips ($key, body text, name text)")
        .await;
    database.run_own(&on_sqlite, &on_postgres).await;
    let app = start(&database, collection("trips", &["body", "name"])).await;
    let trip = json!({"body": "a", "name": "b"});
    assert_eq!(app.send("POST", "/api/trips/", &trip).await.0, 201);
    let reply = beside_others(&app, "POST", "/api/trips/", trip).await;
    check(&reply, 409, &[""]);
}

async fn a_deferred_reference_to_a_missing_record_names_its_field(database: Database) {
    database
        .run(
            "create table items ($key, body text, name text unique, \
             parent text references items (name) deferrable initially deferred)",
        )
        .await;
    let app = start(&database, collection("items", &["body", "name", "parent"])).await;
    let item = json!({"body": "a", "name": "b", "parent": "c"});
    let reply = beside_others(&app, "POST", "/api/items/", item).await;
    check(&reply, 409, &["parent"]);
}

async fn a_deferred_reference_of_another_table_blames_no_field(database: Database) {
    let insert = "insert into stops values (new.name)";
    let on_sqlite = format!("create trigger stop after insert on trips begin {insert}; end");
    let on_postgres = trigger("trips", "stop", "new.name is not null", insert);
    let deferred = "references places (name) deferrable initially deferred";
    database
        .run(&format!(
            "create table places (name text primary key); create table stops (place text {deferred}); \
             create table trips ($key, body text, name text)"
        ))
        .await;
    database.run_own(&on_sqlite, &on_postgres).await;
    let app = start(&database, collection("trips", &["body", "name"])).await;
    let trip = json!({"body": "a", "name": "b"});
    let reply = app.send("POST", "/api/trips/", &trip).await;
    check(&reply, 409, &[""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_a_missing_table_or_key_is_found_at_the_start() {
    for (sql, found) in [
        (
            "create table books (id integer primary key, author integer references authors)",
            "table books, column author: found a reference to the table authors, which does not exist, \
             expected a table authors, or a column without the reference",
        ),
        (
            "create table authors (name text); \
             create table books (id integer primary key, author text references authors (name))",
            "table books, column id: found foreign key mismatch - \"books\" referencing \"authors\", \
             expected references to the primary key, or to columns with a unique index",
        ),
        (
            "create table books (id integer primary key, author text); \
             create table pages (book text references books (author))",
            "table books, column id: found foreign key mismatch - \"pages\" referencing \"books\", \
             expected references to the primary key, or to columns with a unique index",
        ),
    ] {
        let database = Database::sqlite();
        database.run(sql).await;
        let books = collection("books", &[]).capture().open_to_everyone();
        let builder = database.store(Engine::builder().collection(books), "", "");
        let Err(StartError::Store(StoreError::Schema(mismatch))) = builder.await.start().await
        else {
            panic!("{sql}: not refused");
        };
        assert_eq!(mismatch[0].to_string(), found);
    }
}

#[cfg(feature = "services")]
mod only_on_postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_value_too_long_for_its_index_fails_only_its_edit() {
        let database = Database::postgres().await;
        database
            .run("create table pages ($key, body text, note text); create index on pages (note)")
            .await;
        let app = start(&database, collection("pages", &["body", "note"])).await;
        // One that compression does not make short enough, and one that is too long for any index.
        for length in [4000, 12_000] {
            let random = std::iter::repeat_with(fastrand::alphanumeric);
            let long: String = random.take(length).collect();
            let long = json!({"body": "a", "note": long});
            let reply = beside_others(&app, "POST", "/api/pages/", long).await;
            check(&reply, 422, &["note"]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_value_that_does_not_fit_its_column_names_its_field() {
        let database = Database::postgres().await;
        database
            .run(
                "create domain grade as numeric check (value < 10); \
                 create table goods ($key, body text, name varchar, price numeric(4, 1), rank grade)",
            )
            .await;
        let app = start(&database, collection("goods", &["body", "name", "price"])).await;
        for price in ["abc", "1234567"] {
            let good = json!({"name": "x", "price": price});
            let reply = beside_others(&app, "POST", "/api/goods/", good).await;
            check(&reply, 422, &["price"]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_deferred_unique_key_is_taken() {
        let database = Database::postgres().await;
        database
            .run(
                "create table seats ($key, body text, place text, \
                 unique (place) deferrable initially deferred)",
            )
            .await;
        let app = start(&database, collection("seats", &["body", "place"])).await;
        let seat = json!({"body": "a", "place": "1"});
        assert_eq!(app.send("POST", "/api/seats/", &seat).await.0, 201);
        let reply = beside_others(&app, "POST", "/api/seats/", seat).await;
        check(&reply, 409, &["place"]);
        assert_eq!(reply.1["errors"]["place"], json!(["is already taken"]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_trigger_fails_only_its_edit() {
        let log = Log::shared();
        let database = Database::postgres().await;
        let create = "create table queues ($key, body text, name text)";
        database.run(create).await;
        let slow = trigger(
            "queues",
            "slow",
            "new.name = 'slow'",
            "perform pg_sleep(20)",
        );
        database.run(&slow).await;
        let options = "?options=-c%20statement_timeout%3D1500ms";
        let queues = collection("queues", &["body", "name"]);
        let app = start_with(&database, queues, "postgres", options).await;
        let slow = json!({"body": "a", "name": "slow"});
        let reply = beside_others(&app, "POST", "/api/queues/", slow).await;
        check(&reply, 500, &[]);
        let line = log.line_with(&["table queues", "57014"]);
        assert!(line.contains("pg_sleep"), "{line}");
    }

    /// A role of the app, which makes the side tables itself.
    async fn role(database: &Database, table: &str, rights: &str) -> String {
        let name = format!("app_{}", fastrand::u64(..));
        database
            .run(&format!(
                "create role {name} login; grant create on schema public to {name}; \
                 grant {rights} on {table} to {name}; grant usage on all sequences in schema public to {name}"
            ))
            .await;
        name
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_missing_right_is_forbidden() {
        let database = Database::postgres().await;
        database.run("create table files ($key, body text)").await;
        database.run("insert into files (body) values ('a')").await;
        let role = role(&database, "files", "select, insert").await;
        let app = start_as(&database, collection("files", &["body"]), &role).await;
        let reply = beside_others(&app, "PATCH", "/api/files/1/", json!({"body": "b"})).await;
        check(&reply, 403, &[]);
        let reply = beside_others(&app, "DELETE", "/api/files/1/", Value::Null).await;
        check(&reply, 403, &[]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_row_level_security_refuses_is_forbidden() {
        let database = Database::postgres().await;
        database
            .run(
                "create table cards ($key, body text, owner text); \
                 insert into cards (body) values ('a'); \
                 alter table cards enable row level security; \
                 create policy visible on cards for select using (true); \
                 create policy fine on cards for insert with check (owner is null); \
                 create policy own on cards for update using (owner = 'x')",
            )
            .await;
        let role = role(&database, "cards", "select, insert, update, delete").await;
        let app = start_as(&database, collection("cards", &["body", "owner"]), &role).await;
        let card = json!({"body": "b", "owner": "bob"});
        let reply = beside_others(&app, "POST", "/api/cards/", card).await;
        check(&reply, 403, &[]);
        let reply = beside_others(&app, "PATCH", "/api/cards/1/", json!({"body": "b"})).await;
        check(&reply, 403, &[]);
        for status in [403, 204] {
            let reply = beside_others(&app, "DELETE", "/api/cards/1/", Value::Null).await;
            check(&reply, status, &[]);
            let policy = "create policy any_row on cards for delete using (true)";
            if status == 403 {
                database.run(policy).await;
            }
        }
    }
}
