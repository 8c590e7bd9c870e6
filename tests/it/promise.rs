//! The guarantees that one node can show.

use std::time::{Duration, Instant};

use fieldsync::{Edit, RecordId, Update};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app::{App, Thing, User, on_every_store};
use crate::random;
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_every_store!(
    f_concurrent_edits_of_different_fields_both_survive,
    o_offsets_rise_by_one_in_commit_order,
    x_subscribers_that_reconnect_hold_what_the_table_holds,
    r_every_later_get_returns_what_a_reply_returned,
    m_a_subscriber_that_stops_reading_does_not_slow_the_others,
    s_a_drain_closes_sockets_with_1012_and_loses_no_acknowledged_write,
);

async fn f_concurrent_edits_of_different_fields_both_survive(app: App) {
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
            // A write that begins after another was acknowledged has a higher offset.
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
    // The subscriber has read nothing yet. 800 changes fit into the ring, and come one by one, in order.
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

async fn x_subscribers_that_reconnect_hold_what_the_table_holds(app: App) {
    let ids = join_all((0..10).map(|_| app.create_user("", ""))).await;
    let mut random = random::generator();
    let mut choices = random.fork();
    let writer = async {
        for number in 0..600 {
            let id = ids[choices.usize(..ids.len())];
            match choices.u8(..10) {
                0 => drop(app.create_user("new", &number.to_string()).await),
                1 => drop(
                    app.request("DELETE", &format!("/api/users/{}/", 11 + choices.i64(..50)))
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
    let subscriber = async |mut random: fastrand::Rng| {
        let mut window = Mirror::default();
        for _ in 0..20 {
            let mut socket = Socket::v1(&app).await;
            socket.subscribe("users", window.cursor.as_deref()).await;
            for _ in 0..random.usize(1..60) {
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
        subscriber(random.fork()),
        subscriber(random.fork()),
        subscriber(random.fork()),
        subscriber(random.fork())
    );
    for mut window in [a, b, c, d] {
        let mut socket = Socket::v1(&app).await;
        socket.subscribe("users", window.cursor.as_deref()).await;
        window.converge(&mut socket, &app, "/api/users/").await;
        assert_eq!(window.resets, Vec::<String>::new());
    }
}

async fn r_every_later_get_returns_what_a_reply_returned(app: App) {
    let path = format!("/api/users/{}/", app.create_user("", "").await);
    for number in 0..200 {
        let (_, written) = app
            .send("PATCH", &path, &json!({"first_name": number.to_string()}))
            .await;
        assert_eq!(app.get(&path).await, written);
    }
}

async fn m_a_subscriber_that_stops_reading_does_not_slow_the_others(app: App) {
    let thing = app
        .engine
        .collection("things")
        .create(Thing::default())
        .await
        .unwrap();
    let id = thing.id;
    let mut reading = Socket::v1(&app).await;
    reading.subscribe("things", None).await;
    let mut window = Mirror::default();
    window.catch_up(&mut reading).await;
    let mut attempts = Vec::new();
    while !attempts.iter().any(|(without, with)| *with < 5 * *without) {
        // A busy machine may disturb some measurements, but not all.
        assert!(attempts.len() < 5, "without and with: {attempts:?}");
        let without = median_delay(&app, id.clone(), &mut reading, &mut window).await;
        let mut stalled = Socket::v1(&app).await;
        stalled.subscribe("things", None).await;
        // 25 MB is far more than the ring and all socket buffers hold. The reading subscriber receives it meanwhile.
        for round in 0..20 {
            let patch = |number| Edit::patch(("things", &id), note(&format!("{round}-{number}")));
            let patches = (0..250).map(patch).collect();
            app.engine.transaction(patches).await.unwrap();
            window.converge(&mut reading, &app, "/api/things/").await;
        }
        let with = median_delay(&app, id.clone(), &mut reading, &mut window).await;
        attempts.push((without, with));
        // The stalled subscriber reads again, and receives several changes folded into one.
        let mut late = Mirror::default();
        late.converge(&mut stalled, &app, "/api/things/").await;
        assert_eq!(late.resets, Vec::<String>::new());
        assert!(late.folded > 0);
    }
}

/// A patch of 5 KB.
fn note(text: &str) -> Value {
    json!({"note": format!("{text} {}", "x".repeat(5000))})
}

async fn receive(socket: &mut Socket, window: &mut Mirror) -> Value {
    let message = socket.next().await.unwrap();
    window.apply(&message);
    message
}

/// The median time from an edit to its change at a subscriber, one edit after the other.
async fn median_delay(
    app: &App,
    id: RecordId,
    socket: &mut Socket,
    window: &mut Mirror,
) -> Duration {
    let mut delays = Vec::new();
    for number in 0..100 {
        let patch = note(&format!(
            "delay-{number}-{}",
            window.cursor.as_ref().unwrap()
        ));
        let begun = Instant::now();
        let edit = Edit::patch(("things", id.clone()), patch.clone());
        app.engine.transaction(vec![edit]).await.unwrap();
        let is_it = |message: &Value| message["fields"] == patch;
        while !is_it(&receive(socket, window).await) {}
        delays.push(begun.elapsed());
    }
    delays.sort_unstable();
    delays[delays.len() / 2]
}

async fn s_a_drain_closes_sockets_with_1012_and_loses_no_acknowledged_write(app: App) {
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    let mut feed = Socket::feed(&app).await;
    let acknowledged = tokio::sync::Semaphore::new(0);
    // Each writer creates users until it is refused, and returns the names of those that were acknowledged.
    let writer = async |writer: usize| {
        let mut names = Vec::new();
        for number in 0.. {
            let name = format!("{writer}-{number}");
            let user = json!({"first_name": name});
            match app.send("POST", "/api/users/", &user).await {
                (201, _) => names.push(name),
                (503, _) => break,
                other => panic!("{other:?}"),
            }
            acknowledged.add_permits(1);
        }
        names
    };
    let drain = async {
        let enough = acknowledged.acquire_many(20);
        drop(within_limit("20 acknowledged writes", enough).await);
        app.engine.drain(Duration::from_secs(30)).await
    };
    let code = async |socket: &mut Socket| loop {
        if let Err(code) = socket.next().await {
            return code;
        }
    };
    let writers = join_all((0..8).map(writer));
    let (names, drained, code, feed_code) =
        tokio::join!(writers, drain, code(&mut socket), code(&mut feed));
    assert!(
        drained.is_complete(),
        "requests and sockets end within the deadline"
    );
    assert_eq!((code, feed_code), (1012, 1012));
    assert!(!app.engine.is_ready());
    // Reads go on: the users are those of the acknowledged writes, and no others.
    let users = app
        .engine
        .collection::<User>("users")
        .list(None, 10_000)
        .await;
    let users = users
        .unwrap()
        .into_iter()
        .map(|user| user.fields.first_name);
    let mut names = names.concat();
    assert!(names.len() >= 20);
    names.sort();
    let mut stored: Vec<String> = users.collect();
    stored.sort();
    assert_eq!(stored, names);
    let read = app.request("GET", "/api/users/").send().await.unwrap();
    assert_eq!(read.status(), 200);
}
