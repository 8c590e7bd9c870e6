//! Rules of the app that take their time.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fieldsync::{Access, Authorizer, Collection, Denied, Engine, EngineBuilder, Grant, Principal};
use serde_json::json;

use crate::app::{App, on_every_store};
use crate::socket::Socket;

on_every_store!(with slow:
    subscriptions_wait_for_a_slow_rule_together_while_their_socket_goes_on,
    each_subscription_of_a_burst_is_refused_by_one_answer,
    a_subscription_that_waits_can_be_ended,
);

/// How long the rule takes.
const TIME: Duration = Duration::from_millis(1500);

/// Answers after a while, and refuses those whose name begins with `m`.
#[derive(Debug)]
struct Slow;

/// How often each principal was asked about each collection.
static ASKED: Mutex<Option<HashMap<(String, String), usize>>> = Mutex::new(None);

#[async_trait]
impl Authorizer for Slow {
    async fn authorize(
        &self,
        who: &Principal,
        _: Access,
        collection: &str,
    ) -> Result<Grant, Denied> {
        let name = who.name().unwrap_or_default().to_owned();
        let is_refused = name.starts_with('m');
        let asked = (name, collection.to_owned());
        *ASKED
            .lock()
            .unwrap()
            .get_or_insert_default()
            .entry(asked)
            .or_default() += 1;
        tokio::time::sleep(TIME).await;
        if is_refused {
            return Err(Denied::Forbidden);
        }
        Ok(Grant::full())
    }
}

fn asked(who: &str, collection: &str) -> usize {
    let asked = ASKED.lock().unwrap();
    let asked = asked
        .as_ref()
        .and_then(|asked| asked.get(&(who.to_owned(), collection.to_owned())));
    asked.copied().unwrap_or_default()
}

/// A name that no other test has.
fn name(first: char) -> String {
    format!("{first}{}", fastrand::u64(..))
}

fn slow() -> EngineBuilder {
    let schema =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    let notes = |name: &str| Collection::from_schema(name, &schema);
    Engine::builder()
        .collection(notes("notes").authorize(Slow))
        .collection(notes("tasks").authorize(Slow))
        .collection(notes("open").open_to_everyone())
}

/// Subscribes to 20 records of each collection with a slow rule.
async fn subscribe_to_many(socket: &mut Socket) {
    for id in 1..=20 {
        socket.subscribe(&format!("notes/{id}"), None).await;
        socket.subscribe(&format!("tasks/{id}"), None).await;
    }
}

async fn subscriptions_wait_for_a_slow_rule_together_while_their_socket_goes_on(app: App) {
    let user = name('a');
    let mut socket = Socket::v1_as(&app, &user).await;
    let begun = Instant::now();
    subscribe_to_many(&mut socket).await;
    // Meanwhile the socket answers pings, and an open collection is live.
    socket.ping().await;
    socket.subscribe("open", None).await;
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(snapshot["sub"], "open");
    socket.expect("live").await;
    assert!(begun.elapsed() < TIME, "{:?}", begun.elapsed());
    let mut live = 0;
    while live < 40 {
        let message = socket.next().await.unwrap();
        live += usize::from(message["type"] == "snapshot");
    }
    // One after the other they would take a minute.
    assert!(begun.elapsed() < 6 * TIME, "{:?}", begun.elapsed());
    assert_eq!((asked(&user, "notes"), asked(&user, "tasks")), (1, 1));
    // The next one asks anew.
    socket.subscribe("notes", None).await;
    assert_eq!(socket.expect("snapshot").await["sub"], "notes");
    assert_eq!(asked(&user, "notes"), 2);
}

async fn each_subscription_of_a_burst_is_refused_by_one_answer(app: App) {
    let user = name('m');
    let mut socket = Socket::v1_as(&app, &user).await;
    subscribe_to_many(&mut socket).await;
    let mut refused = Vec::new();
    for _ in 0..40 {
        let message = socket.expect("error").await;
        assert_eq!(message["problem"]["status"], 403);
        refused.push(message["sub"].as_str().unwrap().to_owned());
    }
    refused.sort();
    refused.dedup();
    assert_eq!(refused.len(), 40);
    assert_eq!((asked(&user, "notes"), asked(&user, "tasks")), (1, 1));
    socket.subscribe("open", None).await;
    socket.expect("snapshot").await;
}

async fn a_subscription_that_waits_can_be_ended(app: App) {
    let mut socket = Socket::v1_as(&app, &name('a')).await;
    socket.subscribe("notes", None).await;
    socket.subscribe("notes", None).await;
    let problem = socket.expect("error").await["problem"].clone();
    assert_eq!(problem["type"], "urn:fieldsync:subscribed");
    let unsubscribe = json!({"type": "unsubscribe", "sub": "notes"});
    socket.send(&unsubscribe).await;
    socket.expect("unsubscribed").await;
    socket.subscribe("tasks", None).await;
    assert_eq!(socket.expect("snapshot").await["sub"], "tasks");
    assert_eq!(socket.expect("live").await["collection"], "tasks");
    tokio::time::sleep(TIME).await;
    socket.subscribe("open", None).await;
    assert_eq!(socket.expect("snapshot").await["sub"], "open");
}
