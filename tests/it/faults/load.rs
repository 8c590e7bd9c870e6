//! Clients that go on while the server dies under them: writers, which repeat under its idempotency key whatever has no
//! answer, and subscribers, which resume with their cursor. They remember what they were told.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::faults::database_file::{DatabaseFile, Records};
use crate::socket::{Mirror, Socket};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An edit, to be repeated until it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) key: String,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// What a client was told of its edit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) offset: u64,
    pub(crate) record: Value,
}

/// Writers and subscribers, who move between the nodes of an app.
pub(crate) struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
}

struct Shared {
    addresses: Vec<String>,
    phase: watch::Sender<Phase>,
    acknowledged: Mutex<Vec<(Wish, Answer)>>,
    count: watch::Sender<usize>,
    /// What subscribers had when their connections ended.
    seen: Mutex<Vec<Seen>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Up,
    Down,
    /// Up, and writers begin nothing more.
    WritersEnd,
    /// Up, and this is the last offset.
    AllEnd(u64),
}

/// What a subscriber had, and the place at which it was right.
struct Seen {
    topic: &'static str,
    offset: u64,
    records: Records,
}

impl Load {
    /// Starts so many writers, and three subscribers, at a server that is up.
    pub(crate) fn start(address: &str, writers: usize) -> Self {
        Self::start_at(vec![address.to_owned()], writers)
    }

    /// The same at several nodes: each client goes to another one whenever its connection ends.
    pub(crate) fn start_at(addresses: Vec<String>, writers: usize) -> Self {
        let shared = Arc::new(Shared {
            addresses,
            phase: watch::Sender::new(Phase::Up),
            acknowledged: Mutex::default(),
            count: watch::Sender::new(0),
            seen: Mutex::default(),
        });
        let writers = (0..writers).map(|number| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.write(number).await })
        });
        let writers = writers.collect();
        let subscribers = ["users", "users", "users/1"].map(|topic| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.listen(topic).await })
        });
        Self {
            shared,
            writers,
            subscribers: subscribers.into(),
        }
    }

    /// Waits until so many more edits are acknowledged.
    pub(crate) async fn acknowledged(&self, more: usize) {
        let mut count = self.shared.count.subscribe();
        let enough = *count.borrow() + more;
        let enough = count.wait_for(|count| *count >= enough);
        timeout(PATIENCE, enough)
            .await
            .expect("edits are acknowledged")
            .unwrap();
    }

    /// The server is about to go.
    pub(crate) fn down(&self) {
        self.shared.phase.send_replace(Phase::Down);
    }

    /// It is there again.
    pub(crate) fn up(&self) {
        self.shared.phase.send_replace(Phase::Up);
    }

    /// Checks the file of a server that is dead or stopped: every edit that was acknowledged is in it, once, as it was
    /// answered; and what subscribers had at their cursors was so.
    pub(crate) fn check(&self, path: &Path) -> DatabaseFile {
        // First, for the file has no more than it has now.
        let acknowledged = self.shared.acknowledged.lock().unwrap().clone();
        let file = DatabaseFile::read(path);
        for (wish, answer) in &acknowledged {
            check_applied(&file, wish, answer);
        }
        let head = file.log.len() as u64;
        for seen in self.shared.seen.lock().unwrap().drain(..) {
            assert!(seen.offset <= head, "a subscriber saw what is not there");
            let mut expected = file.at(seen.offset);
            if seen.topic == "users/1" {
                expected.retain(|id, _| id == "1");
            }
            assert_eq!(seen.records, expected, "{} at {}", seen.topic, seen.offset);
        }
        file
    }

    /// Ends it while the server is up: writers have their last edit answered, subscribers hear of all. Gives the count of
    /// acknowledged edits.
    pub(crate) async fn finish(self) -> usize {
        self.shared.phase.send_replace(Phase::WritersEnd);
        for writer in self.writers {
            timeout(PATIENCE, writer)
                .await
                .expect("a writer ends")
                .unwrap();
        }
        let url = format!("http://{}/api/users/", self.shared.addresses[0]);
        let reply = reqwest::get(url).await.unwrap();
        let last = offset_of(reply.headers()["fieldsync-cursor"].to_str().unwrap());
        self.shared.phase.send_replace(Phase::AllEnd(last));
        for subscriber in self.subscribers {
            timeout(PATIENCE, subscriber)
                .await
                .expect("a subscriber hears of all")
                .unwrap();
        }
        *self.shared.count.borrow()
    }

    /// Ends it, kills the server by this, and checks its file and what subscribers had at the very end.
    pub(crate) async fn finish_and_check(self, path: &Path, kill: impl FnOnce()) -> usize {
        let shared = Arc::clone(&self.shared);
        let count = self.finish().await;
        kill();
        let rest = Self {
            shared,
            writers: Vec::new(),
            subscribers: Vec::new(),
        };
        rest.check(path);
        count
    }
}

/// Checks that an acknowledged edit is in the log, once, as it was answered.
pub(crate) fn check_applied(file: &DatabaseFile, wish: &Wish, answer: &Answer) {
    let change = file.change_by(&wish.key);
    let change = change.unwrap_or_else(|| panic!("{wish:?} was acknowledged and is lost"));
    assert_eq!(change.offset, answer.offset, "{wish:?}");
    if wish.method != "DELETE" {
        assert_eq!(Value::Object(change.record()), answer.record, "{wish:?}");
        let body = wish.body.as_object().unwrap();
        assert!(
            body.iter()
                .all(|(name, value)| change.after[name] == *value)
        );
    }
}

/// Sends an edit; `None` when it has no answer, or a 5xx.
pub(crate) async fn send(http: &reqwest::Client, address: &str, wish: &Wish) -> Option<Answer> {
    let url = format!("http://{address}{}", wish.path);
    let request = http
        .request(wish.method.parse().unwrap(), url)
        .header("idempotency-key", &wish.key);
    let request = match &wish.body {
        Value::Null => request,
        body => request.json(body),
    };
    let reply = request.send().await.ok()?;
    let status = reply.status().as_u16();
    let cursor = reply.headers().get("fieldsync-cursor").cloned();
    let body = reply.bytes().await.ok()?;
    if status >= 500 {
        return None;
    }
    assert!(status < 300, "{wish:?}: {status} {body:?}");
    Some(Answer {
        status,
        offset: offset_of(cursor.unwrap().to_str().unwrap()),
        record: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

/// The offset in a cursor. Clients can't know it; what they had is compared with the log by it.
pub(crate) fn offset_of(cursor: &str) -> u64 {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    u64::from_be_bytes(bytes[8..16].try_into().unwrap())
}

impl Shared {
    /// One of the nodes.
    fn address(&self) -> &str {
        &self.addresses[fastrand::usize(..self.addresses.len())]
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// After a failure: waits until the server is up, and a moment, as clients do.
    async fn wait(&self) {
        let mut phase = self.phase.subscribe();
        phase.wait_for(|phase| *phase != Phase::Down).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    async fn write(&self, writer: usize) {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let mut own: Vec<i64> = Vec::new();
        let mut last: Option<(Wish, Answer)> = None;
        for number in 0.. {
            let mut failed = false;
            let wish = wish(writer, number, &mut own);
            let answer = loop {
                // One that began before the end is repeated until it is answered.
                if !failed && matches!(self.phase(), Phase::WritersEnd) {
                    return;
                }
                match send(&http, self.address(), &wish).await {
                    Some(answer) => break answer,
                    None => failed = true,
                }
                self.wait().await;
            };
            if wish.method == "POST" {
                own.push(answer.record["id"].as_i64().unwrap());
            }
            let acknowledged = (wish, answer);
            self.acknowledged.lock().unwrap().push(acknowledged.clone());
            self.count.send_modify(|count| *count += 1);
            // After a crash, and now and then, the edit before is repeated: it has the same answer.
            let before = last.replace(acknowledged);
            if let Some((wish, answer)) = before
                && (failed || number % 5 == 0)
                && let Some(again) = send(&http, self.address(), &wish).await
            {
                assert_eq!(again, answer, "{wish:?} repeated");
            }
        }
    }

    async fn listen(&self, topic: &'static str) {
        let mut mirror = Mirror::default();
        while !self.listen_once(topic, &mut mirror).await {
            self.wait().await;
        }
        assert_eq!(mirror.resets, Vec::<String>::new());
    }

    /// Listens on one connection; true when all was heard.
    async fn listen_once(&self, topic: &'static str, mirror: &mut Mirror) -> bool {
        let Some(mut socket) = Socket::open_at(self.address(), Some("fieldsync.v1")).await else {
            return false;
        };
        if socket
            .try_subscribe(topic, mirror.cursor.as_deref())
            .await
            .is_err()
        {
            return false;
        }
        let mut phase = self.phase.subscribe();
        let mut is_live = false;
        let all_heard = loop {
            let offset = mirror.cursor.as_deref().map(offset_of);
            if let Phase::AllEnd(last) = *phase.borrow_and_update()
                && is_live
            {
                // The place of one record's topic moves when something happens to it, or when it resumes.
                if offset.is_some_and(|offset| offset >= last) {
                    break true;
                }
                if topic != "users" {
                    break false;
                }
            }
            tokio::select! {
                message = socket.stream.next() => {
                    let Some(Ok(message)) = message else { break false };
                    let Some(text) = message.as_text() else { continue };
                    let message: Value = serde_json::from_str(text).unwrap();
                    is_live |= mirror.apply(&message);
                    if let Some(cursor) = message["cursor"].as_str() {
                        let rises = offset.is_none_or(|offset| offset <= offset_of(cursor));
                        assert!(rises, "{message} after {offset:?}");
                        if message["type"] == "change" {
                            assert_ne!(offset, Some(offset_of(cursor)), "{message} twice");
                        }
                    }
                }
                _ = phase.changed() => {}
            }
        };
        if let Some(cursor) = &mirror.cursor {
            self.seen.lock().unwrap().push(Seen {
                topic,
                offset: offset_of(cursor),
                records: mirror.records.clone(),
            });
        }
        all_heard
    }
}

/// What a writer does next: mostly it edits a name of the two users that all edit, or of one of its own.
fn wish(writer: usize, number: usize, own: &mut Vec<i64>) -> Wish {
    let value = format!("{writer}-{number}");
    let field = ["first_name", "last_name"][fastrand::usize(..2)];
    let (method, path, body) = match fastrand::u8(..10) {
        0 if own.len() < 20 => (
            "POST",
            "/api/users/".to_owned(),
            json!({"first_name": value, "last_name": ""}),
        ),
        1 if own.len() > 2 => {
            let id = own.swap_remove(fastrand::usize(..own.len()));
            ("DELETE", format!("/api/users/{id}/"), Value::Null)
        }
        _ => {
            let at = fastrand::usize(..own.len() + 2);
            let id = own.get(at).copied().unwrap_or(fastrand::i64(1..3));
            let body = Map::from_iter([(field.to_owned(), value.into())]);
            ("PATCH", format!("/api/users/{id}/"), body.into())
        }
    };
    Wish {
        key: format!("key-{writer}-{number}"),
        method,
        path,
        body,
    }
}
