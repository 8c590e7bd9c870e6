//! An update is logged without the large values that it does not change, also where rules decide who sees a record. Subscribers of every
//! node end with the records that a snapshot has, and receive nothing that is hidden from them.

use std::time::Duration;

use fieldsync::{
    Collection, Cursor, Edit, Engine, Filter, Principal, Rules, Update, everyone, owner,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::app::{App, Server};
use crate::database::{Database, on_both_databases};
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_both_databases!(small_patches_beside_large_values_log_what_changed_under_rules,);

const LARGE: usize = 50_000;
/// How often each of two fields of the second document is patched.
const PATCHES: i64 = 50;
/// A text in what a user never may see.
const CANARY: &str = "canary";

const USERS: [&str; 2] = ["ada", "bob"];
const TOPICS: [&str; 4] = [
    "docs",
    "docs?public=is.true",
    "docs?order=n.desc&limit=1",
    "docs?body=neq.other",
];

fn docs() -> Collection {
    let text = json!({"type": "string", "default": ""});
    let object = json!({"type": "object", "default": {}});
    let properties = json!({
        "owner": text, "body": text, "data": object, "tags": object,
        "public": {"type": "boolean", "default": false},
        "n": {"type": "integer", "default": 0},
    });
    let schema = json!({"type": "object", "properties": properties});
    Collection::from_schema("docs", &schema)
}

async fn node(database: &Database, docs: Collection) -> App {
    let builder = Engine::builder().collection(docs);
    let builder = builder.poll_interval(Duration::from_millis(50));
    let builder = database.store(builder, "postgres", "").await;
    App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await
}

async fn patch(node: &App, id: i64, patch: Value) {
    let patch = Edit::patch(("docs", id), patch);
    node.engine.transaction(vec![patch]).await.unwrap();
}

/// A user's subscription over a socket.
struct Reader {
    user: &'static str,
    topic: &'static str,
    socket: Socket,
    mirror: Mirror,
    /// The document of which no message may be.
    hidden: Option<i64>,
    actions: Vec<String>,
}

impl Reader {
    async fn open(node: &App, user: &'static str, topic: &'static str, mirror: Mirror) -> Self {
        let mut socket = Socket::v1_as(node, user).await;
        let mut mirror = mirror;
        mirror.go_on(&mut socket, topic).await.unwrap();
        let mut reader = Self {
            user,
            topic,
            socket,
            mirror,
            hidden: None,
            actions: Vec::new(),
        };
        while !reader.apply().await {}
        reader
    }

    /// Applies the next message. Returns whether the topic is live.
    async fn apply(&mut self) -> bool {
        let message = self.socket.next().await.unwrap();
        let is_hidden = self.user == "bob" && message.to_string().contains(CANARY);
        assert!(!is_hidden, "{} {message}", self.topic);
        let one = std::slice::from_ref(&message);
        for change in message["changes"].as_array().map_or(one, Vec::as_slice) {
            assert!(self.hidden.is_none_or(|id| change["id"] != id), "{change}");
            if let Some(action) = change["action"].as_str() {
                self.actions.push(format!("{action} {}", change["id"]));
            }
        }
        self.mirror.apply(&message)
    }

    /// Reads until the records are those of a new snapshot, after the last write.
    async fn converge(&mut self, node: &App) {
        let query = self.topic.strip_prefix("docs").unwrap();
        let path = format!("/api/docs/{query}");
        let request = node.request("GET", &path).header("x-user", self.user);
        let mut all: Vec<Value> = request.send().await.unwrap().json().await.unwrap();
        all.sort_by_key(|doc| doc["id"].as_i64());
        let all = Value::Array(all);
        while self.mirror.list() != all {
            self.apply().await;
        }
    }

    fn take_actions(&mut self) -> Vec<String> {
        std::mem::take(&mut self.actions)
    }
}

/// The records that a Rust subscriber has, which resumes and receives whole ones.
async fn resume_in_rust(node: &App, user: &str, since: Cursor) -> Vec<Update> {
    let user = node.engine.on_behalf_of(Principal::named(user));
    let mut changes = user.subscribe("docs", Some(since)).await.unwrap();
    let mut updates = Vec::new();
    while !matches!(updates.last(), Some(Update::Live { .. })) {
        updates.push(
            within_limit("an update", changes.next())
                .await
                .expect("an update"),
        );
    }
    updates
}

async fn check_small_patches(database: Database, docs: impl Fn() -> Collection) {
    let nodes = [node(&database, docs()).await, node(&database, docs()).await];
    let large = |letter: &str| letter.repeat(LARGE);
    for public in [true, false] {
        let body = if public { "a" } else { CANARY };
        let doc = json!({
            "owner": "ada", "public": public,
            "body": body.repeat(LARGE / body.len()), "data": {"text": large("b")},
        });
        let create = Edit::create("docs", doc);
        nodes[0].engine.transaction(vec![create]).await.unwrap();
    }
    let mut live = Vec::new();
    let mut resumed = Vec::new();
    for node in &nodes {
        for (user, topic) in USERS
            .iter()
            .flat_map(|user| TOPICS.map(|topic| (*user, topic)))
        {
            live.push((
                node,
                Reader::open(node, user, topic, Mirror::default()).await,
            ));
            let left = Reader::open(node, user, topic, Mirror::default()).await;
            resumed.push((node, user, topic, left.mirror));
        }
    }
    let bob = nodes[1].engine.on_behalf_of(Principal::named("bob"));
    let cursor = bob.list("docs", None, 10).await.unwrap().cursor;

    // Of a document that bob does not see.
    for (_, reader) in &mut live {
        reader.hidden = (reader.user == "bob").then_some(2);
        reader.take_actions();
    }
    let before = database.log_bytes().await;
    for number in 1..=PATCHES {
        patch(&nodes[0], 2, json!({"n": number})).await;
        patch(&nodes[0], 2, json!({"tags": {number.to_string(): number}})).await;
    }
    let mut program = database.program().await;
    for _ in 0..10 {
        assert!(program.try_run("update docs set n = n + 1").await);
    }
    patch(&nodes[0], 1, json!({"n": 1000})).await;
    for (node, reader) in &mut live {
        reader.converge(node).await;
    }
    let logged = database.log_bytes().await - before;
    println!("{} bytes of log for a patch", logged / (2 * PATCHES));
    assert!(logged < 2 * PATCHES * 2000, "{logged}");

    // It comes to bob, and goes.
    for (_, reader) in &mut live {
        reader.hidden = None;
        reader.take_actions();
    }
    patch(&nodes[0], 2, json!({"body": large("c")})).await;
    for (node, reader) in &mut live {
        reader.converge(node).await;
        reader.take_actions();
    }
    for (change, expected) in [
        (json!({"public": true}), "create 2"),
        (json!({"n": 1}), "update 2"),
        (json!({"public": false, "n": 2}), "delete 2"),
    ] {
        patch(&nodes[0], 2, change).await;
        for (node, reader) in &mut live {
            reader.converge(node).await;
            let actions = reader.take_actions();
            if (reader.user, reader.topic) == ("bob", "docs") {
                assert_eq!(actions, [expected]);
            }
        }
    }
    // Those who resume find it hidden by then, with what they may not see.
    patch(
        &nodes[0],
        2,
        json!({"body": CANARY.repeat(1000), "data": {CANARY: large("d")}}),
    )
    .await;
    patch(&nodes[0], 2, json!({"n": 3})).await;
    patch(&nodes[0], 1, json!({"n": 1001})).await;
    for (node, reader) in &mut live {
        reader.converge(node).await;
        assert_eq!(reader.mirror.resets, Vec::<String>::new());
    }
    for (node, user, topic, mirror) in resumed {
        let mut reader = Reader::open(node, user, topic, mirror).await;
        reader.converge(node).await;
        if !topic.contains("limit") {
            assert_eq!(reader.mirror.resets, Vec::<String>::new(), "{user} {topic}");
        }
    }
    for node in &nodes {
        let updates = resume_in_rust(node, "bob", cursor).await;
        assert!(!updates.iter().any(|one| matches!(one, Update::Reset(_))));
        assert!(!format!("{updates:?}").contains(CANARY));
    }
}

async fn small_patches_beside_large_values_log_what_changed_under_rules(database: Database) {
    let rules = || {
        Rules::new()
            .read_and_write(owner("owner"))
            .read(everyone().rows(Filter::eq("public", true)))
    };
    check_small_patches(database, || docs().rules(rules())).await;
}
