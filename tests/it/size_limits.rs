//! Limits in bytes: of records, pages, pieces of snapshots and messages; and limits of transactions.

use std::time::{Duration, Instant};

use fieldsync::{Edit, EngineBuilder, EngineError, Refusal};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::app::{App, builder, limits, on_every_store};
use crate::socket::Socket;
use crate::tasks::{Tasks, within_limit};

on_every_store!(with limited:
    a_merge_that_makes_a_record_too_large_is_refused,
    a_repeated_request_is_answered_with_the_id_of_a_deleted_record,
    a_transaction_with_too_many_edits_is_refused,
    snapshots_of_many_sockets_do_not_hold_up_other_requests,
    snapshots_of_many_sockets_of_one_principal_do_not_hold_up_those_of_others,
    f_a_base_that_is_far_back_is_checked_before_the_transaction_and_in_it,
);

fn limited() -> EngineBuilder {
    builder().limits(limits(|limits| {
        limits.transaction_edits = 3;
        limits.record_bytes = 1_000_000;
    }))
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

async fn a_merge_that_makes_a_record_too_large_is_refused(app: App) {
    let (_, thing) = app.send("POST", "/api/things/", &json!({})).await;
    let path = format!("/api/things/{}/", thing["id"].as_str().unwrap());
    let grow = async |name: &str, bytes: usize| {
        let patch = json!({"settings": {name: text(bytes)}, "count": 1});
        app.send("PATCH", &path, &patch).await
    };
    for name in ["a", "b", "c"] {
        assert_eq!(grow(name, 300_000).await.0, 200);
    }
    let before = app.get(&path).await;
    let (status, problem) = grow("d", 300_000).await;
    assert_eq!(status, 413, "{problem}");
    assert_eq!(problem["type"], "urn:fieldsync:record-too-large");
    let errors = json!({"settings": ["makes the record larger than 1000000 bytes"]});
    assert_eq!(problem["errors"], errors);
    assert_eq!(app.get(&path).await, before);

    // The app's own edits have the same limit, and so have records that are created.
    let settings = json!({"settings": {"e": text(300_000)}});
    let key = (
        "things",
        thing["id"]
            .as_str()
            .unwrap()
            .parse::<fieldsync::uuid::Uuid>()
            .unwrap(),
    );
    let note = json!({"note": text(1_100_000)});
    for edit in [Edit::patch(key, settings), Edit::create("things", note)] {
        let refused = app.engine.transaction(vec![edit]).await.unwrap_err();
        assert!(
            matches!(refused, EngineError::Refused(Refusal::RecordTooLarge(_))),
            "{refused:?}"
        );
    }
    let (status, _) = app
        .send("PATCH", &path, &json!({"settings": {"a": null}}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(grow("d", 300_000).await.0, 200);
}

async fn a_transaction_with_too_many_edits_is_refused(app: App) {
    let edits = |count| vec![Edit::create("users", json!({})); count];
    app.engine.transaction(edits(3)).await.unwrap();
    let refused = app.engine.transaction(edits(4)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a transaction of 4 edits, of which at most 3 are allowed"
    );
    assert_eq!(app.get("/api/users/").await.as_array().unwrap().len(), 3);
}

async fn a_repeated_request_is_answered_with_the_id_of_a_deleted_record(app: App) {
    let user = json!({"first_name": "Ada"});
    let send = async || {
        let request = app.request("POST", "/api/users/").json(&user);
        let reply = request.header("idempotency-key", "k").send().await.unwrap();
        let status = reply.status().as_u16();
        (status, reply.json::<Value>().await.unwrap())
    };
    let first = send().await;
    assert_eq!(first.0, 201);
    let path = format!("/api/users/{}/", first.1["id"]);
    app.send("PATCH", &path, &json!({"first_name": "Grace"}))
        .await;
    assert_eq!(send().await, first);
    let deleted = app.request("DELETE", &path).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    // The log still has the change.
    assert_eq!(send().await, first);
}

async fn create_users(app: &App, users: usize) {
    for _ in 0..users / 3 {
        let edit = Edit::create("users", json!({"first_name": "Ada"}));
        app.engine.transaction(vec![edit; 3]).await.unwrap();
    }
}

/// Reads until the socket is live. Returns the number of records.
async fn read_snapshot(socket: &mut Socket) -> usize {
    // Reading the JSON would take longer than what is measured.
    let mut records = 0;
    loop {
        let message = socket.stream.next().await.unwrap().unwrap();
        let text = message.as_text().unwrap_or_default();
        records += text.matches(r#""first_name""#).count();
        if text.contains(r#""type":"live""#) {
            return records;
        }
    }
}

async fn snapshots_of_many_sockets_do_not_hold_up_other_requests(app: App) {
    const SOCKETS: usize = 100;
    const USERS: usize = 1500;
    create_users(&app, USERS).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(Socket::v1(&app).await);
    }
    let time_get = async || {
        let begun = Instant::now();
        app.get("/api/users/1/").await;
        begun.elapsed()
    };
    let tasks = Tasks::new();
    let snapshots = sockets.into_iter().map(|mut socket| {
        tasks.spawn(async move {
            socket.subscribe("users", None).await;
            read_snapshot(&mut socket).await
        })
    });
    let snapshots: Vec<_> = snapshots.collect();
    let mut delays = Vec::new();
    while !snapshots.iter().all(tokio::task::JoinHandle::is_finished) {
        delays.push(within_limit("a GET", time_get()).await);
    }
    for snapshot in snapshots {
        assert_eq!(snapshot.await.unwrap(), USERS);
    }
    delays.sort();
    let median = delays[delays.len() / 2];
    eprintln!("median {median:?} of {}", delays.len());
    assert!(median < Duration::from_millis(500), "{median:?}");
}

async fn snapshots_of_many_sockets_of_one_principal_do_not_hold_up_those_of_others(app: App) {
    const SOCKETS: usize = 24;
    const USERS: usize = 1500;
    create_users(&app, USERS).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(Socket::v1_as(&app, "eve").await);
    }
    let mut ada = Socket::v1_as(&app, "ada").await;
    for socket in &mut sockets {
        socket.subscribe("users", None).await;
    }
    ada.subscribe("users", None).await;
    let tasks = Tasks::new();
    let (complete, completed) = std::sync::mpsc::channel();
    let snapshots = sockets.into_iter().map(|mut socket| {
        let complete = complete.clone();
        tasks.spawn(async move {
            assert_eq!(read_snapshot(&mut socket).await, USERS);
            complete.send(()).unwrap();
        })
    });
    let snapshots: Vec<_> = snapshots.collect();
    let read = tasks.wait("ada's snapshot", read_snapshot(&mut ada)).await;
    assert_eq!(read, USERS);
    let before_her = completed.try_iter().count();
    for snapshot in snapshots {
        tasks.wait("eve's snapshots", snapshot).await.unwrap();
    }
    // She takes turns with eve, who has one after the other.
    assert!(before_her < SOCKETS / 2, "{before_her} of {SOCKETS}");
}

async fn f_a_base_that_is_far_back_is_checked_before_the_transaction_and_in_it(app: App) {
    let id = app.create_user("Ada", "King").await;
    let path = format!("/api/users/{id}/");
    let other = app.create_user("Bob", "").await;
    let far = app.request("GET", &path).send().await.unwrap();
    let far = far.headers()["fieldsync-cursor"]
        .to_str()
        .unwrap()
        .to_owned();
    let rename = |id, name: &str, value: String| Edit::patch(("users", id), json!({name: value}));
    let others = |from: usize| {
        let edits = (from..from + 50).map(|number| {
            let edits = (0..3).map(|part| rename(other, "last_name", format!("{number} {part}")));
            edits.collect::<Vec<_>>()
        });
        edits.collect::<Vec<_>>()
    };
    for edits in others(0) {
        app.engine.transaction(edits).await.unwrap();
    }
    let ada = rename(id, "first_name", "Augusta".into());
    app.engine.transaction(vec![ada]).await.unwrap();
    for edits in others(100) {
        app.engine.transaction(edits).await.unwrap();
    }
    let send = async |patch: Value, key: &str| {
        let request = app.request("PATCH", &path).json(&patch);
        let request = request.header("fieldsync-base", &far);
        let reply = request.header("idempotency-key", key).send().await.unwrap();
        let status = reply.status().as_u16();
        (status, reply.json::<Value>().await.unwrap())
    };
    let (status, problem) = send(json!({"first_name": "Eve"}), "a").await;
    assert_eq!(status, 409, "{problem}");
    let conflict = json!({"first_name": {"base": "Ada", "mine": "Eve", "theirs": "Augusta"}});
    assert_eq!(problem["conflicts"], conflict);
    // Another field has not changed; now it has, after the end of what was read before the transaction.
    let (status, user) = send(json!({"last_name": "Lovelace"}), "b").await;
    assert_eq!((status, &user["last_name"]), (200, &json!("Lovelace")));
    let (status, problem) = send(json!({"last_name": "Byron"}), "c").await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["conflicts"]["last_name"]["base"], "King");
    // A repetition is answered as before, whatever has changed since.
    assert_eq!(send(json!({"last_name": "Lovelace"}), "b").await.0, 200);
}
