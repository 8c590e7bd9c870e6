//! A restored backup: subscribers are reset, and begin with a snapshot.

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::cursors::offset_of;
use crate::demo::Demo;
use crate::socket::{Mirror, Socket};

async fn rename(demo: &Demo, name: &str) {
    let request = reqwest::Client::new()
        .patch(demo.url("/api/users/1/"))
        .json(&json!({"first_name": name}));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// Resumes from the mirror's cursor, and checks that the mirror equals what GET returns.
async fn resume(mirror: &mut Mirror, demo: &Demo) -> Socket {
    let socket = Socket::open_at(&demo.address, Some("fieldsync.v1")).await;
    let mut socket = socket.unwrap();
    socket.subscribe("users", mirror.cursor.as_deref()).await;
    mirror.catch_up(&mut socket).await;
    assert_eq!(mirror.list(), users(demo).await);
    socket
}

async fn users(demo: &Demo) -> Value {
    let reply = reqwest::get(demo.url("/api/users/")).await.unwrap();
    reply.json().await.unwrap()
}

/// Makes a change, which the subscriber receives.
async fn receive_change(mirror: &mut Mirror, socket: &mut Socket, demo: &Demo, name: &str) {
    rename(demo, name).await;
    let change = socket.expect("change").await;
    assert_eq!(change["fields"]["first_name"], name);
    mirror.apply(&change);
    assert_eq!(mirror.list(), users(demo).await);
}

fn restore(backup: &Path, path: &Path) {
    for file in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{file}", path.display()));
    }
    std::fs::copy(backup, path).unwrap();
}

/// Writes, backs up, makes `lost` changes, restores, makes `written_since` changes, and resumes.
async fn check(lost: usize, written_since: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let backup = folder.path().join("backup.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let mut mirror = Mirror::default();
    let mut socket = resume(&mut mirror, &demo).await;
    receive_change(&mut mirror, &mut socket, &demo, "kept").await;
    let sql = format!("vacuum into '{}'", backup.display());
    Connection::open(&path)
        .unwrap()
        .execute_batch(&sql)
        .unwrap();
    for number in 0..lost {
        receive_change(&mut mirror, &mut socket, &demo, &format!("lost {number}")).await;
    }

    demo.kill();
    restore(&backup, &path);
    demo.restart();
    for number in 0..written_since {
        rename(&demo, &format!("since {number}")).await;
    }
    let known = offset_of(mirror.cursor.as_deref().unwrap());
    assert_eq!(known, 3 + lost as u64);
    let mut socket = resume(&mut mirror, &demo).await;
    assert_eq!(
        mirror.resets,
        ["restored"],
        "{lost} changes lost, {written_since} since"
    );
    let name = match written_since {
        0 => "kept".to_owned(),
        more => format!("since {}", more - 1),
    };
    assert_eq!(mirror.records["1"]["first_name"], *name);
    receive_change(&mut mirror, &mut socket, &demo, "goes on").await;
    assert_eq!(mirror.resets.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn h_a_restored_backup_resets_subscribers_that_are_ahead_of_it() {
    check(3, 0).await;
    // The log ends before the cursor, at it, and after it: only the tag shows the difference.
    check(3, 2).await;
    check(3, 3).await;
    check(3, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h_a_deleted_log_resets_subscribers_by_its_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let mut mirror = Mirror::default();
    let mut socket = resume(&mut mirror, &demo).await;
    receive_change(&mut mirror, &mut socket, &demo, "Ada").await;
    demo.kill();
    let sql = "drop table fieldsync_heads; drop table fieldsync_tables; drop table fieldsync_changes; drop table fieldsync_keys";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    demo.restart();
    let mut socket = resume(&mut mirror, &demo).await;
    assert_eq!(mirror.resets, ["epoch"]);
    assert_eq!(mirror.records["1"]["first_name"], "Ada");
    receive_change(&mut mirror, &mut socket, &demo, "Augusta").await;
}
