//! No value changes by being read and written, whatever its type.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

use fieldsync::backend::Store as _;
use fieldsync::{Collection, Engine, Fields};
use fieldsync_sqlite::SqliteStore;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Types, and literals of their values.
const VALUES: &[(&str, &[&str])] = &[
    (
        "integer",
        &[
            "0",
            "-9223372036854775808",
            "9223372036854775807",
            "9007199254740993",
        ],
    ),
    ("bigint", &["115000000000000001"]),
    ("tinyint(1)", &["1"]),
    ("boolean", &["0", "1"]),
    (
        "real",
        &[
            "0.1",
            "0.30000000000000004",
            "1.7976931348623157e308",
            "-5e-324",
        ],
    ),
    ("double precision", &["2.0"]),
    ("decimal(10,2)", &["10.5", "7", "-0.01"]),
    ("numeric", &["9007199254740993", "1.5"]),
    ("text", &["''", "'a\"b\\c'", "'null'", "'日本 🎉'"]),
    ("varchar(20)", &["'abc'"]),
    ("char(36)", &["'67E55044-10B1-426F-9247-BB680E5FE0C8'"]),
    ("clob", &["'long'"]),
    ("date", &["'2026-01-13'", "'9999-12-31'"]),
    (
        "datetime",
        &[
            "'2026-01-13 10:00:00.123456'",
            "'2026-01-14 10:00:00.000001'",
        ],
    ),
    (
        "timestamp",
        &["'2026-01-13T10:00:00.123Z'", "'9999-12-31T23:59:59.000Z'"],
    ),
    (
        "timestamp with time zone",
        &["'2026-01-13 10:00:00.000 +00:00'"],
    ),
    ("datetime2", &["1768298400123", "1768298400999"]),
    ("timestamp", &["1768298400"]),
    ("time", &["'10:00:00'", "'123'"]),
    ("json", &["'{\"a\":[1,null,\"x\"]}'", "'[]'", "'1.5'"]),
    ("jsonb", &["'{\"a\":1}'"]),
    ("blob", &["x'00ff61'", "x''"]),
    ("varbinary(16)", &["x'67e5504410b1426f9247bb680e5fe0c8'"]),
    ("uuid", &["'67e55044-10b1-426f-9247-bb680e5fe0c8'"]),
    ("point", &["'1,2'"]),
    ("", &["1", "1.5", "'text'", "x'00ff'"]),
];

#[tokio::test]
async fn no_value_changes_by_being_read_and_written() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.db");
    let sql = Connection::open(&path).unwrap();
    for (number, (kind, values)) in VALUES.iter().enumerate() {
        let rows: Vec<_> = values
            .iter()
            .map(|value| format!("({value}, {value})"))
            .collect();
        sql.execute_batch(&format!(
            "create table v{number} (id integer primary key, value {kind}, needed {kind} not null); \
             insert into v{number} (value, needed) values {}; \
             insert into v{number} (value, needed) select null, needed from v{number} where id = 1",
            rows.join(", ")
        ))
        .unwrap();
    }
    let store = SqliteStore::open(&path).await.unwrap();
    let mut builder = Engine::builder();
    for table in store.tables().await.unwrap() {
        let (collection, left_out) = Collection::from_description(&table).unwrap();
        assert_eq!(left_out, []);
        builder = builder.collection(collection.without_capture().open_to_everyone());
    }
    let engine = builder.store(store).start().await.unwrap();
    for (number, (kind, values)) in VALUES.iter().enumerate() {
        let handle = engine.collection::<Fields>(format!("v{number}"));
        let records = handle.list(None, 100).await.unwrap();
        assert_eq!(records.len(), values.len() + 1, "{kind}");
        for record in records {
            let shown = format!("{kind}: {:?}", record.fields);
            let created = handle.create(record.fields.clone()).await;
            let created = created.unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            assert_eq!(created.fields, record.fields, "{kind}");
            let same = format!(
                "select typeof(a.value) = typeof(b.value) and a.value is b.value and a.needed is b.needed, \
                   quote(a.value), quote(b.value) \
                 from v{number} a join v{number} b on a.id = {} and b.id = {}",
                record.id, created.id
            );
            let (is_same, before, after): (bool, String, String) = sql
                .query_row(&same, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .unwrap();
            assert!(is_same, "{kind}: {before} became {after}");
        }
    }
}

async fn served(sql: &str, table: &str) -> (TempDir, Engine) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    let collection = Collection::from_table(&store, table).await.unwrap();
    let builder = Engine::builder().collection(collection.capture().open_to_everyone());
    (folder, builder.store(store).start().await.unwrap())
}

async fn ids(engine: &Engine, table: &str) -> Vec<Value> {
    let listed = engine
        .collection::<Fields>(table)
        .list(None, 100)
        .await
        .unwrap();
    listed.iter().map(|one| json!(one.id)).collect()
}

#[tokio::test]
async fn times_of_other_frameworks_are_rfc_3339() {
    for (value, expected) in [
        ("1768298400123", "2026-01-13T10:00:00.123000Z"),
        (
            "'2026-01-13 10:00:00.000 +00:00'",
            "2026-01-13T10:00:00.000000Z",
        ),
        ("'2026-01-13T10:00:00.000Z'", "2026-01-13T10:00:00.000000Z"),
        ("'9999-12-31T23:59:59Z'", "9999-12-31T23:59:59.000000Z"),
    ] {
        let sql = format!(
            "create table t (id integer primary key, at datetime); insert into t values (1, {value})"
        );
        let (_folder, engine) = served(&sql, "t").await;
        let record = engine
            .collection::<Fields>("t")
            .get(1)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(record.fields["at"], expected, "{value}");
    }
}

#[tokio::test]
async fn keys_of_every_kind_are_served() {
    let texts = "create table t (k text primary key, v integer);
        insert into t values ('7', 1), ('007', 2), ('a,b%2C/c', 3), ('', 4)";
    let (_folder, engine) = served(texts, "t").await;
    // An empty text can't be in a path, so that nobody could ask for its record.
    assert_eq!(ids(&engine, "t").await, ["007", "7", "a,b%2C/c"]);
    let t = engine.collection::<Fields>("t");
    let patched = t.patch("a,b%2C/c", json!({"v": 30})).await.unwrap();
    assert_eq!(patched.fields["v"], 30);
    let created = t
        .create(json!({"id": "new", "v": 5}).as_object().unwrap().clone())
        .await
        .unwrap();
    assert_eq!(json!(created.id), "new");
    assert!(
        t.create(json!({"v": 5}).as_object().unwrap().clone())
            .await
            .is_err()
    );

    let members = "create table t (user_id integer, name text, role text default 'member', primary key (user_id, name));
        insert into t values (7, 'a,b', 'owner'), (7, '%', 'x'), (10, 'a', 'y')";
    let (_folder, engine) = served(members, "t").await;
    assert_eq!(ids(&engine, "t").await, ["7,%25", "7,a%2Cb", "10,a"]);
    let t = engine.collection::<Fields>("t");
    let owner = t.get("7,a%2Cb").await.unwrap().unwrap();
    assert_eq!(
        Value::Object(owner.fields),
        json!({"user_id": 7, "name": "a,b", "role": "owner"})
    );
    let created = t
        .create(
            json!({"user_id": 8, "name": "n"})
                .as_object()
                .unwrap()
                .clone(),
        )
        .await
        .unwrap();
    assert_eq!(
        (json!(created.id), &created.fields["role"]),
        (json!("8,n"), &json!("member"))
    );
    assert!(t.patch("8,n", json!({"user_id": 9})).await.is_err());
    t.delete("8,n").await.unwrap();
    assert_eq!(t.get("8,n").await.unwrap(), None);

    let blobs = "create table t (k blob primary key not null, v integer);
        insert into t values (x'67e5504410b1426f9247bb680e5fe0c8', 1)";
    let (_folder, engine) = served(blobs, "t").await;
    assert_eq!(
        ids(&engine, "t").await,
        ["67e55044-10b1-426f-9247-bb680e5fe0c8"]
    );

    let big = "create table t (id integer primary key, v integer); insert into t values (115000000000000001, 1)";
    let (_folder, engine) = served(big, "t").await;
    assert_eq!(ids(&engine, "t").await, ["115000000000000001"]);

    let other_id = "create table t (k integer primary key, id text); insert into t values (1, 'x')";
    let (_folder, engine) = served(other_id, "t").await;
    let t = engine.collection::<Fields>("t");
    assert_eq!(
        t.patch(1, json!({"id_": "y"})).await.unwrap().fields["id_"],
        "y"
    );
}

#[tokio::test]
async fn uuids_are_found_however_they_are_stored() {
    for stored in [
        "'67E55044-10B1-426F-9247-BB680E5FE0C8'",
        "'67e5504410b1426f9247bb680e5fe0c8'",
        "x'67e5504410b1426f9247bb680e5fe0c8'",
    ] {
        let declared = if stored.starts_with('x') {
            "blob"
        } else {
            "text"
        };
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("app.db");
        let sql = Connection::open(&path).unwrap();
        sql.execute_batch(&format!(
            "create table t (id {declared} primary key not null, v integer); insert into t values ({stored}, 1)"
        ))
        .unwrap();
        let schema = json!({"type": "object", "properties": {"v": {"type": "integer"}}});
        let collection = Collection::from_schema("t", &schema).uuid_ids().capture();
        let builder = Engine::builder().collection(collection.open_to_everyone());
        let store = SqliteStore::open(&path).await.unwrap();
        let engine = builder.store(store).start().await.unwrap();
        let t = engine.collection::<Fields>("t");
        let id = t.list(None, 10).await.unwrap().remove(0).id;
        assert_eq!(
            id.to_string(),
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "{stored}"
        );
        assert_eq!(
            t.patch(&id, json!({"v": 2})).await.unwrap().fields["v"],
            2,
            "{stored}"
        );
        assert_eq!(t.list(Some(id.clone()), 10).await.unwrap(), [], "{stored}");
        t.delete(&id).await.unwrap();
        let count: i64 = sql
            .query_row("select count(*) from t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 0, "{stored}");
    }
}

/// Some frameworks declare `uuid`, and store blobs.
#[tokio::test(flavor = "multi_thread")]
async fn uuids_are_found_in_the_form_that_their_column_has() {
    let first = "01890a5d-ac96-774b-bcce-b302099a8057";
    let simple = first.replace('-', "");
    for stored in [
        format!("x'{simple}'"),
        format!("'{simple}'"),
        format!("'{first}'"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let connection = Connection::open(&path).unwrap();
        let sql = format!(
            "create table things (id uuid primary key not null, other guid); insert into things values ({stored}, {stored})"
        );
        connection.execute_batch(&sql).unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        let things = Collection::from_table(&store, "things").await.unwrap();
        let things = things.without_capture().open_to_everyone();
        let engine = Engine::builder().collection(things).store(store).start();
        let engine = engine.await.unwrap();
        let handle = engine.collection::<Fields>("things");
        let listed = handle.list(None, 10).await.unwrap();
        assert_eq!(listed[0].id.to_string(), first, "{stored}");
        assert_eq!(listed[0].fields["other"], first, "{stored}");
        let made = handle.create(listed[0].fields.clone()).await.unwrap();
        assert_eq!(made.fields, listed[0].fields);
        handle
            .patch(listed[0].id.clone(), serde_json::json!({"other": null}))
            .await
            .unwrap();
        let count = format!(
            "select count(*) from things where other = {stored} and typeof(id) = typeof({stored})"
        );
        let count: i64 = connection.query_row(&count, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "{stored}");
    }
}
