//! A full disk: a small file system that the test mounts, which needs root.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Client, Response};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::demo::Demo;
use crate::faults::clients::{EditRequest, send};
use crate::faults::database::Database;
use crate::faults::load::{Load, check_applied};

/// A file system of 16 MiB, of which SQLite's write-ahead log takes 4. It is unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = as_root("mount -t tmpfs -o size=16m tmpfs", folder.path());
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(
            mounted.status.success(),
            "mount failed; run this test as root (in a container with CAP_SYS_ADMIN), or as a user who may run sudo \
             without a password: {said}"
        );
        Self(folder)
    }

    /// Fills the disk to its last byte.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [4096, 1] {
            loop {
                match ballast.write(&vec![0; size]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn free_space(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be exiting.
        as_root("umount -l", self.0.path());
    }
}

/// Runs a command on a folder, with `sudo` if this is not root.
fn as_root(command: &str, folder: &Path) -> Output {
    let script = format!(r#"[ "$(id -u)" = 0 ] || sudo='sudo -n'; exec ${{sudo-}} {command} "$0""#);
    let shell = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(folder)
        .output();
    shell.expect("the command sh is missing")
}

fn edit(number: usize) -> EditRequest {
    EditRequest {
        key: format!("full-{number}"),
        method: "POST",
        path: "/api/users/".into(),
        body: json!({"first_name": "x".repeat(100), "last_name": number.to_string()}),
    }
}

async fn post(demo: &Demo, edit: &EditRequest) -> Response {
    let request = Client::new().post(demo.url(&edit.path)).json(&edit.body);
    let request = request.header("idempotency-key", &edit.key);
    request.send().await.unwrap()
}

async fn users(demo: &Demo) -> Value {
    let reply = Client::new().get(demo.url("/api/users/")).send().await;
    let reply = reply.unwrap();
    assert_eq!(reply.status(), 200);
    reply.json().await.unwrap()
}

/// Reads the file while the server writes to it.
fn read(path: &Path) -> Database {
    Database::of(&Connection::open(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn s_a_full_disk_refuses_edits_and_nothing_else_until_there_is_space_again() {
    let disk = SmallDisk::mount();
    let path = disk.0.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 2);
    load.acknowledged(20).await;
    for round in 0..2 {
        disk.fill();
        // Some edits still fit into the space that the write-ahead log has already.
        let mut refused = Vec::new();
        let mut number = round * 100_000;
        while refused.len() < 20 {
            number += 1;
            let edit = edit(number);
            let reply = post(&demo, &edit).await;
            if reply.status() == 503 {
                assert_eq!(reply.headers()["retry-after"], "1");
                refused.push(edit);
            } else {
                assert_eq!(reply.status(), 201);
            }
        }
        let listed = users(&demo).await;
        let database = read(&path);
        assert!(
            refused
                .iter()
                .all(|edit| database.change_by(&edit.key).is_none())
        );
        assert!(listed.as_array().unwrap().len() >= 2);

        disk.free_space();
        load.acknowledged(20).await;
        let mut applied = Vec::new();
        for edit in refused {
            let reply = send(&Client::new(), &demo.address, &edit).await;
            applied.push((
                edit,
                reply.expect("the edit is answered: there is space again"),
            ));
        }
        let database = read(&path);
        for (edit, reply) in &applied {
            check_applied(&database, edit, reply);
        }
    }
    load.finish_and_check(&path, || demo.kill()).await;
}
