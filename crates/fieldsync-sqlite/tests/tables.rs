//! Existing tables: which fit, which do not, and what the error says.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

use std::path::PathBuf;
use std::sync::Arc;

use fieldsync::backend::{SchemaMismatch, Store, StoreError};
use fieldsync::{Action, Collection, Engine, Fields, Update};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Database(TempDir);

impl Database {
    fn with(sql: &str) -> Self {
        let database = Self(tempfile::tempdir().unwrap());
        database.sql(sql);
        database
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("app.db")
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.path())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }

    /// The first column of the first row, as text.
    fn text(&self, sql: &str) -> Option<String> {
        let connection = Connection::open(self.path()).unwrap();
        connection
            .query_row(&format!("select cast(({sql}) as text)"), [], |row| {
                row.get(0)
            })
            .unwrap()
    }

    async fn prepare(&self, collection: Collection) -> Result<(), StoreError> {
        let store = SqliteStore::open(self.path()).await.unwrap();
        store.prepare(&[Arc::new(collection)]).await
    }

    async fn engine(&self, collection: Collection) -> Engine {
        Engine::builder()
            .collection(collection.open_to_everyone())
            .store(SqliteStore::open(self.path()).await.unwrap())
            .start()
            .await
            .unwrap()
    }

    async fn mismatch(&self, collection: Collection) -> SchemaMismatch {
        match self.prepare(collection).await {
            Err(StoreError::Schema(mut mismatches)) => mismatches.remove(0),
            other => panic!("the table should not fit: {other:?}"),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "reads better in the tests")]
fn things(properties: Value) -> Collection {
    let required: Vec<String> = match &properties {
        Value::Object(properties) => properties
            .iter()
            .filter(|(_, schema)| schema.get("default").is_none())
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    };
    let schema = json!({"type": "object", "properties": properties, "required": required});
    Collection::from_schema("things", &schema).without_capture()
}

#[expect(clippy::needless_pass_by_value, reason = "reads better in the tests")]
fn field(schema: Value) -> Collection {
    things(json!({"value": schema}))
}

async fn check_fits(declared: &str, schema: Value) {
    let database = Database::with(&format!(
        "create table things (id integer primary key, value {declared})"
    ));
    let done = database.prepare(field(schema.clone())).await;
    assert!(done.is_ok(), "{schema} in {declared}: {done:?}");
}

/// Checks the error for a column that does not fit.
async fn check_refused(declared: &str, schema: Value, expected: &str) {
    let database = Database::with(&format!(
        "create table things (id integer primary key, value {declared})"
    ));
    let mismatch = database.mismatch(field(schema)).await;
    let expected = format!("table things, column value: {expected}");
    assert_eq!(mismatch.to_string(), expected, "{declared}");
}

#[tokio::test]
async fn a_column_that_holds_all_values_of_its_field_fits() {
    let short = json!({"type": "string", "maxLength": 100});
    for declared in [
        "varchar(100)",
        "VARCHAR(255)",
        "character varying(100)",
        "text",
        "nvarchar(100)",
        "",
    ] {
        check_fits(declared, short.clone()).await;
    }
    let time = json!({"type": "string", "format": "date-time"});
    for declared in [
        "datetime",
        "timestamp",
        "timestamp with time zone",
        "text",
        "varchar(26)",
    ] {
        check_fits(declared, time.clone()).await;
    }
    for (declared, schema) in [
        ("varchar", json!({"type": "string"})),
        (
            "varchar(5)",
            json!({"type": "string", "enum": ["red", "green"]}),
        ),
        ("date", json!({"type": "string", "format": "date"})),
        ("char(32)", json!({"type": "string", "format": "uuid"})),
        ("uuid", json!({"type": "string", "format": "uuid"})),
        ("smallint", json!({"type": "integer", "format": "int16"})),
        (
            "integer unsigned",
            json!({"type": "integer", "format": "uint32"}),
        ),
        ("bigint", json!({"type": "integer"})),
        ("double precision", json!({"type": "number"})),
        ("tinyint(1)", json!({"type": "boolean"})),
        ("bool", json!({"type": "boolean"})),
        ("json", json!({"type": "object"})),
        ("text", json!({"type": "array"})),
        // A field that is never null may use a column that allows null.
        ("text not null", json!({"type": "string"})),
    ] {
        check_fits(declared, schema).await;
    }
}

#[tokio::test]
async fn the_error_for_a_column_that_does_not_fit_says_what_to_do() {
    for (declared, schema, expected) in [
        (
            "varchar(50)",
            json!({"type": "string", "maxLength": 100}),
            "found varchar(50), expected varchar(100) or wider, or text",
        ),
        (
            "varchar(100)",
            json!({"type": "string"}),
            "found varchar(100), expected text, or a maxLength of the field that fits the column",
        ),
        (
            "varchar(4)",
            json!({"type": "string", "enum": ["red", "green"]}),
            "found varchar(4), expected varchar(5) or wider, or text",
        ),
        (
            "smallint",
            json!({"type": "integer", "format": "int32"}),
            "found smallint, expected integer, or another that holds -2147483648 to 2147483647",
        ),
        (
            "integer unsigned",
            json!({"type": "integer", "format": "int8"}),
            "found integer unsigned, expected integer, or another that holds -128 to 127",
        ),
        (
            "integer",
            json!({"type": "string", "format": "date-time"}),
            "found integer, expected datetime, timestamp, or text of at least 26 characters",
        ),
        (
            "text",
            json!({"type": "boolean"}),
            "found text, expected boolean, or integer",
        ),
        (
            "integer",
            json!({"type": "number"}),
            "found integer, expected real, double, float, numeric, or decimal",
        ),
        (
            "real",
            json!({"type": "string", "format": "uuid"}),
            "found real, expected text, varchar(36), uuid, char(32) for UUIDs without hyphens, or blob for UUIDs of 16 bytes",
        ),
        (
            "varchar(1000)",
            json!({"type": "object"}),
            "found varchar(1000), expected text, or json",
        ),
        (
            "text not null",
            json!({"type": ["string", "null"]}),
            "found text not null, expected a column that allows null, or a field that is not an Option",
        ),
        (
            "integer generated always as (id + 1)",
            json!({"type": "integer"}),
            "found a generated column, expected an ordinary column, or .read_only_fields() for the collection with this field",
        ),
    ] {
        check_refused(declared, schema, expected).await;
    }
}

#[tokio::test]
async fn the_error_for_a_table_that_does_not_fit_says_what_to_do() {
    let title = || things(json!({"title": {"type": "string"}}));
    for (sql, collection, expected) in [
        (
            "create table things (nr integer primary key, title text)",
            title(),
            "column id: found no such column, expected integer primary key; name the column with .key(\"nr\")",
        ),
        (
            "create table things (id integer, title text)",
            title(),
            "column id: found integer that is not the whole primary key, expected a primary key, or a unique index on columns \
             that are not null",
        ),
        (
            "create table things (id integer, title text, primary key (id, title))",
            title(),
            "column id: found integer that is not the whole primary key, expected the primary key; name its columns with \
             .composite_key([\"id\", \"title\"])",
        ),
        (
            "create table things (id bigint primary key, title text)",
            title(),
            "column id: found bigint primary key, expected integer primary key, the one type for which SQLite gives ids; or \
             .no_create() for the collection",
        ),
        (
            "create table things (id integer primary key, title text)",
            title().uuid_ids(),
            "column id: found integer primary key, expected text, varchar(36), uuid, char(32) for UUIDs without hyphens, or blob for UUIDs of 16 bytes",
        ),
        (
            "create table things (id integer primary key, title text, owner text not null)",
            title(),
            "column owner: found not null without default, and no such field, expected a default in \
             the table, a field of this name, or .no_create() for the collection",
        ),
        (
            "create view things as select 1 as id, 'a' as title",
            title(),
            "found a view of this name, expected an ordinary table, or .read_only() for the collection; name another with \
             .table(\"…\")",
        ),
        (
            "create table things (id integer primary key)",
            title().add_missing_columns(),
            "column title: found no such column, expected a default for the records that exist: \
             #[serde(default)] on the field, or a field that may be null",
        ),
    ] {
        let mismatch = Database::with(sql).mismatch(collection).await;
        let (table, column) = (
            format!("table things, {expected}"),
            format!("table things: {expected}"),
        );
        assert!(
            [table, column].contains(&mismatch.to_string()),
            "{mismatch}"
        );
    }
}

#[tokio::test]
async fn a_collection_without_create_has_fewer_requirements() {
    let title = || things(json!({"title": {"type": "string"}})).no_create();
    for sql in [
        "create table things (id bigint primary key, title text)",
        "create table things (id integer primary key, title text) without rowid",
        "create table things (id integer primary key, title text, owner text not null)",
    ] {
        Database::with(sql).prepare(title()).await.unwrap();
    }
}

#[tokio::test]
async fn an_existing_table_needs_a_choice_about_capture_and_one_of_ours_does_not() {
    let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}});
    let collection = || Collection::from_schema("things", &schema);
    let database = Database::with("create table things (id integer primary key, title text)");
    let error = database.mismatch(collection()).await.to_string();
    for part in [
        "table things: found an existing table, and no choice about capture",
        ".capture() announces",
        ".without_capture() announces",
        "CREATE TRIGGER \"fieldsync_things_ai\" AFTER INSERT",
    ] {
        let (error, part) = (error.to_lowercase(), part.to_lowercase());
        assert!(error.contains(&part), "{part} in {error}");
    }
    for chosen in [collection().capture(), collection().without_capture()] {
        database.prepare(chosen).await.unwrap();
        // The choice is the app's, each time that it starts.
        database.mismatch(collection()).await;
    }
    let ours = Database::with("");
    ours.prepare(collection()).await.unwrap();
    ours.prepare(collection()).await.unwrap();
    let is_ours = "select log || is_ours from fieldsync_tables";
    assert_eq!(ours.text(is_ours).unwrap(), "things1");
    assert_eq!(database.text(is_ours).unwrap(), "things0");
}

#[tokio::test]
async fn a_new_field_of_a_table_is_an_error_unless_columns_are_added() {
    let title = json!({"type": "string", "default": ""});
    let small = || things(json!({"title": title}));
    let grown = || things(json!({"title": title, "mood": title, "place": title}));
    let existing = Database::with("create table things (id integer primary key, title text)");
    let ours = Database::with("");
    for database in [existing, ours] {
        database.prepare(small()).await.unwrap();
        let error = database.prepare(grown()).await.unwrap_err();
        // All at once.
        let expected = "a column for the field; .add_missing_columns() on the collection adds it";
        assert_eq!(
            error.to_string(),
            format!(
                "table things, column mood: found no such column, expected {expected}\n\
                 table things, column place: found no such column, expected {expected}"
            )
        );
        database
            .prepare(grown().add_missing_columns())
            .await
            .unwrap();
        database.prepare(grown()).await.unwrap();
    }
}

#[tokio::test]
async fn a_start_that_fails_changes_nothing() {
    let database = Database::with("create table things (id integer primary key, b integer)");
    let collection =
        things(json!({"a": {"type": "string", "default": ""}, "b": {"type": "string"}}));
    database.mismatch(collection.add_missing_columns()).await;
    let tables = "select group_concat(sql) from sqlite_schema";
    assert_eq!(
        database.text(tables).unwrap(),
        "CREATE TABLE things (id integer primary key, b integer)"
    );
}

#[tokio::test]
async fn a_table_of_another_framework_is_read_and_written_in_its_own_format() {
    let database = Database::with(
        "create table users (id integer primary key autoincrement, first_name varchar(100) not null,
           last_name varchar(100) not null, created_at datetime not null, updated_at datetime not null);
         insert into users values (1, 'Ada', 'King', '2026-01-13 10:00:00.123456', '2026-01-13 10:00:00');
         insert into users values (2, 'Eve', 'Moe', 'yesterday', '2026-01-13 10:00:00');",
    );
    let name = json!({"type": "string", "maxLength": 100, "default": ""});
    let schema = json!({"type": "object", "properties": {"first_name": name, "last_name": name}});
    let users = Collection::from_schema("users", &schema)
        .timestamps()
        .without_capture();
    let engine = database.engine(users).await;
    let ada = engine
        .collection::<Fields>("users")
        .get(1)
        .await
        .unwrap()
        .unwrap();
    let time = |text: &str| text.parse().ok();
    assert_eq!(ada.created_at, time("2026-01-13T10:00:00.123456Z"));
    assert_eq!(ada.updated_at, time("2026-01-13T10:00:00.000000Z"));
    // A value that is not a time is returned unchanged, and other records are not affected.
    let all = engine
        .collection::<Fields>("users")
        .list(None, 10)
        .await
        .unwrap();
    assert_eq!(all[1].created_at, None, "the column holds no time");

    engine
        .collection::<Fields>("users")
        .update(1, |user: &mut Fields| {
            user.insert("last_name".into(), "Lovelace".into());
        })
        .await
        .unwrap();
    let row = "select first_name || ' ' || last_name || ' ' || created_at from users where id = 1";
    assert_eq!(
        database.text(row).unwrap(),
        "Ada Lovelace 2026-01-13 10:00:00.123456"
    );
    let updated = database
        .text("select updated_at from users where id = 1")
        .unwrap();
    let digits: String = updated
        .chars()
        .map(|letter| if letter.is_ascii_digit() { '0' } else { letter })
        .collect();
    assert_eq!(digits, "0000-00-00 00:00:00.000000");
    let made = engine
        .collection("users")
        .create(json!({"first_name": "Grace"}))
        .await
        .unwrap();
    assert_eq!(made.id.to_string(), "3");
}

#[tokio::test]
async fn uuids_without_hyphens_are_stored_without_hyphens() {
    let database = Database::with(
        "create table things (id char(32) not null primary key, owner char(32) not null);
         insert into things values ('01890a5dac96774bbcceb302099a8057', '01890a5dac96774bbcceb302099a8058');",
    );
    let owner = json!({"owner": {"type": "string", "format": "uuid"}});
    let engine = database.engine(things(owner).uuid_ids()).await;
    let all = engine
        .collection::<Fields>("things")
        .list(None, 10)
        .await
        .unwrap();
    let (id, owner) = (
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a8058",
    );
    assert_eq!(
        (all[0].id.to_string(), &all[0].fields["owner"]),
        (id.into(), &json!(owner))
    );
    let made = engine
        .collection("things")
        .create(json!({"owner": id}))
        .await
        .unwrap();
    let made_id = made.id.to_string().replace('-', "");
    let row = format!("select owner from things where id = '{made_id}'");
    assert_eq!(database.text(&row).unwrap(), id.replace('-', ""));
}

#[tokio::test]
async fn a_new_field_becomes_a_column_with_a_default() {
    let database = Database::with(
        "create table things (id integer primary key, title text);
         insert into things values (1, 'a');",
    );
    let grown = things(json!({
        "title": {"type": "string"},
        "it's": {"type": "string", "default": "it's"},
        "tags": {"type": "array", "default": ["x"]},
        "open": {"type": "boolean", "default": true},
    }))
    .add_missing_columns()
    .timestamps();
    let engine = database.engine(grown).await;
    let old = engine
        .collection::<Fields>("things")
        .get(1)
        .await
        .unwrap()
        .unwrap();
    let expected = json!({"title": "a", "it's": "it's", "tags": ["x"], "open": true});
    assert_eq!(Value::Object(old.fields), expected);
    assert_eq!(
        old.created_at, None,
        "the time of an existing row is not known"
    );
    // An older version of the app may insert rows without the new columns.
    database.sql("insert into things (title) values ('b')");
    let new = engine
        .collection::<Fields>("things")
        .get(2)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(new.fields["tags"], json!(["x"]));
}

#[tokio::test]
async fn the_reply_contains_what_a_trigger_changed() {
    let database = Database::with(
        "create table things (id integer primary key, title text not null);
         create trigger shout after insert on things begin
           update things set title = upper(new.title) where id = new.id;
         end;",
    );
    let engine = database
        .engine(things(json!({"title": {"type": "string"}})))
        .await;
    let made = engine
        .collection("things")
        .create(json!({"title": "a"}))
        .await
        .unwrap();
    let read = engine
        .collection::<Fields>("things")
        .get(&made.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.fields["title"], "A");
    assert_eq!(made.fields["title"], "A");
}

#[tokio::test]
async fn ids_of_deleted_rows_are_not_given_again() {
    let database =
        Database::with("create table things (id integer primary key, title text not null)");
    let engine = database
        .engine(things(json!({"title": {"type": "string"}})))
        .await;
    for expected in ["1", "2", "3"] {
        let made = engine
            .collection("things")
            .create(json!({"title": "a"}))
            .await
            .unwrap();
        assert_eq!(made.id.to_string(), expected);
        engine
            .collection::<Fields>("things")
            .delete(&made.id)
            .await
            .unwrap();
    }
}

/// `fieldsync_captured` has two columns for each field.
#[tokio::test]
async fn a_table_with_more_fields_than_capture_can_note_is_refused() {
    let database = Database::with("");
    let field = |number| {
        let schema = json!({"type": "string", "default": ""});
        (format!("field_{number}"), schema)
    };
    let properties: serde_json::Map<_, _> = (0..1200).map(field).collect();
    let wide = things(Value::Object(properties));
    let mismatch = database.mismatch(wide.clone().capture()).await;
    assert_eq!(
        mismatch.to_string(),
        "table things: found 1200 fields, expected at most 998 fields with capture, or `.without_capture()`"
    );
    database.prepare(wide).await.unwrap();
}

#[tokio::test]
async fn new_fields_of_a_strict_table_get_types_that_it_allows() {
    let database = Database::with(
        "create table things (id integer primary key autoincrement not null) strict; insert into things default values",
    );
    let schema = json!({"type": "object", "properties": {
        "title": {"type": "string", "maxLength": 50, "default": "a"},
        "at": {"type": ["string", "null"], "format": "date-time"},
        "day": {"type": "string", "format": "date", "default": "2026-01-13"},
        "owner": {"type": ["string", "null"], "format": "uuid"},
        "done": {"type": "boolean", "default": true},
        "count": {"type": "integer", "default": 7},
        "size": {"type": "number", "default": 1.5},
        "tags": {"type": "array", "default": []},
    }});
    let collection = || {
        let things = Collection::from_schema("things", &schema).timestamps();
        things.add_missing_columns().without_capture()
    };
    let values = json!({
        "title": "b", "at": "2026-01-13T10:00:00.123456Z", "day": "2026-02-01", "owner": "01890a5d-ac96-774b-bcce-b302099a8057",
        "done": false, "count": 8, "size": 2.0, "tags": [1],
    });
    for id in [2, 3] {
        let engine = database.engine(collection()).await;
        let things = engine.collection::<Fields>("things");
        let old = things.get(1).await.unwrap().unwrap();
        assert_eq!(old.fields["done"], json!(true));
        let made = things.create(serde_json::from_value(values.clone()).unwrap());
        assert_eq!(made.await.unwrap().id.as_integer(), Some(id));
        // The second start reads the columns as an existing table's.
        let read = things.get(2).await.unwrap().unwrap();
        assert_eq!(json!(read.fields), values);
        assert!(read.created_at.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_text_is_not_utf_8_or_whose_id_nobody_can_name_is_left_out() {
    let database = Database::with(
        "create table things (id text primary key not null, title text not null); \
         insert into things values ('a', 'one'), ('b', cast(x'ff41' as text)), (cast(x'ff' as text), 'c'), ('', 'd'), \
           (printf('%.1025c', 'x'), 'e'), ('z', 'last')",
    );
    let schema = json!({"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}});
    let collection = Collection::from_schema("things", &schema)
        .text_ids()
        .capture();
    let engine = database.engine(collection).await;
    let things = engine.collection::<Fields>("things");
    let listed = things.list(None, 10).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|one| one.id.to_string()).collect();
    assert_eq!(ids, ["a", "z"]);
    assert!(things.get("b").await.unwrap().is_none());
    let mut updates = engine.subscribe("things", None).await.unwrap();
    while !matches!(updates.next().await, Some(Update::Live { .. })) {}
    let mut change = async |sql: &str| {
        database.sql(sql);
        engine.wake();
        loop {
            match updates.next().await.unwrap() {
                Update::Change { change, .. } => return change,
                Update::Changes { mut changes, .. } => return changes.remove(0),
                _ => {}
            }
        }
    };
    let gone = change("update things set title = cast(x'ff' as text) where id = 'a'").await;
    assert_eq!((gone.action, gone.id), (Action::Delete, "a".into()));
    let whole = change("update things set title = 'repaired' where id = 'b'").await;
    assert_eq!((whole.action, whole.id), (Action::Create, "b".into()));
    assert_eq!(json!(whole.fields), json!({"title": "repaired"}));
    let other = things.update("z", |fields: &mut Fields| {
        fields.insert("title".into(), "new".into());
    });
    other.await.unwrap();
}
