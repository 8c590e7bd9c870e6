//! An update is logged without the large values that it does not change, also where rules decide who sees a record. Subscribers of every
//! node end with the records that a snapshot has, and receive nothing that is hidden from them.

use std::collections::BTreeMap;
use std::time::Duration;

use fieldsync::{
    Action, Collection, Denied, Edit, Engine, EngineError, Fields, Filter, Grant, MemoryStore,
    Page, Principal, Refusal, Rules, Update, everyone, owner,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::app::{App, Server};
use crate::database::{Database, on_both_databases};
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_both_databases!(
    small_patches_beside_large_values_log_what_changed_under_rules,
    small_patches_beside_large_values_log_what_changed_under_a_closure,
    without_knowing_what_a_closure_tests_whole_rows_are_logged,
);

/// Of a text and of JSON. A list has room for one such document.
const LARGE: usize = 100_000;
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
        let all: Vec<Fields> = request.send().await.unwrap().json().await.unwrap();
        let all = all.into_iter().map(|doc| (doc["id"].to_string(), doc));
        let all: BTreeMap<_, _> = all.collect();
        while self.mirror.records != all {
            self.apply().await;
        }
    }
}

/// The fields of records, and of the id nothing.
fn by_id(records: Vec<Fields>) -> BTreeMap<String, Fields> {
    let by_id = records.into_iter().map(|mut doc| {
        let id = doc.remove("id").unwrap();
        (id.to_string(), doc)
    });
    by_id.collect()
}

/// Resumes in Rust, where subscribers receive whole records, as bob.
async fn check_rust_subscriber(node: &App, page: &Page) {
    let bob = node.engine.on_behalf_of(Principal::named("bob"));
    let mut updates = bob.subscribe("docs", Some(page.cursor)).await.unwrap();
    let mut docs = by_id(page.records.clone());
    loop {
        let update = within_limit("an update", updates.next()).await.unwrap();
        assert!(!format!("{update:?}").contains(CANARY));
        let changes = match update {
            Update::Changes { changes, .. } => changes,
            Update::Live { .. } => break,
            other => panic!("{other:?}"),
        };
        for change in changes {
            let id = change.id.to_string();
            match change.action {
                Action::Create => drop(docs.insert(id, change.record)),
                Action::Update => {
                    docs.get_mut(&id).unwrap().extend(change.fields);
                    assert!(docs[&id] == change.record);
                }
                Action::Delete => drop(docs.remove(&id)),
                other => panic!("{other:?}"),
            }
        }
    }
    let now = bob.list("docs", None, 10).await.unwrap().records;
    assert!(docs == by_id(now));
}

/// Two nodes with a public document, 1, and one of ada's, 2, which is large.
async fn two_nodes(database: &Database, docs: impl Fn() -> Collection) -> [App; 2] {
    let nodes = [node(database, docs()).await, node(database, docs()).await];
    let data = json!({"text": large("b")});
    for doc in [
        json!({"owner": "ada", "public": true, "body": "a"}),
        json!({"owner": "ada", "body": large(CANARY), "data": data}),
    ] {
        let create = Edit::create("docs", doc);
        nodes[0].engine.transaction(vec![create]).await.unwrap();
    }
    nodes
}

fn large(text: &str) -> String {
    text.repeat(LARGE / text.len())
}

async fn check_small_patches(database: Database, docs: impl Fn() -> Collection) {
    let nodes = two_nodes(&database, docs).await;
    let (mut live, mut left) = (Vec::new(), Vec::new());
    for node in &nodes {
        let topics = USERS.map(|user| TOPICS.map(|topic| (user, topic)));
        for (user, topic) in topics.into_iter().flatten() {
            let reader = Reader::open(node, user, topic, Mirror::default()).await;
            left.push((node, user, topic, reader.mirror));
            live.push(Reader::open(node, user, topic, Mirror::default()).await);
        }
    }
    let bob = nodes[1].engine.on_behalf_of(Principal::named("bob"));
    let page = bob.list("docs", None, 10).await.unwrap();

    check_patches_of_a_hidden_document(&database, &nodes[0], &mut live).await;
    check_moves(&nodes[0], &mut live).await;
    // Those who resume find it hidden, with what they may not see.
    let hidden = json!({"body": CANARY.repeat(1000), "data": {CANARY: "d"}});
    patch(&nodes[0], 2, hidden).await;
    patch(&nodes[0], 2, json!({"n": 3})).await;
    patch(&nodes[0], 1, json!({"n": 1001})).await;
    for reader in &mut live {
        reader.converge(&nodes[0]).await;
        assert_eq!(reader.mirror.resets, Vec::<String>::new());
    }
    for (node, user, topic, mirror) in left {
        let mut reader = Reader::open(node, user, topic, mirror).await;
        reader.converge(node).await;
        if !topic.contains("limit") {
            assert_eq!(reader.mirror.resets, Vec::<String>::new(), "{user} {topic}");
        }
    }
    for node in &nodes {
        check_rust_subscriber(node, &page).await;
    }
}

/// Patches of a document that bob does not see, by fieldsync and by another program.
async fn check_patches_of_a_hidden_document(database: &Database, node: &App, live: &mut [Reader]) {
    for reader in &mut *live {
        reader.hidden = (reader.user == "bob").then_some(2);
    }
    let before = database.log_bytes().await;
    for number in 1..=PATCHES {
        patch(node, 2, json!({"n": number})).await;
        patch(node, 2, json!({"tags": {number.to_string(): number}})).await;
    }
    let mut program = database.program().await;
    for _ in 0..10 {
        assert!(program.try_run("update docs set n = n + 1").await);
    }
    patch(node, 1, json!({"n": 1000})).await;
    for reader in &mut *live {
        reader.converge(node).await;
        reader.hidden = None;
    }
    let logged = database.log_bytes().await - before;
    assert!(logged < 2 * PATCHES * 2000, "{logged}");
    patch(node, 2, json!({"body": large("c")})).await;
    for reader in live {
        reader.converge(node).await;
        reader.actions.clear();
    }
}

/// The document comes to bob, changes and goes.
async fn check_moves(node: &App, live: &mut [Reader]) {
    for (change, expected) in [
        (json!({"public": true}), "create 2"),
        (json!({"n": 1}), "update 2"),
        (json!({"public": false, "n": 2}), "delete 2"),
    ] {
        patch(node, 2, change).await;
        for reader in &mut *live {
            reader.converge(node).await;
            let actions = std::mem::take(&mut reader.actions);
            if (reader.user, reader.topic) == ("bob", "docs") {
                assert_eq!(actions, [expected]);
            }
        }
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

/// Shows users the public documents and their own.
fn with_closure(docs: Collection) -> Collection {
    docs.authorize_fn(|principal, _| {
        let user = principal.name().unwrap_or_default().to_owned();
        let name = format!("of {user}");
        Ok(Grant::full().with_rows_fn(name, move |doc| {
            doc.fields["public"] == true || doc.fields["owner"] == *user
        }))
    })
}

async fn small_patches_beside_large_values_log_what_changed_under_a_closure(database: Database) {
    let decided = || with_closure(docs()).rows_decided_by(["owner", "public"]);
    check_small_patches(database, decided).await;
}

async fn without_knowing_what_a_closure_tests_whole_rows_are_logged(database: Database) {
    let node = node(&database, with_closure(docs())).await;
    let create = Edit::create("docs", json!({"owner": "ada", "body": "a".repeat(LARGE)}));
    node.engine.transaction(vec![create]).await.unwrap();
    let before = database.log_bytes().await;
    patch(&node, 1, json!({"n": 1})).await;
    let logged = database.log_bytes().await - before;
    assert!(logged > i64::try_from(LARGE).unwrap(), "{logged}");
}

#[tokio::test]
async fn a_grant_relies_on_no_other_fields_than_those_that_are_said_to_decide() {
    let seen = |grant: fn() -> Grant| async move {
        let docs = docs().authorize_fn(move |_, _| Ok(grant()));
        let docs = docs.rows_decided_by(["owner"]);
        let builder = Engine::builder().collection(docs).store(MemoryStore::new());
        let engine = builder.start().await.unwrap();
        let doc = json!({"owner": "ada", "body": "text"});
        let create = Edit::create("docs", doc);
        engine.transaction(vec![create]).await.unwrap();
        let ada = engine.on_behalf_of(Principal::named("ada"));
        ada.list("docs", None, 10)
            .await
            .map(|page| page.records.len())
    };
    let own = || Grant::full().with_rows(Filter::eq("owner", "ada"));
    assert_eq!(seen(own).await.unwrap(), 1);
    let all = || Grant::full().with_rows(Filter::eq("id", 1));
    assert_eq!(seen(all).await.unwrap(), 1);
    let other = || Grant::full().with_rows(Filter::eq("body", "text"));
    let refused = seen(other).await.unwrap_err();
    assert!(
        matches!(
            refused,
            EngineError::Refused(Refusal::Denied(Denied::Unavailable(_)))
        ),
        "{refused:?}"
    );
    let only = || {
        Grant::full().with_rows_fn("only", |doc| {
            doc.fields.keys().eq(["owner"]) && doc.fields["owner"] == "ada"
        })
    };
    assert_eq!(seen(only).await.unwrap(), 1);

    let docs = docs()
        .rows_decided_by(["owner", "ovner"])
        .open_to_everyone();
    let builder = Engine::builder().collection(docs).store(MemoryStore::new());
    let refused = builder.start().await.unwrap_err().to_string();
    assert!(refused.contains("ovner"), "{refused}");
}
