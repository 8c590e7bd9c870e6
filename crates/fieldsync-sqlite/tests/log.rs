//! The change log in SQLite: pages, and gaps that others make.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

use std::sync::Arc;

use fieldsync::backend::{ChangesSince, PageLimit, Position, Store};
use fieldsync::{Collection, Engine, ResetReason};
use fieldsync_sqlite::SqliteStore;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

/// Creates records with these titles. Returns a store that reads their log, and the log's start.
async fn logged(titles: &[String]) -> (TempDir, SqliteStore, Position) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let schema =
        json!({"type": "object", "properties": {"title": {"type": "string", "default": ""}}});
    let things = || Collection::from_schema("things", &schema).open_to_everyone();
    let writer = SqliteStore::open(&path).await.unwrap();
    let reader = SqliteStore::open(&path).await.unwrap();
    let engine = Engine::builder()
        .collection(things())
        .store(writer)
        .start()
        .await
        .unwrap();
    reader.prepare(&[Arc::new(things())]).await.unwrap();
    for title in titles {
        engine
            .collection("things")
            .create(json!({"title": title}))
            .await
            .unwrap();
    }
    let (_, head) = reader.heads().await.unwrap().remove(0);
    let start = Position {
        offset: 0,
        tag: 0,
        ..head
    };
    (folder, reader, start)
}

/// At most this many changes, and 1 MiB.
fn up_to(rows: usize) -> PageLimit {
    PageLimit {
        rows,
        bytes: 1024 * 1024,
    }
}

#[tokio::test]
async fn a_page_of_changes_has_at_most_a_mebibyte() {
    let titles: Vec<String> = (0..5).map(|_| "x".repeat(600 * 1024)).collect();
    let (_folder, store, mut position) = logged(&titles).await;
    let mut pages = Vec::new();
    loop {
        let ChangesSince::Changes { changes, more } =
            store.changes("things", position, up_to(100)).await.unwrap()
        else {
            panic!("the position is in range");
        };
        pages.push(changes.len());
        position = changes.last().unwrap().position;
        if !more {
            break;
        }
    }
    assert_eq!(pages, [1, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_gap_in_the_log_is_reported_rather_than_skipped() {
    let titles: Vec<String> = (0..5).map(|at| at.to_string()).collect();
    let (folder, store, start) = logged(&titles).await;
    let connection = Connection::open(folder.path().join("app.db")).unwrap();
    let sql = "delete from fieldsync_changes where \"offset\" = 3";
    connection.execute_batch(sql).unwrap();
    let backlog = store.changes("things", start, up_to(100)).await.unwrap();
    assert_eq!(backlog, ChangesSince::OutOfRange(ResetReason::Restored));
    // The end of the log is missing, so the last change that exists is not the head.
    let ChangesSince::Changes { changes, more } =
        store.changes("things", start, up_to(2)).await.unwrap()
    else {
        panic!("the start is in range");
    };
    assert!(more);
    let sql = "delete from fieldsync_changes where \"offset\" > 2";
    connection.execute_batch(sql).unwrap();
    let backlog = store
        .changes("things", changes[1].position, up_to(100))
        .await
        .unwrap();
    assert_eq!(backlog, ChangesSince::OutOfRange(ResetReason::Restored));
}
