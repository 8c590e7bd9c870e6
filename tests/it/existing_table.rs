//! A SQLite file of another framework, which goes on reading it.

use fieldsync::backend::StoreError;
use fieldsync::{Collection, Engine, Fields, StartError, Update};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::{App, Server, User, builder};

const ROWS: i64 = 1000;

/// The table as that framework creates it, with a column that the collection does not have.
const TABLE: &str = "
    create table users (
        id integer primary key autoincrement,
        first_name varchar(100) not null,
        last_name varchar(100) not null,
        created_at datetime not null,
        updated_at datetime not null,
        nickname varchar(20) default 'none'
    )";

fn make(path: &std::path::Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(TABLE).unwrap();
    let insert =
        "insert into users (first_name, last_name, created_at, updated_at) values (?, ?, ?, ?)";
    let time = "2026-01-13 10:00:00.123456";
    for number in 1..=ROWS {
        connection
            .execute(
                insert,
                (
                    format!("First {number}"),
                    format!("Last {number}"),
                    time,
                    time,
                ),
            )
            .unwrap();
    }
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_framework_is_served_and_remains_readable_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("existing.db");
    let sql = make(&path);
    let app = App::with(
        Server::Axum,
        builder().store(SqliteStore::open(&path).await.unwrap()),
        folder,
    )
    .await;

    let users = app.get("/api/users/").await;
    assert_eq!(users.as_array().unwrap().len(), 1000);
    let last = json!({
        "id": ROWS, "first_name": "First 1000", "last_name": "Last 1000",
        "created_at": "2026-01-13T10:00:00.123456Z", "updated_at": "2026-01-13T10:00:00.123456Z",
    });
    assert_eq!(users[999], last);

    let (status, changed) = app
        .send("PATCH", "/api/users/7/", &json!({"first_name": "Ada"}))
        .await;
    assert_eq!(status, 200);
    let created = app.create_user("New", "User").await;
    assert_eq!(created, ROWS + 1);
    app.request("DELETE", "/api/users/8/").send().await.unwrap();

    // That framework reads it with SQL, and finds times in its own format.
    let row = |id: i64| {
        let select = "select first_name, last_name, created_at, updated_at, nickname from users where id = ?";
        let read = |row: &rusqlite::Row<'_>| {
            Ok([
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get::<_, String>(4)?,
            ])
        };
        sql.query_row(select, [id], read)
    };
    let [first_name, last_name, created_at, updated_at, nickname] = row(7).unwrap();
    assert_eq!(
        [&*first_name, &*last_name, &*created_at, &*nickname],
        ["Ada", "Last 7", "2026-01-13 10:00:00.123456", "none"]
    );
    assert_eq!(
        updated_at.replace(' ', "T") + "Z",
        changed["updated_at"].as_str().unwrap()
    );
    assert_eq!(row(created).unwrap()[0], "New");
    assert!(row(8).is_err());
    assert_eq!(row(9).unwrap()[3], "2026-01-13 10:00:00.123456");
    let columns: i64 = sql
        .query_row(
            "select count(*) from pragma_table_info('users')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(columns, 6);

    // A GET shows the app's own SQL at once, the stream after a refresh.
    let mut updates = app.engine.subscribe(("users", 9), None).await.unwrap();
    while !matches!(updates.next().await, Some(Update::Live { .. })) {}
    sql.execute("update users set last_name = 'By SQL' where id = 9", [])
        .unwrap();
    assert_eq!(app.get("/api/users/9/").await["last_name"], "By SQL");
    app.engine.refresh(("users", 9)).await.unwrap();
    let Some(Update::Change { change, .. }) = updates.next().await else {
        panic!("a change")
    };
    assert_eq!(change.fields["last_name"], "By SQL");
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Member {
    #[serde(rename = "first_name")]
    given_name: String,
    #[schemars(length(max = 100))]
    last_name: String,
    points: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_maps_names_and_adds_columns_for_new_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fitted.db");
    let sql = Connection::open(&path).unwrap();
    let table = "create table auth_user (user_id integer primary key autoincrement, first_name text not null default '',
        last_name varchar(150) not null default '');
        insert into auth_user (first_name, last_name) values ('Ada', 'Lovelace')";
    sql.execute_batch(table).unwrap();
    let members = Collection::of::<Member>("members")
        .table("auth_user")
        .key("user_id")
        .without_capture()
        .add_missing_columns()
        .open_to_everyone();
    let start = async || {
        Engine::builder()
            .collection(members.clone())
            .store(SqliteStore::open(&path).await.unwrap())
            .start()
            .await
            .unwrap()
    };
    let engine = start().await;
    let member = engine
        .collection::<Member>("members")
        .update(1, |member: &mut Member| member.points += 5)
        .await
        .unwrap();
    assert_eq!(
        (&*member.fields.given_name, member.fields.points),
        ("Ada", 5)
    );
    let row =
        "select first_name || ' ' || last_name || ' ' || points from auth_user where user_id = 1";
    assert_eq!(
        sql.query_row(row, [], |row| row.get::<_, String>(0))
            .unwrap(),
        "Ada Lovelace 5"
    );
    // The database has a default for the new column, so others insert without it.
    sql.execute("insert into auth_user (first_name) values ('Grace')", [])
        .unwrap();
    assert_eq!(
        engine
            .collection::<Fields>("members")
            .get(2)
            .await
            .unwrap()
            .unwrap()
            .fields["points"],
        0
    );
    // Another start changes nothing.
    assert_eq!(
        start()
            .await
            .collection::<Member>("members")
            .get(1)
            .await
            .unwrap()
            .unwrap()
            .fields
            .points,
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_match_its_schema_stops_the_start_with_the_reason() {
    for (table, column, found, expected) in [
        (
            "id integer primary key, first_name varchar(50) not null, last_name varchar(100)",
            "first_name",
            "varchar(50)",
            "varchar(100)",
        ),
        (
            "id integer primary key, first_name integer, last_name varchar(100)",
            "first_name",
            "integer",
            "varchar(100)",
        ),
        (
            "id text primary key, first_name text, last_name text",
            "id",
            "text primary key",
            "integer primary key",
        ),
        (
            "id integer, first_name text, last_name text",
            "id",
            "integer that is not the whole primary key",
            "a primary key",
        ),
        (
            "first_name text, last_name text",
            "id",
            "no such column",
            "integer primary key",
        ),
        (
            "id integer primary key, first_name text, last_name text, pin integer not null",
            "pin",
            "not null without default",
            "no_create",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unfit.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(&format!("create table users ({table})"))
            .unwrap();
        let users = Collection::of::<User>("users")
            .without_capture()
            .open_to_everyone();
        let store = SqliteStore::open(&path).await.unwrap();
        let error = Engine::builder()
            .collection(users)
            .store(store)
            .start()
            .await
            .unwrap_err();
        let StartError::Store(StoreError::Schema(mismatches)) = &error else {
            panic!("{table}: {error}")
        };
        let mismatch = &mismatches[0];
        assert_eq!(
            (&*mismatch.table, mismatch.column.as_deref()),
            ("users", Some(column))
        );
        assert!(
            mismatch.found.contains(found) && mismatch.expected.contains(expected),
            "{mismatch}"
        );
        // The start changed nothing.
        let sql = Connection::open(&path).unwrap();
        let tables: i64 = sql
            .query_row(
                "select count(*) from sqlite_schema where type = 'table'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(tables, 1, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_misconfigured_stops_the_start_with_the_reason() {
    let refuse = async |collection: Collection| {
        let store = fieldsync::MemoryStore::new();
        Engine::builder()
            .collection(collection)
            .store(store)
            .start()
            .await
            .unwrap_err()
            .to_string()
    };
    let error = refuse(Collection::of::<User>("users")).await;
    assert!(
        error.contains("users") && error.contains("open_to_everyone"),
        "{error}"
    );
    let schema =
        json!({"type": "object", "properties": {"name": {"type": "string", "pattern": "("}}});
    let error = refuse(Collection::from_schema("users", &schema).open_to_everyone()).await;
    assert!(
        error.contains("users") && error.contains("name") && error.contains("pattern"),
        "{error}"
    );
    let error = refuse(Collection::of::<User>("us/ers").open_to_everyone()).await;
    assert!(error.contains("us/ers"), "{error}");
    let error = refuse(
        Collection::of::<User>("users")
            .table("fieldsync_heads")
            .open_to_everyone(),
    )
    .await;
    assert!(error.contains("fieldsync_"), "{error}");
    assert!(
        Engine::builder()
            .start()
            .await
            .unwrap_err()
            .to_string()
            .contains(".store(")
    );
}
