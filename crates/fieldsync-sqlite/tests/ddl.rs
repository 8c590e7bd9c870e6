//! What a start changes in the file, and what it needs to be allowed.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use fieldsync::backend::StoreError;
use fieldsync::{Collection, Edit, Engine, EngineError, Fields, StartError, Update};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use rusqlite::Connection;
use serde_json::{Value, json};

fn collection(name: &str, fields: &[&str]) -> Collection {
    let text = |name: &&str| ((*name).to_owned(), json!({"type": "string", "default": ""}));
    let properties: serde_json::Map<_, _> = fields.iter().map(text).collect();
    let schema = json!({"type": "object", "properties": properties});
    Collection::from_schema(name, &schema).open_to_everyone()
}

fn notes() -> Collection {
    collection("notes", &["text"])
}

async fn start(path: &Path, collection: Collection) -> Result<Engine, StartError> {
    let builder = Engine::builder().collection(collection);
    let store = SqliteStore::open(path).await.unwrap();
    builder.store(store).start().await
}

/// The message of a start that fails because of the tables.
async fn refused(path: &Path, collection: Collection) -> String {
    match start(path, collection).await {
        Err(StartError::Store(error @ StoreError::Schema(_))) => error.to_string(),
        other => panic!("the tables should not fit: {other:?}"),
    }
}

async fn texts(engine: &Engine) -> Vec<Value> {
    let notes = engine.collection::<Fields>("notes").list(None, 10).await;
    let texts = notes.unwrap().into_iter();
    texts.map(|note| note.fields["text"].clone()).collect()
}

fn sql(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_ddl_in_place_a_start_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    sql(&path, "create table items (id integer primary key)");
    let collections = || {
        let items = collection("items", &["name"]);
        [notes(), items.without_capture().add_missing_columns()]
    };
    let store = SqliteStore::open(&path).await.unwrap();
    let ddl = store.ddl(&collections()).await.unwrap();
    for part in [
        "create table if not exists fieldsync_heads",
        "insert into fieldsync_secrets (name, secret) select 'cursors', lower(hex(randomblob(32)))",
        "create table \"notes\"",
        "alter table \"items\" add column \"name\"",
    ] {
        assert!(ddl.contains(part), "{part} in {ddl}");
    }
    // The app's migration.
    sql(&path, &ddl);
    assert_eq!(store.ddl(&collections()).await.unwrap(), "");
    let watching = Connection::open(&path).unwrap();
    let version = || {
        let version = watching.query_row("pragma data_version", [], |row| row.get::<_, i64>(0));
        version.unwrap()
    };
    let before = version();
    let [notes, items] = collections();
    let builder = Engine::builder().collection(notes).collection(items);
    let engine = builder.store(store).start().await.unwrap();
    assert_eq!(version(), before);
    let create = Edit::create("notes", json!({"text": "a"}));
    engine.transaction(vec![create]).await.unwrap();
    assert_ne!(version(), before);
    assert_eq!(texts(&engine).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_an_older_version_gets_the_side_table_of_revocations() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let first = start(&path, notes()).await.unwrap();
    let create = Edit::create("notes", json!({"text": "a"}));
    first.transaction(vec![create]).await.unwrap();
    drop(first);
    let older = "drop table fieldsync_revocations; \
                 delete from fieldsync_heads where log = 'fieldsync_revocations'; \
                 delete from fieldsync_tables where log = 'fieldsync_revocations'";
    sql(&path, older);
    let store = SqliteStore::open(&path).await.unwrap();
    let ddl = store.ddl(&[notes()]).await.unwrap();
    let table = "create table \"fieldsync_revocations\"";
    assert!(
        ddl.starts_with(table) && !ddl.contains("\"notes\""),
        "{ddl}"
    );
    let engine = start(&path, notes()).await.unwrap();
    let ada = engine.on_behalf_of(fieldsync::Principal::named("ada"));
    let mut changes = ada.subscribe("notes", None).await.unwrap();
    engine.revoke("ada").await.unwrap();
    assert!(changes.next().await.is_none());
    assert_eq!(texts(&engine).await, ["a"]);
    assert_eq!(store.ddl(&[notes()]).await.unwrap(), "");
    let rows = "select count(*) from fieldsync_revocations";
    let database = Connection::open(&path).unwrap();
    let rows: i64 = database.query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_misspelt_name_is_an_error_with_the_nearest_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    sql(
        &path,
        "create table notes (id integer primary key, text text not null default '')",
    );
    let notes = || notes().without_capture();
    assert_eq!(
        refused(&path, notes().table("ntoes")).await,
        "table ntoes: found no such table, expected an existing table, since .table(…) names it; did you mean \"notes\"?"
    );
    // A field that is misspelt, and a release from before a migration that renamed its column.
    for name in ["txet", "texts"] {
        let error = refused(&path, collection("notes", &[name]).without_capture()).await;
        let expected =
            format!("table notes, column {name}: found no such column, expected a column");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with("did you mean \"text\"?"), "{error}");
    }
    let tables = "select count(*) from sqlite_schema";
    let count = Connection::open(&path).unwrap();
    let count: i64 = count.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn side_tables_of_another_version_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    start(&path, notes()).await.unwrap();
    sql(
        &path,
        "alter table fieldsync_keys rename column log to collection",
    );
    let error = refused(&path, notes()).await;
    assert!(
        error.starts_with("table fieldsync_keys, column log: found no such column"),
        "{error}"
    );
}

/// The file that this test binary reads when it runs as a user who may not write it.
const READ_ONLY: &str = "FIELDSYNC_TEST_READ_ONLY";

/// Runs one test of this binary as a user who may not write this file.
fn run_without_write_access(test: &str, folder: &Path, file: &Path) {
    // A process that another test starts meanwhile would hold the copy open for a moment, so that it could not be run.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let is_root = Command::new("id").arg("-u").output().unwrap();
    let is_root = is_root.stdout.starts_with(b"0\n");
    // Others may not have access to where it was built.
    let program = folder.join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(&program, 0o755);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path != program {
            set_mode(&path, 0o444);
        }
    }
    set_mode(folder, 0o555);
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command
        .args(["--exact", test, "--nocapture"])
        .env(READ_ONLY, file);
    let output = command.output().unwrap();
    set_mode(folder, 0o755);
    assert!(output.status.success(), "{output:?}");
}

/// The file, if this is the process that may not write it.
fn read_only_file() -> Option<PathBuf> {
    std::env::var_os(READ_ONLY).map(PathBuf::from)
}

/// Checks that a user who may not write the file can read it.
async fn check_read_only(path: &Path, expected: &[&str]) {
    let missing = start(path, collection("others", &["text"])).await;
    let Err(StartError::Store(StoreError::NotPrepared { sql, .. })) = missing else {
        panic!("the table can't be created: {missing:?}")
    };
    assert!(sql.contains("create table \"others\""), "{sql}");
    let engine = start(path, notes()).await.unwrap();
    assert_eq!(texts(&engine).await, expected);
    let mut updates = engine.subscribe("notes", None).await.unwrap();
    while !matches!(updates.next().await, Some(Update::Live { .. })) {}
    let create = engine
        .collection("notes")
        .create(json!({"text": "b"}))
        .await;
    let Err(EngineError::Store(error)) = create else {
        panic!("the file can't be written: {create:?}")
    };
    assert!(matches!(*error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(texts(&engine).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_is_served() {
    if let Some(path) = read_only_file() {
        return check_read_only(&path, &["a"]).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a 100%? #1.db");
    let engine = start(&path, notes()).await.unwrap();
    let create = Edit::create("notes", json!({"text": "a"}));
    engine.transaction(vec![create]).await.unwrap();
    assert!(
        engine
            .drain(std::time::Duration::from_secs(10))
            .await
            .is_complete()
    );
    drop(engine);
    let wal = folder.path().join("a 100%? #1.db-wal");
    // The threads of the store close the file, and the last connection that is closed by itself removes the WAL.
    let begun = std::time::Instant::now();
    while wal.exists() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        sql(&path, "select * from notes");
    }
    run_without_write_access("a_read_only_file_is_served", folder.path(), &path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_that_another_user_writes_is_served() {
    if let Some(path) = read_only_file() {
        return check_read_only(&path, &["a", "in the WAL"]).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let engine = start(&path, notes()).await.unwrap();
    for text in ["a", "in the WAL"] {
        let create = Edit::create("notes", json!({"text": text}));
        engine.transaction(vec![create]).await.unwrap();
    }
    assert!(folder.path().join("app.db-wal").exists());
    run_without_write_access(
        "a_read_only_file_that_another_user_writes_is_served",
        folder.path(),
        &path,
    );
    drop(engine);
}
