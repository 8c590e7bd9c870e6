//! Cursors are sealed: a client can neither read nor make one, and every node opens those of the others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldsync::{CursorError, CursorKey, Edit, Engine, EngineBuilder, MemoryStore, Principal};
use fieldsync_sqlite::SqliteStore;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app::{App, Server, builder, on_every_store};
use crate::events::Events;
use crate::socket::{Mirror, Socket};

on_every_store!(
    a_h_a_forged_cursor_is_reset_and_shows_no_history,
    a_h_a_forged_base_is_unknown,
    h_a_cursor_of_an_earlier_version_is_reset_once,
);

/// What a record had before it was deleted.
const CANARY: &str = "canary";

async fn cursor_of(app: &App, path: &str) -> String {
    let reply = app.request("GET", path).send().await.unwrap();
    reply.headers()["fieldsync-cursor"]
        .to_str()
        .unwrap()
        .to_owned()
}

/// A cursor of the start of a log, in the plain text of an earlier version.
async fn plain_start(app: &App) -> String {
    let who = app.engine.on_behalf_of(Principal::anonymous());
    let position = who.list("users", None, 1).await.unwrap().cursor.position();
    let mut bytes = position.epoch.to_be_bytes().to_vec();
    bytes.resize(28, 0);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An app in whose log is a record that was deleted, and texts that its clients may try as cursors.
async fn forgeries(app: &App) -> Vec<String> {
    app.create_user("Ada", "").await;
    let before = cursor_of(app, "/api/users/").await;
    let id = app.create_user(CANARY, "").await;
    let path = format!("/api/users/{id}/");
    app.request("DELETE", &path).send().await.unwrap();
    let now = cursor_of(app, "/api/users/").await;
    let [before, now] = [before, now].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
    assert_eq!(before.len(), 48);
    // What comes before the ciphertext is from one, and the rest from another.
    let mut forged: Vec<Vec<u8>> = [12, 20, 28, 40]
        .map(|at| [&now[..at], &before[at..]].concat())
        .into();
    // Where a plain text would have the offset.
    for at in [3, 4, 19, 20, 28, 35, 47] {
        let mut text = now.clone();
        text[at] ^= 1;
        forged.push(text);
    }
    forged.push([&now[..], b"7\x80"].concat());
    forged.push(now[..47].to_vec());
    let forged = forged.iter().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    forged.chain([plain_start(app).await]).collect()
}

/// Checks that the messages before `live` are a reset by the key and a snapshot, without the canary.
fn check(messages: &[Value]) {
    let types: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["type"].as_str())
        .collect();
    assert_eq!(types, ["reset", "snapshot"]);
    assert_eq!(messages[0]["reason"], "key");
    assert!(!json!(messages).to_string().contains(CANARY));
}

async fn a_h_a_forged_cursor_is_reset_and_shows_no_history(app: App) {
    let forgeries = forgeries(&app).await;
    let mut socket = Socket::v1(&app).await;
    for forged in &forgeries {
        for place in ["since", "resume"] {
            let subscribe = json!({"type": "subscribe", "topic": "users", place: forged});
            socket.send(&subscribe).await;
            socket.expect("subscribed").await;
            let mut messages = Vec::new();
            for _ in 0..2 {
                messages.push(socket.next().await.unwrap());
            }
            check(&messages);
            socket.expect("live").await;
            let unsubscribe = json!({"type": "unsubscribe", "sub": "users"});
            socket.send(&unsubscribe).await;
            socket.expect("unsubscribed").await;
        }
    }
    for forged in &forgeries {
        let several = "/api/?topic=users&topic=users/1";
        for (path, last_id, topics) in [
            ("/api/users/", forged.clone(), 1),
            (several, format!("{forged},"), 2),
        ] {
            let mut events = Events::open(&app, path, Some(&last_id)).await;
            let mut messages = Vec::new();
            while messages.len() < 2 * topics {
                messages.push(events.next().await.unwrap().data);
            }
            for topic in ["users", "users/1"].into_iter().take(topics) {
                let of_topic = messages.iter().filter(|message| message["sub"] == topic);
                check(&of_topic.cloned().collect::<Vec<_>>());
            }
        }
    }
}

async fn a_h_a_forged_base_is_unknown(app: App) {
    let forgeries = forgeries(&app).await;
    let own = cursor_of(&app, "/api/users/").await;
    for (base, status, kind) in forgeries
        .iter()
        .map(|forged| (&**forged, 409, "urn:fieldsync:base-unknown"))
        .chain([("S3NT", 400, "urn:fieldsync:malformed")])
    {
        let request = app.request("PATCH", "/api/users/1/");
        let request = request.header("fieldsync-base", base);
        let reply = request.json(&json!({"last_name": "x"})).send().await;
        let reply = reply.unwrap();
        assert_eq!(reply.status(), status, "{base}");
        let problem: Value = reply.json().await.unwrap();
        assert_eq!(problem["type"], kind);
        assert!(!problem.to_string().contains(CANARY), "{problem}");
    }
    let request = app.request("PATCH", "/api/users/1/");
    let request = request.header("fieldsync-base", own);
    let reply = request.json(&json!({"last_name": "x"})).send().await;
    assert_eq!(reply.unwrap().status(), 200);
}

async fn h_a_cursor_of_an_earlier_version_is_reset_once(app: App) {
    app.create_user("Ada", "").await;
    let mut mirror = Mirror::default();
    mirror.cursor = Some(plain_start(&app).await);
    for name in ["Ada", "Augusta"] {
        let mut socket = Socket::v1(&app).await;
        mirror.go_on(&mut socket, "users").await.unwrap();
        mirror.catch_up(&mut socket).await;
        assert_eq!(mirror.records["1"]["first_name"], name);
        app.send("PATCH", "/api/users/1/", &json!({"first_name": "Augusta"}))
            .await;
    }
    assert_eq!(mirror.resets, ["key"]);
}

async fn sealed_by(engine: &Engine) -> String {
    let who = engine.on_behalf_of(Principal::anonymous());
    let page = who.list("users", None, 1).await.unwrap();
    engine.seal_cursor("users", page.cursor)
}

/// Starts nodes on an empty database at the same time, and one more when they have ended.
async fn check_nodes(start: impl AsyncFn(EngineBuilder) -> Engine) {
    let nodes = join_all((0..3).map(|_| start(builder()))).await;
    let edit = Edit::create("users", json!({"first_name": "Ada"}));
    nodes[0].transaction(vec![edit]).await.unwrap();
    let text = sealed_by(&nodes[0]).await;
    for node in &nodes {
        assert!(node.open_cursor("users", &text).is_ok());
        // Equal cursors have equal texts everywhere.
        assert_eq!(sealed_by(node).await, text);
        let other = node.open_cursor("things", &text);
        assert_eq!(other, Err(CursorError::Key));
    }
    drop(nodes);
    let restarted = start(builder()).await;
    assert_eq!(sealed_by(&restarted).await, text);
    let with_own_key = start(builder().cursor_keys([CursorKey::random()])).await;
    let opened = with_own_key.open_cursor("users", &text);
    assert_eq!(opened, Err(CursorError::Key));
}

#[tokio::test(flavor = "multi_thread")]
async fn x_nodes_that_start_at_once_open_each_others_cursors_in_memory() {
    let store = MemoryStore::new();
    check_nodes(async |builder| builder.store(store.clone()).start().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x_nodes_that_start_at_once_open_each_others_cursors_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    check_nodes(async |builder| {
        let store = SqliteStore::open(&path).await.unwrap();
        builder.store(store).start().await.unwrap()
    })
    .await;
}

#[cfg(feature = "services")]
#[tokio::test(flavor = "multi_thread")]
async fn x_nodes_that_start_at_once_open_each_others_cursors_on_postgres() {
    let url = crate::cluster::fresh_database().await;
    check_nodes(async |builder| {
        let store = fieldsync_postgres::PostgresStore::connect(&url).await;
        builder.store(store.unwrap()).start().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x_keys_are_replaced_in_two_deploys_without_a_reset() {
    let (store, [old, new]) = (
        MemoryStore::new(),
        [1, 2].map(|byte| CursorKey::from([byte; 32])),
    );
    let node = async |keys: Vec<CursorKey>| {
        let builder = builder().store(store.clone()).cursor_keys(keys);
        App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await
    };
    let before = node(vec![old.clone()]).await;
    let first_deploy = node(vec![old.clone(), new.clone()]).await;
    let second_deploy = node(vec![new.clone(), old]).await;
    let after = node(vec![new]).await;
    before.create_user("Ada", "").await;
    let mut mirror = Mirror::default();
    let go_on = async |mirror: &mut Mirror, app: &App| {
        let mut socket = Socket::v1(app).await;
        mirror.go_on(&mut socket, "users").await.unwrap();
        mirror.catch_up(&mut socket).await;
    };
    // Nodes of two deploys run at the same time, and a client goes from one to the other and back.
    for app in [
        &before,
        &first_deploy,
        &before,
        &second_deploy,
        &first_deploy,
        &second_deploy,
        &after,
    ] {
        go_on(&mut mirror, app).await;
    }
    assert_eq!(mirror.resets, [""; 0]);
    go_on(&mut mirror, &before).await;
    assert_eq!(mirror.resets, ["key"]);
}
