//! Clients that outlive their server: writers that repeat an edit under its idempotency key until it is answered, and
//! subscribers that resume from their cursor.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::cursors::offset_of;
use crate::faults::database::Records;
use crate::socket::{Mirror, Socket};
use crate::tasks::{WAIT_TIMEOUT, within_limit};

/// An edit over HTTP. It is repeated until it is answered.
#[derive(Debug, Clone)]
pub(crate) struct EditRequest {
    pub(crate) key: String,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// The reply to an edit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EditReply {
    pub(crate) status: u16,
    pub(crate) offset: u64,
    pub(crate) record: Value,
}

/// What the clients of a test share.
pub(super) struct Clients {
    pub(super) addresses: Vec<String>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) acknowledged: Mutex<Vec<(EditRequest, EditReply)>>,
    pub(super) count: watch::Sender<usize>,
    /// What subscribers held when their connections ended, or when the test asked for it.
    pub(super) observations: Mutex<Vec<Observation>>,
    /// The number of times that the test asked subscribers for an observation.
    pub(super) asked: watch::Sender<usize>,
    /// The number of times that the test had subscribers reconnect.
    pub(super) moves: watch::Sender<usize>,
    pub(super) subscribers: [SubscriberState; 3],
    /// The reasons for which subscribers may be reset.
    pub(super) expected_resets: &'static [&'static str],
    pub(super) resets: AtomicUsize,
    /// The number of times that a subscriber resumed and had missed changes.
    pub(super) resumed: AtomicUsize,
    pub(super) random: Mutex<Rng>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Up,
    Down,
    /// The server is up, and writers begin no further edit.
    WritersEnd,
    /// The server is up, and this is the last offset.
    AllEnd(u64),
}

/// The topics of the subscribers.
pub(super) const TOPICS: [&str; 3] = ["users", "users", "users/1"];

#[derive(Default)]
pub(super) struct SubscriberState {
    pub(super) topic: &'static str,
    /// The offset of its cursor.
    pub(super) offset: AtomicU64,
    /// The last value of `asked` to which it has responded.
    pub(super) responded: AtomicUsize,
}

/// The records that a subscriber held, and the offset of its cursor.
pub(super) struct Observation {
    pub(super) topic: &'static str,
    pub(super) offset: u64,
    pub(super) records: Records,
}

/// Sends an edit; `None` when there is no answer, or a 5xx.
pub(crate) async fn send(
    http: &reqwest::Client,
    address: &str,
    edit: &EditRequest,
) -> Option<EditReply> {
    let url = format!("http://{address}{}", edit.path);
    let request = http
        .request(edit.method.parse().unwrap(), url)
        .header("idempotency-key", &edit.key);
    let request = match &edit.body {
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
    assert!(status < 300, "{edit:?}: {status} {body:?}");
    Some(EditReply {
        status,
        offset: offset_of(cursor.unwrap().to_str().unwrap()),
        record: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

/// A reply without the field that only one version of the app has.
fn without_new_fields(mut reply: EditReply) -> EditReply {
    if let Some(record) = reply.record.as_object_mut() {
        record.remove("nick_name");
    }
    reply
}

impl Clients {
    pub(super) fn random(&self) -> MutexGuard<'_, Rng> {
        self.random.lock().unwrap()
    }

    /// One of the nodes.
    fn address(&self) -> &str {
        &self.addresses[self.random().usize(..self.addresses.len())]
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits after a failure: until the server is up, and then a moment.
    pub(super) async fn wait(&self) {
        let mut phase = self.phase.subscribe();
        phase.wait_for(|phase| *phase != Phase::Down).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    pub(super) async fn write(&self, writer: usize) {
        let http = reqwest::Client::builder()
            .timeout(WAIT_TIMEOUT)
            .build()
            .unwrap();
        let mut random = self.random().fork();
        let mut own: Vec<i64> = Vec::new();
        let mut last: Option<(EditRequest, EditReply)> = None;
        for number in 0.. {
            let mut failed = false;
            let edit = random_edit(&mut random, writer, number, &mut own);
            let reply = loop {
                // An edit that was sent before the end is repeated until it is answered.
                if !failed && matches!(self.phase(), Phase::WritersEnd) {
                    return;
                }
                match send(&http, self.address(), &edit).await {
                    Some(reply) => break reply,
                    None => failed = true,
                }
                self.wait().await;
            };
            if edit.method == "POST" {
                own.push(reply.record["id"].as_i64().unwrap());
            }
            if edit.method != "DELETE" && random.u8(..4) == 0 {
                self.read_back(&http, &edit, &reply).await;
            }
            let acknowledged = (edit, reply);
            self.acknowledge(&acknowledged);
            // After a failure, and for every fifth edit, the one before is repeated: it has the same reply.
            let before = last.replace(acknowledged);
            if let Some((edit, reply)) = before
                && (failed || number % 5 == 0)
                && let Some(repeated) = send(&http, self.address(), &edit).await
            {
                // A node of another version may answer, with the fields that it has.
                let [repeated, reply] = [repeated, reply].map(without_new_fields);
                assert_eq!(repeated, reply, "{edit:?} repeated");
            }
        }
    }

    pub(super) fn acknowledge(&self, acknowledged: &(EditRequest, EditReply)) {
        self.acknowledged.lock().unwrap().push(acknowledged.clone());
        self.count.send_modify(|count| *count += 1);
    }

    /// Reads the record of an edit at any node, which must have the edit.
    async fn read_back(&self, http: &reqwest::Client, edit: &EditRequest, reply: &EditReply) {
        let (address, id) = (self.address(), &reply.record["id"]);
        let read = http.get(format!("http://{address}/api/users/{id}/"));
        let Ok(read) = read.send().await else {
            return;
        };
        if read.status().as_u16() < 500 {
            assert_eq!(read.status(), 200, "{edit:?}: its record can't be read");
            let cursor = read.headers()["fieldsync-cursor"].to_str().unwrap();
            let is_later = offset_of(cursor) >= reply.offset;
            assert!(is_later, "{edit:?}: a later read does not contain it");
        }
    }

    /// The offset of the last change; `None` when there is no answer.
    pub(super) async fn head(&self) -> Option<u64> {
        let url = format!("http://{}/api/users/", self.address());
        let reply = reqwest::get(url).await.ok()?.error_for_status().ok()?;
        let cursor = reply.headers()["fieldsync-cursor"].to_str().unwrap();
        Some(offset_of(cursor))
    }

    pub(super) async fn subscribe(&self, number: usize) {
        let mut mirror = Mirror::default();
        let state = &self.subscribers[number];
        let mut moves = self.moves.subscribe();
        while !self.subscribe_once(state, &mut mirror, &mut moves).await {
            self.wait().await;
        }
        let is_expected = |reason: &String| self.expected_resets.contains(&reason.as_str());
        assert!(mirror.resets.iter().all(is_expected), "{:?}", mirror.resets);
    }

    /// Reads one connection to its end; true when the subscriber has received everything.
    async fn subscribe_once(
        &self,
        state: &SubscriberState,
        mirror: &mut Mirror,
        moves: &mut watch::Receiver<usize>,
    ) -> bool {
        let Some(mut socket) = Socket::open_at(self.address(), Some("fieldsync.v1")).await else {
            return false;
        };
        let since = mirror.cursor.as_deref();
        if socket.try_subscribe(state.topic, since).await.is_err() {
            return false;
        }
        let (mut phase, mut asked) = (self.phase.subscribe(), self.asked.subscribe());
        let (resets, folded) = (mirror.resets.len(), mirror.folded);
        let mut is_live = false;
        let has_all = loop {
            let offset = mirror.cursor.as_deref().map(offset_of);
            if let Some(offset) = offset {
                state.offset.store(offset, Ordering::SeqCst);
            }
            if let Phase::AllEnd(last) = *phase.borrow_and_update()
                && is_live
            {
                if offset.is_some_and(|offset| offset >= last) {
                    break true;
                }
                // The cursor of one record's topic moves when the record changes, or when the subscriber resumes.
                if state.topic != "users" {
                    break false;
                }
            }
            tokio::select! {
                message = socket.stream.next() => {
                    let Some(Ok(message)) = message else { break false };
                    let Some(text) = message.as_text() else { continue };
                    let message: Value = serde_json::from_str(text).unwrap();
                    if mirror.apply(&message) {
                        is_live = true;
                        self.resets.fetch_add(mirror.resets.len() - resets, Ordering::SeqCst);
                        self.resumed.fetch_add(usize::from(mirror.folded > folded), Ordering::SeqCst);
                    }
                    check_order(offset, &message);
                }
                _ = phase.changed() => {}
                _ = moves.changed() => {
                    drop(socket);
                    self.miss_some_edits().await;
                    break false;
                }
                _ = asked.changed() => {
                    self.observe(state.topic, mirror);
                    let now = *asked.borrow_and_update();
                    state.responded.store(now, Ordering::SeqCst);
                }
            }
        };
        self.observe(state.topic, mirror);
        has_all
    }

    async fn miss_some_edits(&self) {
        let mut count = self.count.subscribe();
        let enough = *count.borrow() + 10;
        let missed = count.wait_for(|count| *count >= enough);
        within_limit("ten more edits", missed).await.unwrap();
    }

    /// Notes what a subscriber holds, which is compared with the log later.
    fn observe(&self, topic: &'static str, mirror: &Mirror) {
        if let Some(cursor) = &mirror.cursor {
            self.observations.lock().unwrap().push(Observation {
                topic,
                offset: offset_of(cursor),
                records: mirror.records.clone(),
            });
        }
    }
}

/// Checks that the offset of a message is not lower than the one before, and that no change comes twice.
fn check_order(before: Option<u64>, message: &Value) {
    let Some(cursor) = message["cursor"].as_str() else {
        return;
    };
    let offset = offset_of(cursor);
    let rises = before.is_none_or(|before| before <= offset);
    assert!(rises, "{message} after offset {before:?}");
    if message["type"] == "change" {
        assert_ne!(before, Some(offset), "{message} twice");
    }
}

/// The next edit of a writer: mostly of a name of one of the two users that all writers edit, or of one of its own.
fn random_edit(random: &mut Rng, writer: usize, number: usize, own: &mut Vec<i64>) -> EditRequest {
    let value = format!("{writer}-{number}");
    let field = ["first_name", "last_name"][random.usize(..2)];
    let (method, path, body) = match random.u8(..10) {
        0 if own.len() < 20 => (
            "POST",
            "/api/users/".to_owned(),
            json!({"first_name": value, "last_name": ""}),
        ),
        1 if own.len() > 2 => {
            let id = own.swap_remove(random.usize(..own.len()));
            ("DELETE", format!("/api/users/{id}/"), Value::Null)
        }
        _ => {
            let at = random.usize(..own.len() + 2);
            let id = own.get(at).copied();
            let id = id.unwrap_or_else(|| random.i64(1..3));
            let body = Map::from_iter([(field.to_owned(), value.into())]);
            ("PATCH", format!("/api/users/{id}/"), body.into())
        }
    };
    EditRequest {
        key: format!("key-{writer}-{number}"),
        method,
        path,
        body,
    }
}
