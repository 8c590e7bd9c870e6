//! Another process holds SQLite's lock.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use rusqlite::Connection;
use serde_json::json;

use crate::demo::Demo;
use crate::faults::database::Database;
use crate::faults::load::{Load, Wish, check_applied, send};

const PATH: &str = "FIELDSYNC_TEST_LOCKS";

/// Not a test: what the other process does. It is this binary, which runs nothing else.
#[test]
#[ignore = "the part of another process in the test below"]
fn another_process_locks_the_database() {
    let Ok(path) = std::env::var(PATH) else {
        return;
    };
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.execute_batch("begin exclusive").unwrap();
    println!("\nlocked");
    // Until whoever started this one closes it.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    connection.execute_batch("rollback").unwrap();
}

/// Another process that has the lock. Lets go of it when its input is closed, and dies when dropped.
struct Holder {
    process: Child,
    /// It still has something to say in the end.
    _says: Lines<BufReader<ChildStdout>>,
}

impl Holder {
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
            _says: lines,
        }
    }

    fn let_go(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wish(number: usize) -> Wish {
    Wish {
        key: format!("locked-{number}"),
        method: "PATCH",
        path: "/api/users/1/".into(),
        body: json!({"first_name": format!("locked {number}")}),
    }
}

/// One lock, until these edits are refused: how long that takes.
async fn check_refused(demo: &Demo, wishes: &[Wish]) -> Duration {
    let http = Client::new();
    let begun = Instant::now();
    let refused = join_all(wishes.iter().map(|wish| {
        let request = http.patch(demo.url(&wish.path)).json(&wish.body);
        request.header("idempotency-key", &wish.key).send()
    }));
    let mut refused = std::pin::pin!(refused);
    loop {
        let read = async {
            let begun = Instant::now();
            let read = http.get(demo.url("/api/users/")).send().await.unwrap();
            assert_eq!(read.status(), 200);
            assert!(begun.elapsed() < Duration::from_secs(2), "a read waited");
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
async fn s_while_another_process_holds_the_lock_edits_are_refused_in_time_and_reads_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&format!("sqlite:{}", path.display()), &[]);
    let load = Load::start(&demo.address, 2);
    load.acknowledged(10).await;
    let holder = Holder::start(&path);
    let wishes: Vec<Wish> = (0..20).map(wish).collect();
    // The busy timeout is 5 s, and an edit's own time is 10 s.
    let took = check_refused(&demo, &wishes).await;
    assert!(took < Duration::from_secs(12), "{took:?}");
    // The file is whole as others see it, and has nothing of what was refused.
    let file = Database::of(&Connection::open(&path).unwrap());
    assert!(
        wishes
            .iter()
            .all(|wish| file.change_by(&wish.key).is_none())
    );

    holder.let_go();
    load.acknowledged(10).await;
    let mut applied = Vec::new();
    for wish in wishes {
        let answer = send(&Client::new(), &demo.address, &wish).await;
        applied.push((wish, answer.expect("it works again")));
    }
    load.finish_and_check(&path, || demo.kill()).await;
    let file = Database::read(&path);
    for (wish, answer) in &applied {
        check_applied(&file, wish, answer);
    }
}
