//! SQLite: what can't be known of a table is a reset, and the capture goes on.

use std::time::Duration;

use fieldsync::{Action, Collection, Engine, Fields, ResetReason};
use serde_json::json;

use crate::capture::window::Window;
use crate::capture::{Database, SqliteFile, collection};

fn notes() -> Collection {
    collection("notes", &[("text", "string")])
}

const TABLE: &str = "create table notes (id integer primary key, text text not null, owner text)";

async fn notes_table() -> SqliteFile {
    let database = SqliteFile::fresh().await;
    database.sql(TABLE).await;
    database
        .sql("insert into notes (id, text) values (1, 'a'), (2, 'b')")
        .await;
    database
}

/// As Django, Alembic and Prisma change a table.
const REBUILD: &str = "begin; create table new__notes (id integer primary key, text text not null, owner text, extra text);
    insert into new__notes (id, text) select id, text || '!' from notes;
    drop table notes; alter table new__notes rename to notes; commit";

/// The subscriber is reset while the engine runs, and then receives what others write.
async fn check_reset(database: &SqliteFile, engine: &Engine, window: &mut Window) {
    window.live().await;
    assert_eq!(window.resets, [ResetReason::Capture]);
    window.converge().await;
    check_capture(database, engine, window).await;
}

async fn check_capture(database: &SqliteFile, engine: &Engine, window: &mut Window) {
    database
        .sql("insert into notes (id, text) values (77, 'captured')")
        .await;
    let captured = json!({"text": "captured"});
    window.expect(Action::Create, 77, captured).await;
    let handle = engine.collection::<Fields>("notes");
    handle.patch(77, json!({"text": "patched"})).await.unwrap();
    let patched = json!({"text": "patched"});
    window.expect(Action::Update, 77, patched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rebuilt_is_reset() {
    let database = notes_table().await;
    let engine = database.start([notes()]).await;
    let mut window = Window::open(&engine, "notes").await;
    database.sql(REBUILD).await;
    check_reset(&database, &engine, &mut window).await;
    assert_eq!(window.records[&1.into()]["text"], "a!");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rebuilt_while_no_engine_runs_is_reset() {
    let database = notes_table().await;
    let engine = database.start([notes()]).await;
    let mut window = Window::open(&engine, "notes").await;
    window.stop(engine).await;
    database.sql(REBUILD).await;
    let engine = database.start([notes()]).await;
    window.resume(&engine).await;
    assert_eq!(window.resets, [ResetReason::Capture]);
    window.converge().await;
    check_capture(&database, &engine, &mut window).await;
    let cursor = window.cursor;
    window.stop(engine).await;
    // Once is enough.
    let engine = database.start([notes()]).await;
    window.cursor = cursor;
    window.resume(&engine).await;
    assert_eq!(window.resets.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_triggers_were_dropped_or_changed_is_reset() {
    for sql in [
        "drop trigger fieldsync_notes_au",
        "drop trigger fieldsync_notes_ai; create trigger fieldsync_notes_ai after insert on notes begin select 1; end",
    ] {
        let database = notes_table().await;
        let engine = database.start([notes()]).await;
        let mut window = Window::open(&engine, "notes").await;
        database.sql(sql).await;
        check_reset(&database, &engine, &mut window).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_or_index_is_no_reset() {
    let database = notes_table().await;
    let engine = database.start([notes()]).await;
    let mut window = Window::open(&engine, "notes").await;
    let alter = "alter table notes add column more text; create unique index i on notes (text)";
    database.sql(alter).await;
    check_capture(&database, &engine, &mut window).await;
    let triggers = "select count(*) from sqlite_schema where type = 'trigger' and sql like '%x.\"text\" = new.\"text\"%'";
    let count = || {
        database
            .connect()
            .query_row(triggers, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    while count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    database
        .sql("replace into notes (id, text) values (5, 'a')")
        .await;
    window.converge().await;
    assert!(window.resets.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_field_is_captured_without_a_reset_of_what_others_wrote() {
    let database = notes_table().await;
    let engine = database.start([notes()]).await;
    drop(engine);
    database
        .sql("update notes set text = 'late' where id = 1")
        .await;
    let fields = [("owner", "string?"), ("text", "string")];
    let engine = database.start([collection("notes", &fields)]).await;
    let mut window = Window::open(&engine, "notes").await;
    database
        .sql("update notes set owner = 'ada' where id = 2")
        .await;
    loop {
        let change = window.change().await;
        if change.1 == 2.into() {
            assert_eq!(change.2, json!({"owner": "ada"}));
            break;
        }
    }
    assert!(window.resets.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_is_too_long_is_reset() {
    let database = notes_table().await;
    let engine = database.start([notes()]).await;
    let mut window = Window::open(&engine, "notes").await;
    window.stop(engine).await;
    // In one transaction: a step of the engine before may run after it.
    let many = "begin; insert into notes (id, text)
        with recursive numbers (n) as (select 10 union all select n + 1 from numbers where n < 100010)
        select n, 'many' from numbers;
        delete from notes where id > 50; commit";
    database.sql(many).await;
    let engine = database.start([notes()]).await;
    window.resume(&engine).await;
    window.converge().await;
    assert_eq!(window.resets, [ResetReason::Capture]);
    check_capture(&database, &engine, &mut window).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_capture_is_created_again_after_another_program_dropped_it() {
    let database = notes_table().await;
    database
        .sql("create table wide (id integer primary key, a text, b text, c text)")
        .await;
    let fields = ["a", "b", "c"].map(|name| (name, "string?"));
    let collections = || [notes(), collection("wide", &fields)];
    let engine = database.start(collections()).await;
    let mut window = Window::open(&engine, "notes").await;
    let mut wide = Window::open(&engine, "wide").await;
    database.sql("drop table fieldsync_captured").await;
    check_reset(&database, &engine, &mut window).await;
    database
        .sql("insert into wide (id, c) values (1, 'c')")
        .await;
    wide.converge().await;
    // While no engine runs.
    window.stop(engine.clone()).await;
    wide.stop(engine).await;
    database
        .sql("drop table fieldsync_captured; create table fieldsync_captured (seq integer primary key, tbl, op, key)")
        .await;
    let engine = database.start(collections()).await;
    window.resume(&engine).await;
    database
        .sql("update notes set text = 'c' where id = 1; update wide set c = 'd'")
        .await;
    window.converge().await;
    wide.resume(&engine).await;
    wide.converge().await;
    assert_eq!(wide.records[&1.into()]["c"], "d");
    assert_eq!(window.records[&1.into()]["text"], "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_that_was_dropped_is_in_nobodys_way() {
    let database = notes_table().await;
    let engine = database.start([notes()]).await;
    let mut window = Window::open(&engine, "notes").await;
    window.stop(engine).await;
    database.open().await.drop_capture().await.unwrap();
    let objects = "select count(*) from sqlite_schema where type = 'trigger' or name like 'fieldsync_captured%'";
    let objects: i64 = database
        .connect()
        .query_row(objects, [], |row| row.get(0))
        .unwrap();
    assert_eq!(objects, 0);
    let migration = "alter table notes drop column owner; alter table notes rename to other; alter table other rename to notes;
        update notes set text = 'c'";
    database.sql(migration).await;
    let engine = database.start([notes()]).await;
    window.resume(&engine).await;
    assert_eq!(window.resets, [ResetReason::Capture]);
    window.converge().await;
    check_capture(&database, &engine, &mut window).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_capture_there_are_no_triggers() {
    let database = notes_table().await;
    drop(database.start([notes()]).await);
    let builder = Engine::builder().collection(notes().without_capture().open_to_everyone());
    let engine = database.store(builder).await.start().await.unwrap();
    let triggers = "select count(*) from sqlite_schema where type = 'trigger'";
    let triggers: i64 = database
        .connect()
        .query_row(triggers, [], |row| row.get(0))
        .unwrap();
    assert_eq!(triggers, 0);
    drop(engine);
}
