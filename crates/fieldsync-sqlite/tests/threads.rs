//! A store's threads end with it. This test is a binary of its own, so that no other test has threads with these names.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

use std::fs;
use std::time::Duration;

use fieldsync_sqlite::SqliteStore;

fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("fieldsync-"))
        .count()
}

#[tokio::test]
async fn threads_end_when_the_store_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("app.db"))
        .await
        .unwrap();
    assert_eq!(threads(), 5);
    drop(store);
    let ended = async {
        while threads() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the threads end");
}
