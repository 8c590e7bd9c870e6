//! Failures: locks of other processes, violated constraints, files that can't be opened.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldsync::backend::{Store, StoreError};
use fieldsync::{Collection, Edit, Engine, EngineError, Fields, Refusal, Retention};
use fieldsync_sqlite::SqliteStore;
use futures_util::future::try_join_all;
use rusqlite::Connection;
use serde_json::{Value, json};

#[expect(clippy::needless_pass_by_value, reason = "reads better in the tests")]
fn things(properties: Value) -> Collection {
    let schema = json!({"type": "object", "properties": properties});
    Collection::from_schema("things", &schema)
        .without_capture()
        .open_to_everyone()
}

fn title() -> Collection {
    things(json!({"title": {"type": "string", "default": ""}}))
}

#[tokio::test]
async fn while_another_process_writes_edits_are_refused_and_reads_continue() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let open = || {
        SqliteStore::options()
            .busy_timeout(Duration::from_millis(300))
            .open(&path)
    };
    let engine = Engine::builder()
        .collection(title())
        .store(open().await.unwrap())
        .start()
        .await
        .unwrap();
    let made = engine
        .collection("things")
        .create(json!({"title": "a"}))
        .await
        .unwrap();
    let store = open().await.unwrap();
    store.prepare(&[Arc::new(title())]).await.unwrap();

    let other = Connection::open(&path).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let begun = Instant::now();
    let things = engine.collection("things");
    let (write, trim, reads) = tokio::join!(
        things.create(json!({"title": "b"})),
        store.trim(Retention::default()),
        async {
            for _ in 0..100 {
                assert!(
                    engine
                        .collection::<Fields>("things")
                        .get(&made.id)
                        .await
                        .unwrap()
                        .is_some()
                );
                store.heads().await.unwrap();
            }
            begun.elapsed()
        }
    );
    assert!(
        reads < Duration::from_millis(300),
        "reads waited for {reads:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        matches!(write, Err(EngineError::Refused(Refusal::Busy))),
        "{write:?}"
    );
    assert!(matches!(trim, Err(StoreError::Unavailable(_))));

    other.execute_batch("rollback").unwrap();
    engine
        .collection("things")
        .create(json!({"title": "c"}))
        .await
        .unwrap();
}

/// An engine on a table made by this SQL, and the folder of its database.
async fn started(sql: &str, things: Collection) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    let builder = Engine::builder().collection(things).store(store);
    (folder, builder.start().await.unwrap())
}

/// The refusal of an edit that violates a constraint of a table made by this SQL.
async fn refused(sql: &str, edit: Edit) -> Refusal {
    let collection = things(json!({
        "email": {"type": ["string", "null"]},
        "stars": {"type": ["integer", "null"]},
        "parent": {"type": ["integer", "null"]},
    }));
    let (_folder, engine) = started(sql, collection).await;
    match engine.transaction(vec![edit]).await {
        Err(EngineError::Refused(refusal)) => refusal,
        other => panic!("the edit should be refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_violated_constraint_is_reported_for_its_field_without_its_name() {
    const COLUMNS: &str = "id integer primary key, email text, stars integer, parent integer";
    let create = |fields: Value| Edit::create("things", fields);
    let taken = "conflict in fields: email is already taken";
    let dangling = "conflict in fields: parent refers to a record that does not exist, or is still referred to by another record";
    let (email, stars) = (json!({"email": "a"}), json!({"stars": -1}));
    let row = "insert into things (id, email) values (1, 'a')";
    for (sql, edit, expected) in [
        (format!("create table things ({COLUMNS}, unique (email)); {row}"), create(email.clone()), taken),
        (
            format!("create table things ({COLUMNS}); create unique index one_email on things (lower(email)); {row}"),
            create(json!({"email": "A"})),
            taken,
        ),
        (
            format!("create table things ({COLUMNS}, check (stars >= 0))"),
            create(stars.clone()),
            "invalid fields: stars is not allowed by the database",
        ),
        (
            format!("create table things ({COLUMNS}, constraint \"few or none\" check (coalesce(stars, 0) >= 0))"),
            create(stars.clone()),
            "invalid fields: stars is not allowed by the database",
        ),
        (
            format!("create table things ({COLUMNS}, foreign key (parent) references things)"),
            create(json!({"parent": 7})),
            dangling,
        ),
        (
            format!("create table things ({COLUMNS}, foreign key (parent) references things deferrable initially deferred)"),
            create(json!({"parent": 7})),
            dangling,
        ),
        (
            format!(
                "create table things ({COLUMNS}, foreign key (parent) references things); {row};
                 insert into things (parent) values (1)"
            ),
            Edit::delete(("things", 1)),
            "conflict in fields: id is still referred to by another record",
        ),
        (
            format!(
                "create table things ({COLUMNS}); create trigger no_more before insert on things begin
                   select raise(abort, 'secret') where new.email is not null; end"
            ),
            create(email.clone()),
            "the database refused the edit: secret",
        ),
    ] {
        assert_eq!(refused(&sql, edit).await.to_string(), expected, "{sql}");
    }
}

#[tokio::test]
async fn a_reference_may_be_dangling_until_the_group_ends() {
    let sql = "create table things (id integer primary key, parent integer references things deferrable initially deferred)";
    let things = things(json!({"parent": {"type": ["integer", "null"]}}));
    let (_folder, engine) = started(sql, things).await;
    let create = |parent: Value| Edit::create("things", json!({"parent": parent}));
    engine
        .transaction(vec![create(json!(2)), create(Value::Null)])
        .await
        .unwrap();
    assert_eq!(
        engine
            .collection::<Fields>("things")
            .list(None, 10)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn an_error_on_open_names_the_file_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to be read as one").unwrap();
    for (path, advice) in [
        (
            folder.path().join("missing/app.db"),
            "its directory does not exist; create it first",
        ),
        (
            folder.path().to_owned(),
            "it is a directory; name a file in it",
        ),
        (
            text,
            "the file is not an SQLite database, or it is encrypted; name another",
        ),
        (
            ":memory:".into(),
            "each connection would have another database in memory; name a file, or use a MemoryStore",
        ),
    ] {
        let error = SqliteStore::open(&path).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("can't open the database {}: {advice}", path.display())
        );
        assert_eq!(error.path(), path);
    }
}

#[tokio::test]
async fn the_database_is_in_wal_mode_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.prepare(&[]).await.unwrap();
    let mode: String = Connection::open(&path)
        .unwrap()
        .query_row("pragma journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn of_many_concurrent_edits_only_those_that_violate_a_constraint_are_refused() {
    let sql = "create table things (id integer primary key, title text unique,
                 parent integer references things deferrable initially deferred)";
    let things = things(
        json!({"title": {"type": "string", "default": ""}, "parent": {"type": ["integer", "null"]}}),
    );
    let (_folder, engine) = started(sql, things).await;
    let edits = (0..30).map(|at| {
        let parent = if at % 10 == 3 {
            json!(1000)
        } else {
            Value::Null
        };
        let title = if at % 10 == 5 {
            "same".to_owned()
        } else {
            at.to_string()
        };
        let (engine, fields) = (engine.clone(), json!({"title": title, "parent": parent}));
        tokio::spawn(async move {
            engine
                .transaction(vec![Edit::create("things", fields)])
                .await
        })
    });
    let mut refused = Vec::new();
    for result in try_join_all(edits).await.unwrap() {
        if let Err(error) = result {
            refused.push(error.to_string());
        }
    }
    refused.sort();
    let dangling = "conflict in fields: parent refers to a record that does not exist, or is still referred to by another record";
    let taken = "conflict in fields: title is already taken";
    assert_eq!(refused, [dangling, dangling, dangling, taken, taken]);
    assert_eq!(
        engine
            .collection::<Fields>("things")
            .list(None, 100)
            .await
            .unwrap()
            .len(),
        25
    );
}

/// A trigger that computes until its edit's deadline stops only its own edit.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_computes_for_too_long_is_interrupted() {
    let sql = "create table things (id integer primary key, email text);
        create trigger slow before insert on things when new.email = 'slow' begin
          select count(*) from (with recursive n (n) as (select 1 union all select n + 1 from n) select n from n); end";
    let email = things(json!({"email": {"type": "string"}}));
    let (_folder, engine) = started(sql, email).await;
    let create = |email: &str| {
        let edit = Edit::create("things", json!({"email": email}));
        engine.transaction(vec![edit])
    };
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let others = try_join_all(names.iter().map(|name| create(name)));
    let begun = Instant::now();
    let (slow, others) = tokio::join!(create("slow"), others);
    others.unwrap();
    let Err(EngineError::Refused(refusal)) = slow else {
        panic!("{slow:?}");
    };
    assert_eq!(refusal, Refusal::Busy);
    assert!(begun.elapsed() < Duration::from_secs(12));
    create("fine").await.unwrap();
}
