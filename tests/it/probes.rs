//! The probes of load balancers and orchestrators.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fieldsync::MemoryStore;
use fieldsync::backend::{Store, StoreError};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::app::{App, On, Server, builder};
use crate::hooked_store::{Call, Hooked, Hooks};
use crate::tasks::within_limit;

/// What the store does when it is asked for the heads of its logs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Answers,
    Hangs,
    IsDown,
    LacksTables,
    Fails,
}

/// A store whose database fails, and that counts how often it is asked.
#[derive(Debug)]
struct Moody {
    store: Arc<dyn Store>,
    mood: watch::Receiver<Mood>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Hooks for Moody {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        let Call::Heads = call else {
            return Ok(());
        };
        self.asked.fetch_add(1, Ordering::SeqCst);
        let secret = || "postgres://app:secret@db".into();
        let mood = *self.mood.borrow();
        match mood {
            Mood::Answers => Ok(()),
            Mood::Hangs => std::future::pending().await,
            Mood::IsDown => Err(StoreError::Unavailable(secret())),
            Mood::LacksTables => Err(StoreError::Schema(Vec::new())),
            Mood::Fails => Err(StoreError::Backend(secret())),
        }
    }
}

async fn probe(app: &App, method: &str, path: &str) -> (u16, Value) {
    let reply = within_limit("a probe", app.request(method, path).send()).await;
    let reply = reply.unwrap();
    let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
    assert_eq!(headers["cache-control"], "no-store", "{path}");
    let is_unavailable = headers.get("retry-after").is_some_and(|after| after == "1");
    assert_eq!(is_unavailable, status == 503, "{headers:?}");
    let text = reply.text().await.unwrap();
    assert!(!text.contains("secret"), "{text}");
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn start(server: Server, poll: Duration) -> (App, watch::Sender<Mood>, Arc<AtomicUsize>) {
    let (mood, moods) = watch::channel(Mood::Answers);
    let asked = Arc::new(AtomicUsize::new(0));
    let store = Moody {
        store: Arc::new(MemoryStore::new()),
        mood: moods,
        asked: Arc::clone(&asked),
    };
    let store = Hooked(Arc::new(store));
    let builder = builder().poll_interval(poll).store(store);
    let app = App::with(server, builder, tempfile::tempdir().unwrap()).await;
    (app, mood, asked)
}

async fn ready_while_the_store_answers_and_alive_in_any_case(server: Server) {
    let hour = Duration::from_secs(3600);
    let (app, mood, asked) = start(server, hour).await;
    let ok = || json!({"status": "ok"});
    let before = asked.load(Ordering::SeqCst);
    let probes = join_all((0..50).map(|_| probe(&app, "GET", "/readyz"))).await;
    assert!(probes.iter().all(|probe| *probe == (200, ok())));
    let times = asked.load(Ordering::SeqCst) - before;
    assert!(
        (1..10).contains(&times),
        "50 probes asked the store {times} times"
    );
    for (now, cause) in [
        (Mood::IsDown, "store-unavailable"),
        (Mood::Hangs, "store-silent"),
        (Mood::LacksTables, "tables"),
        (Mood::Fails, "store-failed"),
    ] {
        mood.send_replace(now);
        let changed = async {
            loop {
                let (status, body) = probe(&app, "GET", "/readyz").await;
                if body["cause"] == cause {
                    return (status, body);
                }
                // A check that was made a moment ago still counts.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (status, body) = within_limit(cause, changed).await;
        assert_eq!(status, 503);
        assert_eq!(body, json!({"status": "unavailable", "cause": cause}));
        assert_eq!(probe(&app, "GET", "/healthz").await, (200, ok()));
    }
    assert_eq!(probe(&app, "HEAD", "/readyz").await, (503, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_while_its_store_answers_and_alive_in_any_case() {
    tokio::join!(
        ready_while_the_store_answers_and_alive_in_any_case(Server::Axum),
        ready_while_the_store_answers_and_alive_in_any_case(Server::Actix),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s_a_node_that_drains_is_not_ready_but_alive() {
    for server in [Server::Axum, Server::Actix] {
        let app = App::start(server, On::Sqlite, builder()).await;
        for path in ["/readyz", "/healthz"] {
            let ok = json!({"status": "ok"});
            assert_eq!(probe(&app, "GET", path).await, (200, ok));
            assert_eq!(probe(&app, "HEAD", path).await, (200, Value::Null));
            let (status, body) = probe(&app, "POST", path).await;
            assert_eq!(
                (status, &body["type"]),
                (405, &json!("urn:fieldsync:method-not-allowed"))
            );
        }
        let head = app.request("HEAD", "/readyz").send().await.unwrap();
        assert_eq!(head.headers()["content-length"], "15");
        let _ = app.engine.drain(Duration::from_secs(1)).await;
        let draining = json!({"status": "unavailable", "cause": "draining"});
        assert_eq!(probe(&app, "GET", "/readyz").await, (503, draining));
        assert_eq!(probe(&app, "GET", "/healthz").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_since_the_store_has_answered_is_shown() {
    let poll = Duration::from_millis(10);
    let (app, mood, _) = start(Server::Axum, poll).await;
    mood.send_replace(Mood::IsDown);
    let silent = async |holds: fn(Duration) -> bool| {
        while !holds(app.engine.stats().store_silence) {
            tokio::time::sleep(poll).await;
        }
    };
    let is_long = |silence: Duration| silence > Duration::from_millis(400);
    within_limit("silence", silent(is_long)).await;
    mood.send_replace(Mood::Answers);
    let is_short = |silence: Duration| silence < Duration::from_millis(200);
    within_limit("an answer", silent(is_short)).await;
}
