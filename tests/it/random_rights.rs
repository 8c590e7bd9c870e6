//! Random rights, edits, moves, revocations, resumes and forged input. Each value that is written is a canary: no byte that a principal
//! receives may have one that its rights never covered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use fastrand::Rng;
use fieldsync::{Access, Collection, Denied, Edit, Engine, EngineBuilder, Filter, Grant, View};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_websockets::Message;

use crate::app::{App, Rule, on_every_store};
use crate::random;
use crate::socket::Socket;
use crate::tasks::within_limit;

on_every_store!(with notes:
    a_no_canary_reaches_whom_no_right_covers,
);

/// How many things happen.
const STEPS: usize = 200;
const USERS: usize = 3;
const FIELDS: [&str; 5] = ["owner", "team", "open", "body", "note"];
/// The fields whose values are canaries.
const CANARIES: [&str; 2] = ["body", "note"];

/// What each user may see. The names of users differ between the apps of all tests.
static RIGHTS: LazyLock<Mutex<HashMap<String, Right>>> = LazyLock::new(Mutex::default);
static APPS: AtomicUsize = AtomicUsize::new(0);

/// Which records, and which fields of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Right {
    rows: Rows,
    fields: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Rows {
    Nothing,
    All,
    Own,
    Teams(Vec<i64>),
    TeamsByTest(Vec<i64>),
    OpenOrOwn,
}

impl Right {
    fn random(random: &mut Rng) -> Self {
        let teams = |random: &mut Rng| (0..4).filter(|_| random.bool()).collect::<Vec<_>>();
        let rows = match random.u8(..8) {
            0 => Rows::Nothing,
            1 => Rows::All,
            2 => Rows::Own,
            3 | 4 => Rows::Teams(teams(random)),
            5 => Rows::TeamsByTest(teams(random)),
            _ => Rows::OpenOrOwn,
        };
        let mut fields = FIELDS.to_vec();
        fields.retain(|_| random.u8(..4) > 0);
        Self { rows, fields }
    }

    fn admits(&self, user: &str, row: &Map<String, Value>) -> bool {
        let team = row["team"].as_i64().unwrap();
        let is_own = row["owner"] == *user;
        match &self.rows {
            Rows::Nothing => false,
            Rows::All => true,
            Rows::Own => is_own,
            Rows::Teams(teams) | Rows::TeamsByTest(teams) => teams.contains(&team),
            Rows::OpenOrOwn => is_own || row["open"] == true,
        }
    }

    fn grant(&self, user: &str) -> Result<Grant, Denied> {
        let grant = Grant::full().with_view(View::only(self.fields.iter().copied()));
        let own = Filter::eq("owner", user);
        Ok(match &self.rows {
            Rows::Nothing => return Err(Denied::Hidden),
            Rows::All => grant,
            Rows::Own => grant.with_rows(own),
            Rows::Teams(teams) => grant.with_rows(Filter::is_in("team", teams.clone())),
            Rows::TeamsByTest(teams) => {
                let (name, teams) = (format!("{teams:?}"), teams.clone());
                grant.with_rows_fn(name, move |note| {
                    teams.contains(&note.fields["team"].as_i64().unwrap())
                })
            }
            Rows::OpenOrOwn => grant.with_rows(Filter::eq("open", true).or(own)),
        })
    }
}

fn notes() -> EngineBuilder {
    let schema = json!({"type": "object", "properties": {
        "owner": {"type": "string", "default": ""},
        "team": {"type": "integer", "default": 0},
        "open": {"type": "boolean", "default": false},
        "body": {"type": "string", "default": ""},
        "note": {"type": ["string", "null"], "default": null},
    }});
    let rule = |user: &str, _: Access| {
        let rights = RIGHTS.lock().unwrap();
        rights.get(user).ok_or(Denied::Forbidden)?.grant(user)
    };
    let notes = Collection::from_schema("notes", &schema);
    let notes = notes.authorize(Rule(rule));
    Engine::builder().collection(notes.rows_decided_by(["owner", "team", "open"]))
}

/// What a user has received, and the cursors among it.
#[derive(Debug, Default)]
struct Inbox {
    text: String,
    cursors: Vec<String>,
}

impl Inbox {
    fn take(&mut self, text: &str) {
        self.text += text;
        self.text.push('\n');
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return;
        };
        for name in ["cursor", "resume"] {
            self.cursors
                .extend(message[name].as_str().map(str::to_owned));
        }
    }

    fn canaries(&self) -> impl Iterator<Item = &str> {
        self.text.split("canary").skip(1).map(|rest| {
            let end = rest.find(|one: char| !one.is_ascii_digit());
            &rest[..end.unwrap_or(rest.len())]
        })
    }
}

struct User {
    name: String,
    inbox: Arc<Mutex<Inbox>>,
    /// Sends to its open sockets.
    sockets: Vec<mpsc::UnboundedSender<Value>>,
    /// The canaries that it may have.
    covered: HashSet<String>,
    /// Its rights so far: each is of another shape.
    had: HashSet<Right>,
}

struct World<'a> {
    app: &'a App,
    random: Rng,
    rows: BTreeMap<i64, Map<String, Value>>,
    users: Vec<User>,
    /// The number of the next canary.
    next: usize,
    /// What reads the sockets and the event streams.
    readers: JoinSet<()>,
}

impl<'a> World<'a> {
    fn new(app: &'a App, random: Rng) -> Self {
        let number = APPS.fetch_add(1, Ordering::Relaxed);
        let user = |user| User {
            name: format!("user{number}of{user}"),
            inbox: Arc::default(),
            sockets: Vec::new(),
            covered: HashSet::new(),
            had: HashSet::new(),
        };
        Self {
            app,
            random,
            rows: BTreeMap::new(),
            users: (0..USERS).map(user).collect(),
            next: 0,
            readers: JoinSet::new(),
        }
    }

    fn canary(&mut self) -> String {
        self.next += 1;
        // The log leaves out the large ones where an update does not change them.
        let padding = if self.random.bool() { 0 } else { 1100 };
        format!("canary{}{}", self.next, "x".repeat(padding))
    }

    /// Notes what everybody may see of a record now.
    fn cover(&mut self, id: i64) {
        let row = &self.rows[&id];
        let rights = RIGHTS.lock().unwrap();
        for user in &mut self.users {
            let right = &rights[&user.name];
            if !right.admits(&user.name, row) {
                continue;
            }
            let seen = CANARIES.iter().filter(|name| right.fields.contains(name));
            let seen = seen.filter_map(|name| row[*name].as_str());
            let seen = seen.filter_map(|value| value.strip_prefix("canary"));
            let number = |value: &str| value.trim_end_matches('x').to_owned();
            user.covered.extend(seen.map(number));
        }
    }

    /// The app writes.
    async fn write(&mut self) {
        let some = self.rows.keys().copied().collect::<Vec<_>>();
        let some = self.random.choice(some);
        let (edit, id) = match (some, self.random.u8(..10)) {
            (Some(id), 0) => {
                self.rows.remove(&id);
                (Edit::delete(("notes", id)), None)
            }
            (Some(id), 1..8) => {
                let patch = self.patch();
                let row = self.rows.get_mut(&id).unwrap();
                row.extend(patch.clone());
                (Edit::patch(("notes", id), Value::Object(patch)), Some(id))
            }
            _ => {
                let mut row = self.patch();
                for (name, value) in [
                    ("owner", json!("")),
                    ("team", json!(0)),
                    ("open", json!(false)),
                    ("body", json!("")),
                    ("note", json!(null)),
                ] {
                    row.entry(name).or_insert(value);
                }
                (Edit::create("notes", Value::Object(row)), None)
            }
        };
        let outcomes = self.app.engine.transaction(vec![edit]).await.unwrap();
        let record = outcomes[0].record();
        if let Some(record) = &record {
            let id = record.id.as_integer().unwrap();
            self.rows.insert(id, record.fields.clone());
            self.cover(id);
        }
        assert!(id.is_none() || record.is_some());
    }

    /// Some fields with new values: moves, and canaries.
    fn patch(&mut self) -> Map<String, Value> {
        let mut patch = Map::new();
        for name in FIELDS {
            if self.random.u8(..3) > 0 {
                continue;
            }
            let user = self.random.usize(..USERS);
            let value = match name {
                "owner" => json!(self.users[user].name),
                "team" => json!(self.random.i64(0..4)),
                "open" => json!(self.random.bool()),
                "note" if self.random.bool() => json!(null),
                _ => json!(self.canary()),
            };
            patch.insert(name.to_owned(), value);
        }
        patch
    }

    /// Gives a user rights that it has never had, and ends what it has opened under the ones before.
    async fn change_rights(&mut self, number: usize) {
        let user = &mut self.users[number];
        let right = loop {
            let right = Right::random(&mut self.random);
            if user.had.insert(right.clone()) {
                break right;
            }
        };
        let name = user.name.clone();
        RIGHTS.lock().unwrap().insert(name.clone(), right);
        user.sockets.clear();
        self.app.engine.revoke(&name).await.unwrap();
        let ids: Vec<i64> = self.rows.keys().copied().collect();
        for id in ids {
            self.cover(id);
        }
    }

    /// A topic, maybe with a guess. The answer repeats that.
    fn topic(&mut self, number: usize) -> String {
        let id = self.random.i64(1..20);
        let canary = self.random.usize(..=self.next);
        self.users[number].covered.insert(canary.to_string());
        match self.random.u8(..10) {
            0..3 => "notes".to_owned(),
            3 => format!("notes/{id}"),
            4 => format!("notes?team=eq.{}", self.random.u8(..4)),
            5 => format!("notes?team=neq.{}&select=body", self.random.u8(..4)),
            6 => "notes?order=team.desc&limit=3".to_owned(),
            7 => "notes?open=is.true&order=id.desc&limit=2".to_owned(),
            8 => format!("notes?body=eq.canary{canary}"),
            _ => format!("notes?or=(note.eq.canary{canary},open.is.true)"),
        }
    }

    /// A cursor that a user has, or that of another, changed or not.
    fn cursor(&mut self, number: usize) -> Option<String> {
        let number = match self.random.u8(..4) {
            0 => self.random.usize(..USERS),
            _ => number,
        };
        let cursors = self.users[number].inbox.lock().unwrap().cursors.clone();
        let mut cursor = self.random.choice(cursors)?;
        if self.random.u8(..4) == 0 && !cursor.is_empty() {
            let at = self.random.usize(..cursor.len());
            let letter = self.random.alphanumeric().to_string();
            cursor.replace_range(at..=at, &letter);
        }
        Some(cursor)
    }

    async fn open(&mut self, number: usize) {
        let (topic, since) = (self.topic(number), self.cursor(number));
        let user = &mut self.users[number];
        let inbox = Arc::clone(&user.inbox);
        let header = [("x-user", user.name.clone())];
        let mut socket = Socket::open_with(self.app, Some("fieldsync.v1"), &header).await;
        let (sender, mut messages) = mpsc::unbounded_channel::<Value>();
        let mut subscribe = json!({"type": "subscribe", "sub": "first", "topic": topic});
        if let Some(since) = since {
            let name = if self.random.u8(..4) == 0 {
                "resume"
            } else {
                "since"
            };
            subscribe[name] = since.into();
        }
        sender.send(subscribe).unwrap();
        user.sockets.push(sender);
        self.readers.spawn(async move {
            loop {
                tokio::select! {
                    message = messages.recv() => {
                        let Some(message) = message else { break };
                        let message = Message::text(message.to_string());
                        if socket.stream.send(message).await.is_err() {
                            break;
                        }
                    }
                    received = socket.stream.next() => match received {
                        Some(Ok(message)) => {
                            let text = String::from_utf8_lossy(message.as_payload()).into_owned();
                            inbox.lock().unwrap().take(&text);
                        }
                        _ => break,
                    },
                }
            }
        });
    }

    /// Sends something over an open socket.
    fn send(&mut self, number: usize) {
        let topic = self.topic(number);
        let cursor = self.cursor(number).unwrap_or_default();
        let message = match self.random.u8(..4) {
            0 => json!({"type": "sync", "cursor": cursor}),
            1 => json!({"type": "unsubscribe", "sub": "first"}),
            2 => json!({"type": "subscribe", "topic": topic, "since": cursor}),
            _ => json!({"type": "subscribe", "topic": topic}),
        };
        let user = &mut self.users[number];
        if let Some(socket) = self.random.choice(&user.sockets) {
            // It may be closed by now.
            let _ = socket.send(message);
        }
    }

    /// A request. Everything of its reply counts as received.
    async fn ask(&mut self, number: usize) {
        let id = self.random.i64(1..20);
        let topic = self
            .topic(number)
            .replacen("notes", "/api/notes", 1)
            .replacen('?', "/?", 1);
        let (canary, own) = (self.random.usize(..=self.next), self.canary());
        let path = format!("/api/notes/{id}/");
        let (method, path, body) = match self.random.u8(..8) {
            0..4 => ("GET", topic, json!(null)),
            4 => ("GET", path, json!(null)),
            5 => ("PATCH", path, json!({"body": own})),
            6 => (
                "PATCH",
                path,
                json!({"note": format!("canary{canary}"), "team": 1}),
            ),
            _ => (
                "POST",
                "/api/notes/".to_owned(),
                json!({"body": own, "team": self.random.i64(0..4)}),
            ),
        };
        let written = body["body"].as_str().or(body["note"].as_str());
        let digits = |text: &str| {
            text.trim_matches(|one: char| !one.is_ascii_digit())
                .to_owned()
        };
        let written = written.map(digits);
        let user = &mut self.users[number];
        // What one writes, one knows.
        user.covered.extend(written);
        user.covered.insert(canary.to_string());
        let mut request = self.app.request(method, &path).header("x-user", &user.name);
        if self.random.u8(..4) == 0 {
            let tag = format!("\"{canary}\"");
            let name = ["if-match", "if-none-match"][self.random.usize(..2)];
            request = request.header(name, tag);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let inbox = Arc::clone(&user.inbox);
        let reply = within_limit("a reply", request.send()).await.unwrap();
        let headers = format!("{:?}", reply.headers());
        let is_write = method != "GET" && reply.status().is_success();
        let text = reply.text().await.unwrap();
        for received in [headers, text] {
            inbox.lock().unwrap().take(&received);
        }
        if is_write {
            self.reread().await;
        }
    }

    /// The rows as they are after a user's edit.
    async fn reread(&mut self) {
        let notes = self.app.engine.collection::<Value>("notes");
        let rows = notes.list(None, 1000).await.unwrap();
        let row = |fields: Value| fields.as_object().unwrap().clone();
        let rows = rows
            .into_iter()
            .map(|note| (note.id.as_integer().unwrap(), row(note.fields)));
        self.rows = rows.collect();
        let ids: Vec<i64> = self.rows.keys().copied().collect();
        for id in ids {
            self.cover(id);
        }
    }

    /// An event stream, that is read until the engine drains.
    async fn stream(&mut self, number: usize) {
        let topic = self
            .topic(number)
            .replacen("notes", "/api/notes", 1)
            .replacen('?', "/?", 1);
        let cursor = self.cursor(number);
        let user = &self.users[number];
        let mut request = self.app.request("GET", &topic).header("x-user", &user.name);
        request = request.header("accept", "text/event-stream");
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        let inbox = Arc::clone(&user.inbox);
        let mut reply = within_limit("a reply", request.send()).await.unwrap();
        self.readers.spawn(async move {
            while let Ok(Some(chunk)) = reply.chunk().await {
                let text = String::from_utf8_lossy(&chunk).into_owned();
                inbox.lock().unwrap().take(&text);
            }
        });
    }
}

async fn a_no_canary_reaches_whom_no_right_covers(app: App) {
    let seed = random::seed();
    let mut world = World::new(&app, Rng::with_seed(seed));
    for number in 0..USERS {
        world.change_rights(number).await;
    }
    for _ in 0..STEPS {
        let number = world.random.usize(..USERS);
        match world.random.u8(..40) {
            0..16 => world.write().await,
            16..24 => world.ask(number).await,
            24..30 => world.open(number).await,
            30..35 => world.send(number),
            35..37 => world.stream(number).await,
            37 => drop(world.users[number].sockets.pop()),
            _ => world.change_rights(number).await,
        }
    }
    let _ = app.engine.drain(Duration::from_secs(5)).await;
    let readers = std::mem::take(&mut world.readers);
    within_limit("the end of all streams", readers.join_all()).await;
    let mut received = 0;
    for user in &world.users {
        let inbox = user.inbox.lock().unwrap();
        for canary in inbox.canaries() {
            received += 1;
            assert!(
                user.covered.contains(canary),
                "seed {seed}: {} has received canary {canary}, which no right of it covers:\n{}",
                user.name,
                inbox.text
            );
        }
    }
    assert!(
        received > 0,
        "seed {seed}: {received} canaries were received"
    );
}
