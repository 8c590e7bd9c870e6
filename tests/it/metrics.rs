//! What an engine counts, and the numbers that it shows to the app.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fieldsync::{Edit, Engine, EngineBuilder, EngineError, Limits, Principal, Refusal, Stats};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, set_default_local_recorder,
};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::app::{App, On, Server, builder, limits, on_every_store};
use crate::events::Events;
use crate::limits::handshake;
use crate::socket::Socket;
use crate::tasks::within_limit;

on_every_store!(with lively: stats_show_what_is_open_now);

/// actix notices at a heartbeat that the client of an event stream is gone.
fn lively() -> EngineBuilder {
    builder().heartbeat(Duration::from_secs(2))
}

/// The stats that fulfil the condition, as soon as they do.
async fn stats_with(engine: &Engine, awaited: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
    let poll = async {
        loop {
            let stats = engine.stats();
            if holds(&stats) {
                return stats;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    within_limit(awaited, poll).await
}

async fn stats_show_what_is_open_now(app: App) {
    let id = app.create_user("Ada", "").await;
    app.announced("users", 1).await;
    let before = app.engine.stats();
    assert_eq!(before.collections["users"].offset, 1);
    assert!(before.collections["users"].ring_bytes > 0);
    assert_eq!((before.websockets, before.event_streams), (0, 0));
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    socket.subscribe(&format!("users/{id}"), None).await;
    socket.expect("snapshot").await;
    let mut events = Events::open(&app, "/api/things/", None).await;
    events.expect("snapshot").await;
    let open = stats_with(&app.engine, "two subscriptions", |stats| {
        stats.collections["users"].subscriptions == 2 && stats.event_streams == 1
    });
    let open = open.await;
    assert_eq!(open.websockets, 1);
    assert_eq!(open.collections["things"].subscriptions, 1);
    assert_eq!(open.collections["things"].offset, 0);
    let json = serde_json::to_value(&open).unwrap();
    assert_eq!(json["collections"]["users"]["subscriptions"], 2, "{json}");
    assert!(json["store_silence"].is_f64(), "{json}");
    drop((socket, events));
    stats_with(&app.engine, "the end of both", |stats| {
        let subscriptions = stats.collections.values().map(|one| one.subscriptions);
        (stats.websockets, stats.event_streams) == (0, 0) && subscriptions.sum::<usize>() == 0
    })
    .await;
}

/// A recorder that remembers the last value of each gauge, the sum of each counter, and all values of each histogram.
#[derive(Default)]
pub(crate) struct Recorded {
    values: Mutex<BTreeMap<String, Arc<Value>>>,
    /// The name and the kind of each metric, as the documentation has them.
    described: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Value(Mutex<Vec<f64>>);

impl Recorded {
    fn of(&self, key: &Key) -> Arc<Value> {
        let labels = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let labels = labels.collect::<Vec<_>>().join(",");
        let key = format!("{} {labels}", key.name().trim_start_matches("fieldsync_"));
        let mut values = self.values.lock().unwrap();
        Arc::clone(values.entry(key.trim_end().to_owned()).or_default())
    }

    fn describe(&self, name: &KeyName, kind: &str) {
        let row = format!("| `{}` | {kind} |", name.as_str());
        self.described.lock().unwrap().push(row);
    }

    /// The values of a metric: one for a counter or a gauge.
    pub(crate) fn get(&self, key: &str) -> Vec<f64> {
        let values = self.values.lock().unwrap();
        values
            .get(key)
            .map(|value| value.0.lock().unwrap().clone())
            .unwrap_or_default()
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, f64)]) {
        for (key, expected) in expected {
            assert_eq!(self.get(key), [*expected], "{key}");
        }
    }
}

impl CounterFn for Value {
    fn increment(&self, by: u64) {
        let sum = self.0.lock().unwrap().first().copied().unwrap_or_default();
        self.absolute(sum as u64 + by);
    }

    fn absolute(&self, value: u64) {
        *self.0.lock().unwrap() = vec![value as f64];
    }
}

impl GaugeFn for Value {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = vec![value];
    }
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key, "counter");
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key, "gauge");
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key, "histogram");
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

fn limited(change: impl FnOnce(&mut Limits)) -> EngineBuilder {
    builder().limits(limits(change))
}

/// The recorder is that of the thread, on which the whole engine runs.
#[tokio::test]
async fn requests_refusals_limits_and_commits_are_counted() {
    let recorded = Recorded::default();
    let _recording = set_default_local_recorder(&recorded);
    let app = App::start(
        Server::Axum,
        On::Sqlite,
        limited(|limits| limits.body_bytes = 1000),
    )
    .await;
    app.create_user("Ada", "").await;
    let edits = ["Augusta", "Ada"]
        .map(|name| fieldsync::Edit::patch(("users", 1), json!({"first_name": name})));
    app.engine.transaction(edits.to_vec()).await.unwrap();
    let long = json!({"first_name": "x".repeat(2000)});
    for (method, path, body, status) in [
        ("PATCH", "/api/users/1/", json!({"first_name": 1}), 422),
        ("PATCH", "/api/users/9/", json!({"first_name": "x"}), 404),
        ("PATCH", "/api/users/1/", long, 413),
        ("SECRET-METHOD", "/api/users/", json!({}), 405),
        ("GET", "/api/users/secret/", json!({}), 404),
    ] {
        let (answered, _) = app.send(method, path, &body).await;
        assert_eq!(answered, status, "{method} {path}");
    }
    recorded.check(&[
        ("requests_total method=POST,status=2xx", 1.0),
        ("requests_total method=PATCH,status=4xx", 3.0),
        ("requests_total method=other,status=4xx", 1.0),
        ("requests_total method=GET,status=4xx", 1.0),
        ("refusals_total reason=invalid", 1.0),
        ("refusals_total reason=not-found", 2.0),
        ("refusals_total reason=too-large", 1.0),
        ("refusals_total reason=method-not-allowed", 1.0),
        ("limits_total limit=body_bytes", 1.0),
    ]);
    // The transaction with two edits is among them.
    let edits = recorded.get("commit_edits result=ok");
    assert!(edits.contains(&1.0) && edits.contains(&2.0), "{edits:?}");
    let durations = recorded.get("commit_duration_seconds result=ok");
    assert_eq!(durations.len(), edits.len());
    let values = recorded.values.lock().unwrap();
    for key in values.keys() {
        assert!(!key.to_lowercase().contains("secret"), "{key}");
    }
}

#[tokio::test]
async fn what_a_principal_has_used_up_is_counted() {
    let recorded = Recorded::default();
    let _recording = set_default_local_recorder(&recorded);
    let builder = limited(|limits| {
        limits.connections = 2;
        limits.principal_connections = 1;
        limits.principal_edits_per_second = 1;
        limits.principal_idempotency_keys = 2;
        limits.principal_log_bytes_per_hour = 20_000;
        limits.list_records = 1;
    });
    let app = App::start(Server::Axum, On::Memory, builder).await;
    let _eve = Socket::v1_as(&app, "eve").await;
    assert_eq!(handshake(&app, ("x-user", "eve")).await.0, 429);
    let _ada = Socket::v1_as(&app, "ada").await;
    assert_eq!(handshake(&app, ("x-user", "bob")).await.0, 503);
    let thing = |bytes: usize| Edit::create("things", json!({"note": "x".repeat(bytes)}));
    let with_key = |key: &str| vec![thing(1).with_idempotency_key(key)];
    let refused = async |user: &str, first: Vec<Edit>, second: Vec<Edit>| {
        let caller = app.engine.on_behalf_of(Principal::named(user));
        caller.transaction(first).await.unwrap();
        let refused = caller.transaction(second).await.unwrap_err();
        let is_limit = matches!(refused, EngineError::Refused(Refusal::OverLimit { .. }));
        assert!(is_limit, "{refused:?}");
    };
    refused("one", vec![thing(1); 20], vec![thing(1); 2]).await;
    refused("two", with_key("a"), with_key("b")).await;
    refused("three", vec![thing(12_000)], vec![thing(1)]).await;
    let (status, _) = app
        .send("GET", "/api/things/?limit=1&count=eq.7", &json!({}))
        .await;
    assert_eq!(status, 200);
    recorded.check(&[
        ("limits_total limit=connections", 1.0),
        ("limits_total limit=principal_connections", 1.0),
        ("limits_total limit=principal_edits", 1.0),
        ("limits_total limit=principal_keys", 1.0),
        ("limits_total limit=principal_log_bytes", 1.0),
        ("limits_total limit=list_records", 1.0),
    ]);
}

#[tokio::test]
async fn every_metric_is_described_and_documented() {
    let recorded = Recorded::default();
    let _recording = set_default_local_recorder(&recorded);
    let app = App::start(Server::Axum, On::Memory, builder()).await;
    app.create_user("Ada", "").await;
    let mut described = recorded.described.lock().unwrap().clone();
    let page = include_str!("../../docs/metrics.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `fieldsync_"));
    let mut documented: Vec<String> = rows
        .map(|row| row.split_inclusive('|').take(3).collect())
        .collect();
    described.sort();
    documented.sort();
    assert_eq!(described, documented);
    let values = recorded.values.lock().unwrap();
    assert!(values.len() > 5);
    for key in values.keys() {
        let name = format!("| `fieldsync_{}` |", key.split(' ').next().unwrap());
        assert!(described.iter().any(|row| row.starts_with(&name)), "{key}");
    }
}

#[tokio::test]
async fn sockets_resets_and_writes_of_others_are_counted() {
    let recorded = Recorded::default();
    let _recording = set_default_local_recorder(&recorded);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let store = fieldsync_sqlite::SqliteStore::open(&file).await.unwrap();
    let builder = limited(|limits| limits.subscriptions = 1).store(store);
    let app = App::with(Server::Axum, builder, folder).await;
    let mut socket = Socket::v1(&app).await;
    let things = app.request("GET", "/api/things/").send().await.unwrap();
    let foreign = things.headers()["fieldsync-cursor"].to_str().unwrap();
    socket.subscribe("users", Some(foreign)).await;
    let reason = socket.expect("reset").await["reason"].clone();
    socket.expect("snapshot").await;
    socket.expect("live").await;
    socket.subscribe("secret topic", None).await;
    socket.expect("error").await;
    let other = rusqlite::Connection::open(file).unwrap();
    let sql = "insert into users (first_name, last_name, created_at, updated_at) values ('Eve', '', 0, 0)";
    other.execute(sql, []).unwrap();
    app.engine.wake();
    socket.expect("change").await;
    recorded.check(&[
        (
            &format!(
                "resets_total collection=users,reason={}",
                reason.as_str().unwrap()
            ),
            1.0,
        ),
        ("refusals_total reason=limit", 1.0),
        ("limits_total limit=subscriptions", 1.0),
        ("captured_changes_total collection=users", 1.0),
    ]);
    // The gauges are set once per second.
    let gauges = async {
        while recorded.get("log_offset collection=users") != [1.0]
            || recorded.get("connections transport=websocket") != [1.0]
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within_limit("the gauges", gauges).await;
    recorded.check(&[
        ("connections transport=event_stream", 0.0),
        ("subscriptions collection=users", 1.0),
        ("subscriptions collection=things", 0.0),
        ("log_lag collection=users", 0.0),
        ("capture_behind_seconds", 0.0),
    ]);
    assert!(recorded.get("store_silence_seconds")[0] < 60.0);
    for _ in 0..3 {
        socket.send_text("nonsense").await;
        socket.expect("error").await;
    }
    assert_eq!(socket.next().await, Err(1008));
    recorded.check(&[
        ("limits_total limit=bad_messages", 1.0),
        ("refusals_total reason=bad-message", 3.0),
    ]);
}
