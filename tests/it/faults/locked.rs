//! SQLite's lock is held by another process.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use rusqlite::Connection;
use serde_json::json;

use crate::demo::Demo;
use crate::faults::clients::{EditRequest, send};
use crate::faults::database::Database;
use crate::faults::load::{Load, check_applied};

/// The busy timeout of the store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Names the file to be locked.
const PATH: &str = "FIELDSYNC_TEST_LOCKS";

/// Not a test: the other process, which is this binary with this "test" alone.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn another_process_locks_the_database() {
    let Ok(path) = std::env::var(PATH) else {
        return;
    };
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.execute_batch("begin exclusive").unwrap();
    println!("\nlocked");
    // The parent closes this input to end the lock.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    connection.execute_batch("rollback").unwrap();
}

/// A process that holds the lock until its standard input is closed. It is killed when dropped.
struct LockHolder {
    process: Child,
    /// Kept open, since the process prints more when it ends.
    _output: Lines<BufReader<ChildStdout>>,
}

impl LockHolder {
    fn start(path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("faults::locked::another_process_locks_the_database")
            .env(PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "locked"));
        Self {
            process,
            _output: lines,
        }
    }

    fn release(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Drop for LockHolder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn edit(number: usize) -> EditRequest {
    EditRequest {
        key: format!("locked-{number}"),
        method: "PATCH",
        path: "/api/users/1/".into(),
        body: json!({"first_name": format!("locked {number}")}),
    }
}

/// Sends edits while the database is locked, and checks that they are refused. Returns how long that took.
async fn check_refused(demo: &Demo, edits: &[EditRequest]) -> Duration {
    let http = Client::new();
    let begun = Instant::now();
    let refused = join_all(edits.iter().map(|edit| {
        let request = http.patch(demo.url(&edit.path)).json(&edit.body);
        request.header("idempotency-key", &edit.key).send()
    }));
    let mut refused = std::pin::pin!(refused);
    loop {
        let read = async {
            let begun = Instant::now();
            let read = http.get(demo.url("/api/users/")).send().await.unwrap();
            assert_eq!(read.status(), 200);
            // A read that waited for the lock would take as long as the busy timeout.
            assert!(begun.elapsed() < BUSY_TIMEOUT, "a read waited for the lock");
        };
        tokio::select! {
            replies = &mut refused => {
                for reply in replies {
                    let reply = reply.unwrap();
                    assert_eq!(reply.status(), 503);
                    assert_eq!(reply.headers()["retry-after"], "1");
                }
                return begun.elapsed();
            }
            () = read => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_while_another_process_holds_the_lock_edits_are_refused_and_reads_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 2);
    load.acknowledged(10).await;
    let holder = LockHolder::start(&path);
    let edits: Vec<EditRequest> = (0..20).map(edit).collect();
    // The first batch waits for the busy timeout; edits behind it are refused when they have waited for 10 s.
    let took = check_refused(&demo, &edits).await;
    assert!(took < Duration::from_secs(20), "{took:?}");
    // The file is consistent for other processes, and has none of the refused edits.
    let file = Database::of(&Connection::open(&path).unwrap());
    assert!(edits.iter().all(|edit| file.change_by(&edit.key).is_none()));

    holder.release();
    load.acknowledged(10).await;
    let mut applied = Vec::new();
    for edit in edits {
        let reply = send(&Client::new(), &demo.address, &edit).await;
        applied.push((
            edit,
            reply.expect("the edit is answered: the lock was released"),
        ));
    }
    load.finish_and_check(&path, || demo.kill()).await;
    let file = Database::read(&path);
    for (edit, reply) in &applied {
        check_applied(&file, edit, reply);
    }
}
