//! The disk is full: a small file system of our own, which takes a privilege to mount.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Client, Response};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::demo::Demo;
use crate::faults::database::Database;
use crate::faults::load::{Load, Wish, check_applied, send};

/// A file system of 16 MiB: what is written ahead alone takes 4. Gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = as_root("mount -t tmpfs -o size=16m tmpfs", folder.path());
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(
            mounted.status.success(),
            "a small file system can't be mounted; run this test as root (in a container with CAP_SYS_ADMIN), or as \
             somebody who may sudo without a password: {said}"
        );
        Self(folder)
    }

    /// Takes all the room that is left.
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

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be dying.
        as_root("umount -l", self.0.path());
    }
}

/// Runs a command about a folder, by `sudo` where need be.
fn as_root(command: &str, folder: &Path) -> Output {
    let script = format!(r#"[ "$(id -u)" = 0 ] || sudo='sudo -n'; exec ${{sudo-}} {command} "$0""#);
    let shell = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(folder)
        .output();
    shell.expect("there is a shell")
}

fn wish(number: usize) -> Wish {
    Wish {
        key: format!("full-{number}"),
        method: "POST",
        path: "/api/users/".into(),
        body: json!({"first_name": "x".repeat(100), "last_name": number.to_string()}),
    }
}

async fn post(demo: &Demo, wish: &Wish) -> Response {
    let request = Client::new().post(demo.url(&wish.path)).json(&wish.body);
    let request = request.header("idempotency-key", &wish.key);
    request.send().await.unwrap()
}

async fn users(demo: &Demo) -> Value {
    let reply = Client::new().get(demo.url("/api/users/")).send().await;
    let reply = reply.unwrap();
    assert_eq!(reply.status(), 200);
    reply.json().await.unwrap()
}

/// The file as it is now, which others write.
fn file(path: &Path) -> Database {
    Database::of(&Connection::open(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn s_a_full_disk_refuses_edits_and_nothing_else_and_works_again_when_there_is_room() {
    let disk = SmallDisk::mount();
    let path = disk.0.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 2);
    load.acknowledged(20).await;
    for round in 0..2 {
        disk.fill();
        // The log that is written ahead goes on in its old room for a while, and begins anew now and then.
        let mut refused = Vec::new();
        let mut number = round * 100_000;
        while refused.len() < 20 {
            number += 1;
            let wish = wish(number);
            let reply = post(&demo, &wish).await;
            if reply.status() == 503 {
                assert_eq!(reply.headers()["retry-after"], "1");
                refused.push(wish);
            } else {
                assert_eq!(reply.status(), 201);
            }
        }
        let listed = users(&demo).await;
        let whole = file(&path);
        assert!(
            refused
                .iter()
                .all(|wish| whole.change_by(&wish.key).is_none())
        );
        assert!(listed.as_array().unwrap().len() >= 2);

        disk.make_room();
        load.acknowledged(20).await;
        let mut applied = Vec::new();
        for wish in refused {
            let answer = send(&Client::new(), &demo.address, &wish).await;
            applied.push((wish, answer.expect("there is room again")));
        }
        let whole = file(&path);
        for (wish, answer) in &applied {
            check_applied(&whole, wish, answer);
        }
    }
    load.finish_and_check(&path, || demo.kill()).await;
}
