//! Each limit that an app may choose: what a client gets, and that it is counted. Under both web frameworks, in a process of its own,
//! whose recorder counts what every thread does.

use std::process::Command;

use fieldsync::{Edit, Limits, Principal};
use futures_util::future::join_all;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::app::{App, On, Server, builder, limits};
use crate::limits::handshake;
use crate::metrics::Recorded;
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

/// Set in the process that reaches the limits.
const IN_CHILD: &str = "FIELDSYNC_TEST_EACH_LIMIT";

#[tokio::test(flavor = "multi_thread")]
async fn s_each_limit_is_answered_and_counted_as_documented() {
    if std::env::var_os(IN_CHILD).is_some() {
        let recorded: &'static Recorded = Box::leak(Box::default());
        metrics::set_global_recorder(recorded).unwrap();
        for server in [Server::Axum, Server::Actix] {
            Scenes { server, recorded }.play().await;
        }
        return;
    }
    let test = "each_limit::s_each_limit_is_answered_and_counted_as_documented";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]);
    child.env(IN_CHILD, "");
    let child = tokio::task::spawn_blocking(move || child.output());
    let child = within_limit("the other process", child).await;
    let child = child.unwrap().unwrap();
    let output = [child.stdout, child.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    println!("{output}");
    assert!(child.status.success() && output.contains("1 passed"));
}

struct Scenes {
    server: Server,
    recorded: &'static Recorded,
}

impl Scenes {
    /// Starts an app with a limit, reaches it, and compares the answer with what is documented. It is counted once, but reads each time that
    /// they wait.
    async fn reach(
        &self,
        limit: &str,
        change: impl FnOnce(&mut Limits),
        scene: impl AsyncFnOnce(&App) -> String,
        answer: &str,
    ) {
        let builder = builder().limits(limits(change));
        let app = App::start(self.server, On::Memory, builder).await;
        let key = format!("limits_total limit={limit}");
        let count = || self.recorded.get(&key).first().copied().unwrap_or(0.0);
        let before = count();
        let got = scene(&app).await;
        let counted = count() - before;
        println!("{:?} {limit}: {got}; counted {counted}", self.server);
        assert_eq!(got, answer, "{limit}");
        let is_counted = counted == 1.0 || limit == "snapshot_reads" && counted > 1.0;
        assert!(is_counted, "{limit}: {counted}");
    }

    async fn play(&self) {
        self.connections().await;
        self.messages().await;
        self.reads().await;
        self.snapshots().await;
        self.sizes().await;
        self.edits().await;
    }

    async fn connections(&self) {
        let scene = async |app: &App| {
            let _open = Socket::v1_as(app, "eve").await;
            let (status, headers) = handshake(app, ("x-user", "ada")).await;
            format!("{status}, retry after {:?}", headers["retry-after"])
        };
        let change = |limits: &mut Limits| limits.connections = 1;
        let answer = r#"503, retry after "1""#;
        self.reach("connections", change, scene, answer).await;
        let scene = async |app: &App| {
            let _open = Socket::v1_as(app, "eve").await;
            let (status, headers) = handshake(app, ("x-user", "eve")).await;
            format!("{status}, retry after {:?}", headers["retry-after"])
        };
        let change = |limits: &mut Limits| limits.principal_connections = 1;
        let answer = r#"429, retry after "10""#;
        self.reach("principal_connections", change, scene, answer)
            .await;
        let scene = async |app: &App| {
            let mut socket = Socket::v1(app).await;
            socket.subscribe("users", None).await;
            socket.subscribe("things", None).await;
            let error = socket.expect_any(&["error"]).await;
            format!("{}, {}", error["sub"], error["problem"]["status"])
        };
        let change = |limits: &mut Limits| limits.subscriptions = 1;
        self.reach("subscriptions", change, scene, r#""things", 429"#)
            .await;
    }

    async fn messages(&self) {
        let scene = async |app: &App| {
            let mut socket = Socket::v1(app).await;
            for _ in 0..50 {
                socket
                    .send(&json!({"type": "unsubscribe", "sub": "x"}))
                    .await;
            }
            closed(&mut socket).await
        };
        let change = |limits: &mut Limits| limits.messages_per_second = 1;
        self.reach("message_rate", change, scene, "1008").await;
        let scene = async |app: &App| {
            let mut socket = Socket::v1(app).await;
            socket.subscribe(&"x".repeat(200), None).await;
            closed(&mut socket).await
        };
        let change = |limits: &mut Limits| limits.message_bytes = 100;
        self.reach("message_bytes", change, scene, "1009").await;
    }

    async fn reads(&self) {
        let scene = async |app: &App| {
            let users = vec![Edit::create("users", json!({})); 2];
            app.engine.transaction(users).await.unwrap();
            let request = app.request("GET", "/api/users/?first_name=eq.Ada");
            let reply = request.send().await.unwrap();
            let goes_on = reply.headers().contains_key("link");
            let status = reply.status().as_u16();
            let records: Value = reply.json().await.unwrap();
            format!("{status} {records}, goes on: {goes_on}")
        };
        let change = |limits: &mut Limits| limits.list_records = 1;
        self.reach("list_records", change, scene, "200 [], goes on: true")
            .await;
    }

    async fn snapshots(&self) {
        let scene = async |app: &App| {
            let user = json!({"first_name": "x".repeat(100)});
            let users = vec![Edit::create("users", user); 1000];
            app.engine.transaction(users).await.unwrap();
            let snapshot = async |_| {
                let mut socket = Socket::v1(app).await;
                socket.subscribe("users", None).await;
                let mut mirror = Mirror::default();
                mirror.catch_up(&mut socket).await;
                mirror.records.len()
            };
            format!("{:?}", join_all((0..5).map(snapshot)).await)
        };
        let change = |limits: &mut Limits| limits.snapshot_reads = 1;
        let answer = format!("{:?}", [1000; 5]);
        self.reach("snapshot_reads", change, scene, &answer).await;
    }

    async fn sizes(&self) {
        let thing = |bytes: usize| json!({"note": "x".repeat(bytes)});
        let scene =
            async |app: &App| answer(app.request("POST", "/api/things/").json(&thing(1000))).await;
        let change = |limits: &mut Limits| limits.body_bytes = 500;
        self.reach("body_bytes", change, scene, "413 too-large, None")
            .await;
        let change = |limits: &mut Limits| limits.record_bytes = 500;
        self.reach("record_bytes", change, scene, "413 record-too-large, None")
            .await;
        let scene = async |app: &App| {
            let eve = app.engine.on_behalf_of(Principal::named("eve"));
            let edits = vec![Edit::create("things", json!({})); 2];
            eve.transaction(edits).await.unwrap_err().to_string()
        };
        let change = |limits: &mut Limits| limits.transaction_edits = 1;
        let error = "a transaction of 2 edits, of which at most 1 are allowed";
        self.reach("transaction_edits", change, scene, error).await;
    }

    async fn edits(&self) {
        let create = async |app: &App, key: Option<usize>, bytes: usize| {
            let thing = json!({"note": "x".repeat(bytes)});
            let mut request = app.request("POST", "/api/things/").json(&thing);
            request = request.header("x-user", "eve");
            if let Some(key) = key {
                request = request.header("idempotency-key", key.to_string());
            }
            answer(request).await
        };
        let scene = async |app: &App| {
            let mut got = String::from("201");
            while got.starts_with("201") {
                got = create(app, None, 0).await;
            }
            got
        };
        let change = |limits: &mut Limits| limits.principal_edits_per_second = 1;
        let answer = r#"429 limit, Some("1")"#;
        self.reach("principal_edits", change, scene, answer).await;
        let scene = async |app: &App| {
            assert!(create(app, Some(1), 0).await.starts_with("201"));
            hours(&create(app, Some(2), 0).await)
        };
        let change = |limits: &mut Limits| limits.principal_idempotency_keys = 2;
        self.reach("principal_keys", change, scene, "429 limit, 1 h")
            .await;
        let scene = async |app: &App| {
            assert!(create(app, None, 60_000).await.starts_with("201"));
            hours(&create(app, None, 60_000).await)
        };
        let change = |limits: &mut Limits| limits.principal_log_bytes_per_hour = 100_000;
        self.reach("principal_log_bytes", change, scene, "429 limit, 0 h")
            .await;
    }
}

/// The status, the type of the problem, and when to try again.
async fn answer(request: RequestBuilder) -> String {
    let reply: Response = within_limit("an answer", request.send()).await.unwrap();
    let status = reply.status().as_u16();
    let after = reply.headers().get("retry-after").cloned();
    let problem: Value = reply.json().await.unwrap_or_default();
    let kind = problem["type"].as_str().unwrap_or_default();
    let kind = kind.trim_start_matches("urn:fieldsync:");
    format!("{status} {kind}, {after:?}")
}

/// An answer with the hours until the next try.
fn hours(answer: &str) -> String {
    let (kind, after) = answer.split_once(", Some(\"").expect("Retry-After");
    let seconds: u64 = after.trim_end_matches("\")").parse().unwrap();
    format!("{kind}, {} h", (seconds + 1800) / 3600)
}

async fn closed(socket: &mut Socket) -> String {
    loop {
        if let Err(code) = socket.next().await {
            return code.to_string();
        }
    }
}
