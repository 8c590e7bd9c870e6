//! Clients that go on while the server dies under them: writers, which repeat under its idempotency key whatever has no
//! answer, and subscribers, which resume with their cursor. They remember what they were told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::faults::database::{Database, Records};
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
    /// What subscribers had when their connections ended, or when it was asked for.
    seen: Mutex<Vec<Seen>>,
    asked: watch::Sender<usize>,
    /// How often subscribers had to move.
    moves: watch::Sender<usize>,
    subscribers: [Subscriber; 3],
    /// Why subscribers may be reset, and how often they were; and how often they resumed and had missed something.
    expected_resets: &'static [&'static str],
    resets: AtomicUsize,
    resumed: AtomicUsize,
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

/// What subscribers subscribe to.
const TOPICS: [&str; 3] = ["users", "users", "users/1"];

#[derive(Default)]
struct Subscriber {
    topic: &'static str,
    /// How far it is.
    offset: AtomicU64,
    /// The last time that it was asked and showed what it has.
    shown: AtomicUsize,
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
        Self::start_at(vec![address.to_owned()], writers, &[])
    }

    /// The same at several nodes: each client goes to another one whenever its connection ends. Subscribers may be reset
    /// for these reasons.
    pub(crate) fn start_at(
        addresses: Vec<String>,
        writers: usize,
        expected_resets: &'static [&'static str],
    ) -> Self {
        let shared = Arc::new(Shared {
            addresses,
            phase: watch::Sender::new(Phase::Up),
            acknowledged: Mutex::default(),
            count: watch::Sender::new(0),
            seen: Mutex::default(),
            asked: watch::Sender::new(0),
            moves: watch::Sender::new(0),
            subscribers: TOPICS.map(|topic| Subscriber {
                topic,
                ..Subscriber::default()
            }),
            expected_resets,
            resets: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
        });
        let writers = (0..writers).map(|number| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.write(number).await })
        });
        let writers = writers.collect();
        let subscribers = [0, 1, 2].map(|number| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.listen(number).await })
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

    /// Has subscribers leave, and come again when something happened, at any node.
    #[cfg(feature = "services")]
    pub(crate) async fn move_subscribers(&self) {
        self.shared.moves.send_modify(|moves| *moves += 1);
        self.acknowledged(20).await;
        self.caught_up().await;
    }

    /// Waits until subscribers have all that is there now.
    #[cfg(feature = "services")]
    pub(crate) async fn caught_up(&self) {
        let caught_up = async {
            let head = loop {
                match self.shared.head().await {
                    Some(head) => break head,
                    None => self.shared.wait().await,
                }
            };
            // The place of one record's topic moves only when something happens to it.
            for all in self
                .shared
                .subscribers
                .iter()
                .filter(|one| one.topic == "users")
            {
                while all.offset.load(Ordering::SeqCst) < head {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        timeout(PATIENCE, caught_up)
            .await
            .expect("subscribers hear of all");
    }

    /// An edit of one's own at one of the nodes, as the writers make them.
    #[cfg(feature = "services")]
    pub(crate) async fn edit_at(&self, address: &str, wish: Wish) {
        let http = reqwest::Client::new();
        let answer = loop {
            match send(&http, address, &wish).await {
                Some(answer) => break answer,
                None => self.shared.wait().await,
            }
        };
        self.shared.acknowledge(&(wish, answer));
    }

    /// How often subscribers resumed and had missed something, and how often they were reset.
    #[cfg(feature = "services")]
    pub(crate) fn resumed_and_reset(&self) -> (usize, usize) {
        let Shared {
            resumed, resets, ..
        } = &*self.shared;
        (
            resumed.load(Ordering::SeqCst),
            resets.load(Ordering::SeqCst),
        )
    }

    /// Checks the file of a server that is dead or stopped: every edit that was acknowledged is in it, once, as it was
    /// answered; and what subscribers had at their cursors was so.
    pub(crate) fn check(&self, path: &Path) -> Database {
        // First, for the file has no more than it has now.
        let acknowledged = self.shared.acknowledged.lock().unwrap().clone();
        let database = Database::read(path);
        self.check_against(&database, &acknowledged);
        database
    }

    /// The same, of a PostgreSQL, while all goes on, with what subscribers have now.
    #[cfg(feature = "services")]
    pub(crate) async fn check_postgres(&self, url: &str) {
        self.caught_up().await;
        let now = *self.shared.asked.borrow() + 1;
        let shown = async {
            for subscriber in &self.shared.subscribers {
                while subscriber.shown.load(Ordering::SeqCst) < now {
                    // Who just then changes the node has to be asked again.
                    self.shared.asked.send_modify(|asked| *asked += 1);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let shown = timeout(PATIENCE, shown).await;
        shown.expect("subscribers show what they have");
        let acknowledged = self.shared.acknowledged.lock().unwrap().clone();
        let database = Database::read_postgres(url).await;
        self.check_against(&database, &acknowledged);
    }

    fn check_against(&self, database: &Database, acknowledged: &[(Wish, Answer)]) {
        for (wish, answer) in acknowledged {
            check_applied(database, wish, answer);
        }
        check_fields(database, acknowledged);
        let head = database.log.len() as u64;
        let mut seen = self.shared.seen.lock().unwrap();
        // What was seen after the database was read is for the next time.
        for seen in seen.extract_if(.., |seen| seen.offset <= head) {
            let mut expected = database.at(seen.offset, &seen.records);
            if seen.topic == "users/1" {
                expected.retain(|id, _| id == "1");
            }
            assert_eq!(seen.records, expected, "{} at {}", seen.topic, seen.offset);
        }
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
        let last = self.shared.head().await.expect("the server is up");
        self.shared.phase.send_replace(Phase::AllEnd(last));
        for subscriber in self.subscribers {
            timeout(PATIENCE, subscriber)
                .await
                .expect("a subscriber hears of all")
                .unwrap();
        }
        *self.shared.count.borrow()
    }

    /// Ends it, and checks the database and what subscribers had at the very end. Gives the count of acknowledged edits, and
    /// of changes in the log.
    #[cfg(feature = "services")]
    pub(crate) async fn finish_and_check_postgres(self, url: &str) -> (usize, usize) {
        let rest = self.rest();
        let count = self.finish().await;
        let acknowledged = rest.shared.acknowledged.lock().unwrap().clone();
        let database = Database::read_postgres(url).await;
        rest.check_against(&database, &acknowledged);
        rest.check_all_seen();
        (count, database.log.len())
    }

    /// What is left when all clients have ended.
    fn rest(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            writers: Vec::new(),
            subscribers: Vec::new(),
        }
    }

    fn check_all_seen(&self) {
        let left = self.shared.seen.lock().unwrap().len();
        assert_eq!(left, 0, "a subscriber saw what is not there");
    }

    /// Ends it, kills the server by this, and checks its file and what subscribers had at the very end.
    pub(crate) async fn finish_and_check(self, path: &Path, kill: impl FnOnce()) -> usize {
        let rest = self.rest();
        let count = self.finish().await;
        kill();
        rest.check(path);
        rest.check_all_seen();
        count
    }
}

/// Checks that no edit took back what another one did to other fields of its record.
fn check_fields(database: &Database, acknowledged: &[(Wish, Answer)]) {
    let wishes: HashMap<&str, &Wish> = acknowledged
        .iter()
        .map(|(wish, _)| (&*wish.key, wish))
        .collect();
    let mut records: HashMap<i64, &Map<String, Value>> = HashMap::new();
    for change in &database.log {
        let before = records.insert(change.id, &change.after);
        let wish = change.key.as_deref().and_then(|key| wishes.get(key));
        let (Some(before), Some(wish)) = (before, wish.filter(|wish| wish.method == "PATCH"))
        else {
            continue;
        };
        for (name, value) in &change.after {
            let is_meant = wish.body.get(name).is_some() || name == "updated_at";
            let is_same = before.get(name).is_none_or(|before| before == value);
            assert!(is_meant || is_same, "{wish:?} changed {name} to {value}");
        }
    }
}

/// Checks that an acknowledged edit is in the log, once, as it was answered.
pub(crate) fn check_applied(file: &Database, wish: &Wish, answer: &Answer) {
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
            self.read_back(&http, &wish, &answer).await;
            let acknowledged = (wish, answer);
            self.acknowledge(&acknowledged);
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

    fn acknowledge(&self, acknowledged: &(Wish, Answer)) {
        self.acknowledged.lock().unwrap().push(acknowledged.clone());
        self.count.send_modify(|count| *count += 1);
    }

    /// Now and then reads what was written, at any node: it is there.
    async fn read_back(&self, http: &reqwest::Client, wish: &Wish, answer: &Answer) {
        if wish.method == "DELETE" || fastrand::u8(..4) > 0 {
            return;
        }
        let url = format!(
            "http://{}/api/users/{}/",
            self.address(),
            answer.record["id"]
        );
        let Ok(reply) = http.get(url).send().await else {
            return;
        };
        if reply.status().as_u16() < 500 {
            assert_eq!(reply.status(), 200, "{wish:?} can't be read");
            let cursor = reply.headers()["fieldsync-cursor"].to_str().unwrap();
            assert!(
                offset_of(cursor) >= answer.offset,
                "{wish:?} can't be read yet"
            );
        }
    }

    /// The offset of the last change.
    async fn head(&self) -> Option<u64> {
        let url = format!("http://{}/api/users/", self.address());
        let reply = reqwest::get(url).await.ok()?.error_for_status().ok()?;
        Some(offset_of(
            reply.headers()["fieldsync-cursor"].to_str().unwrap(),
        ))
    }

    async fn listen(&self, number: usize) {
        let mut mirror = Mirror::default();
        let subscriber = &self.subscribers[number];
        let mut moves = self.moves.subscribe();
        while !self.listen_once(subscriber, &mut mirror, &mut moves).await {
            self.wait().await;
        }
        let expected = |reason: &String| self.expected_resets.contains(&reason.as_str());
        assert!(mirror.resets.iter().all(expected), "{:?}", mirror.resets);
    }

    /// Listens on one connection; true when all was heard.
    async fn listen_once(
        &self,
        subscriber: &Subscriber,
        mirror: &mut Mirror,
        moves: &mut watch::Receiver<usize>,
    ) -> bool {
        let topic = subscriber.topic;
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
        let (mut phase, mut asked) = (self.phase.subscribe(), self.asked.subscribe());
        let (resets, folded) = (mirror.resets.len(), mirror.folded);
        let mut is_live = false;
        let all_heard = loop {
            let offset = mirror.cursor.as_deref().map(offset_of);
            if let Some(offset) = offset {
                subscriber.offset.store(offset, Ordering::SeqCst);
            }
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
                    if mirror.apply(&message) {
                        is_live = true;
                        self.resets.fetch_add(mirror.resets.len() - resets, Ordering::SeqCst);
                        self.resumed.fetch_add(usize::from(mirror.folded > folded), Ordering::SeqCst);
                    }
                    if let Some(cursor) = message["cursor"].as_str() {
                        let rises = offset.is_none_or(|offset| offset <= offset_of(cursor));
                        assert!(rises, "{message} after {offset:?}");
                        if message["type"] == "change" {
                            assert_ne!(offset, Some(offset_of(cursor)), "{message} twice");
                        }
                    }
                }
                _ = phase.changed() => {}
                _ = moves.changed() => {
                    let mut count = self.count.subscribe();
                    let later = *count.borrow() + 10;
                    let missed = count.wait_for(|count| *count >= later);
                    drop(socket);
                    timeout(PATIENCE, missed).await.expect("edits go on").unwrap();
                    break false;
                }
                _ = asked.changed() => {
                    self.show(topic, mirror);
                    let now = *asked.borrow_and_update();
                    subscriber.shown.store(now, Ordering::SeqCst);
                }
            }
        };
        self.show(topic, mirror);
        all_heard
    }

    /// Has what a subscriber has checked.
    fn show(&self, topic: &'static str, mirror: &Mirror) {
        if let Some(cursor) = &mirror.cursor {
            self.seen.lock().unwrap().push(Seen {
                topic,
                offset: offset_of(cursor),
                records: mirror.records.clone(),
            });
        }
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
