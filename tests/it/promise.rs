//! The promise, each letter of it that one node can show.

use std::time::Duration;

use fieldsync::{Edit, Update};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app::{App, Thing, on_every_store};
use crate::socket::{Mirror, Socket};

on_every_store!(
    f_concurrent_edits_of_different_fields_all_survive,
    o_offsets_rise_by_one_in_commit_order,
    x_subscribers_that_come_and_go_equal_the_table,
    r_a_reply_is_seen_by_every_later_get,
    m_a_subscriber_that_stops_reading_slows_nobody,
    s_a_drain_closes_with_1012_and_loses_nothing,
);

/// The documented app loses 4 of 10 here.
async fn f_concurrent_edits_of_different_fields_all_survive(app: App) {
    let path = format!("/api/users/{}/", app.create_user("", "").await);
    let client = async |field: &'static str| {
        for number in 0..2000 {
            let (status, user) = app
                .send("PATCH", &path, &json!({field: number.to_string()}))
                .await;
            assert_eq!((status, &user[field]), (200, &json!(number.to_string())));
        }
    };
    tokio::join!(client("first_name"), client("last_name"));
    let user = app.get(&path).await;
    assert_eq!(
        (&user["first_name"], &user["last_name"]),
        (&json!("1999"), &json!("1999"))
    );
}

async fn o_offsets_rise_by_one_in_commit_order(app: App) {
    let ids = join_all((0..8).map(|_| app.create_user("", ""))).await;
    let mut changes = app.engine.subscribe("users", None).await.unwrap();
    while !matches!(changes.next().await.unwrap(), Update::Live { .. }) {}
    let writers = ids.iter().map(|id| async {
        let mut offsets = Vec::new();
        for number in 0..100 {
            let edit = Edit::patch(("users", *id), json!({"first_name": number.to_string()}));
            let outcome = app.engine.transaction(vec![edit]).await.unwrap().remove(0);
            // A write that began after another was acknowledged has the higher offset.
            assert!(
                offsets
                    .last()
                    .is_none_or(|last| outcome.position().offset > *last)
            );
            offsets.push(outcome.position().offset);
        }
        offsets
    });
    let mut offsets = join_all(writers).await.concat();
    offsets.sort_unstable();
    let first = offsets[0];
    assert_eq!(offsets, (first..first + 800).collect::<Vec<_>>());
    // The subscriber did not read meanwhile; 800 changes are within the ring, and come one by one, in order.
    let mut numbers = std::collections::HashMap::new();
    for _ in 0..800 {
        let Some(Update::Change { change, .. }) = changes.next().await else {
            panic!("a change")
        };
        let number: i32 = change.fields["first_name"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(
            numbers.insert(change.id, number),
            (number > 0).then(|| number - 1)
        );
    }
}

async fn x_subscribers_that_come_and_go_equal_the_table(app: App) {
    let ids = join_all((0..10).map(|_| app.create_user("", ""))).await;
    let writer = async {
        for number in 0..600 {
            let id = ids[fastrand::usize(..ids.len())];
            match fastrand::u8(..10) {
                0 => drop(app.create_user("new", &number.to_string()).await),
                1 => drop(
                    app.request(
                        "DELETE",
                        &format!("/api/users/{}/", 11 + fastrand::i64(..50)),
                    )
                    .send()
                    .await
                    .unwrap(),
                ),
                _ => drop(
                    app.send(
                        "PATCH",
                        &format!("/api/users/{id}/"),
                        &json!({"first_name": number.to_string()}),
                    )
                    .await,
                ),
            }
        }
    };
    let subscriber = async || {
        let mut window = Mirror::default();
        for _ in 0..20 {
            let mut socket = Socket::v1(&app).await;
            socket.subscribe("users", window.cursor.as_deref()).await;
            for _ in 0..fastrand::usize(1..60) {
                match tokio::time::timeout(Duration::from_millis(50), socket.next()).await {
                    Ok(message) => window.apply(&message.unwrap()),
                    Err(_) => break,
                };
            }
        }
        window
    };
    let ((), a, b, c, d) = tokio::join!(
        writer,
        subscriber(),
        subscriber(),
        subscriber(),
        subscriber()
    );
    for mut window in [a, b, c, d] {
        let mut socket = Socket::v1(&app).await;
        socket.subscribe("users", window.cursor.as_deref()).await;
        window.converge(&mut socket, &app, "/api/users/").await;
        assert_eq!(window.resets, Vec::<String>::new());
    }
}

async fn r_a_reply_is_seen_by_every_later_get(app: App) {
    let path = format!("/api/users/{}/", app.create_user("", "").await);
    for number in 0..200 {
        let (_, written) = app
            .send("PATCH", &path, &json!({"first_name": number.to_string()}))
            .await;
        assert_eq!(app.get(&path).await, written);
    }
}

async fn m_a_subscriber_that_stops_reading_slows_nobody(app: App) {
    let thing = app.engine.create("things", Thing::default()).await.unwrap();
    let id = thing.id;
    let mut stalled = Socket::v1(&app).await;
    stalled.subscribe("things", None).await;
    let mut reading = Socket::v1(&app).await;
    reading.subscribe("things", None).await;
    let mut window = Mirror::default();
    window.catch_up(&mut reading).await;
    // 25 MB: far more than the ring and all socket buffers hold.
    let big = "x".repeat(5000);
    for round in 0..20 {
        let patch = |number| {
            let note = format!("{round}-{number} {big}");
            Edit::patch(("things", id), json!({"note": note}))
        };
        let patches = (0..250).map(patch).collect();
        app.engine.transaction(patches).await.unwrap();
    }
    window.converge(&mut reading, &app, "/api/things/").await;
    // The stalled one begins to read again, and is caught up, with several changes folded into one.
    let mut window = Mirror::default();
    window.converge(&mut stalled, &app, "/api/things/").await;
    assert_eq!(window.resets, Vec::<String>::new());
    assert!(window.folded > 0);
}

async fn s_a_drain_closes_with_1012_and_loses_nothing(app: App) {
    let id = app.create_user("", "").await;
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    let mut feed = Socket::feed(&app).await;
    let path = format!("/api/users/{id}/");
    let writes = (0..50).map(|number| app.send("PATCH", &path, &BODIES[number % 2]));
    let (written, drained) =
        tokio::join!(join_all(writes), app.engine.drain(Duration::from_secs(10)));
    // The two sockets are closed when their peers answer.
    assert!(
        written
            .iter()
            .all(|(status, _)| [200, 503].contains(status))
    );
    let code = async |socket: &mut Socket| loop {
        if let Err(code) = socket.next().await {
            return code;
        }
    };
    assert_eq!(
        (code(&mut socket).await, code(&mut feed).await),
        (1012, 1012)
    );
    let _ = drained;
    assert!(!app.engine.is_ready());
    assert_eq!(
        app.request("GET", "/api/users/")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

static BODIES: std::sync::LazyLock<[Value; 2]> =
    std::sync::LazyLock::new(|| [json!({"first_name": "a"}), json!({"first_name": "b"})]);
