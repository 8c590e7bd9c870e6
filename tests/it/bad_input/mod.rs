//! Bad input, as bytes on the wire. Each row of a table is an input and the response that every framework gives to it.
//!
//! Rows that need more than one request are tests of their own: H26 and H31 in `rules.rs`, H38 to H40 in `http.rs`, H41 in
//! the stores' conformance, H45 and W22 in `live.rs` and `events.rs`, H47 in `faults/`, W24 in `frames.rs`, W31 and W32 in
//! `timeouts.rs`, W33 and W34 in `faults/stop.rs`, W35 in `rules.rs`.

mod frames;
mod handshakes;
mod requests;
mod server;
mod wire;

use futures_util::future::join_all;
use serde_json::Value;

use crate::app::{App, On, Server, builder};

use self::wire::{Answer, Wire};

#[tokio::test(flavor = "multi_thread")]
async fn all_frameworks_and_stores_give_the_responses_in_the_tables() {
    let apps = start_all().await;
    for app in &apps {
        assert_eq!(app.create_user("John", "Doe").await, 1);
    }
    let before = state(&apps).await;
    requests::every_bad_request_is_refused(&apps).await;
    handshakes::every_bad_handshake_is_refused(&apps).await;
    frames::every_bad_frame_closes_the_connection(&apps).await;
    frames::bad_messages_are_answered_and_the_connection_stays(&apps).await;
    assert_eq!(state(&apps).await, before);
    requests::unusual_requests_are_accepted(&apps).await;
    handshakes::unusual_handshakes_are_accepted(&apps).await;
}

/// The app under every framework and on every store.
async fn start_all() -> Vec<App> {
    let combinations = [
        (Server::Axum, On::Memory),
        (Server::Axum, On::Sqlite),
        (Server::Actix, On::Sqlite),
        #[cfg(feature = "services")]
        (Server::Axum, On::Postgres),
        #[cfg(feature = "services")]
        (Server::Actix, On::Postgres),
        (Server::Poem, On::Memory),
    ];
    join_all(combinations.map(|(server, on)| App::start(server, on, builder()))).await
}

/// All records and the positions of their logs. A refused request changes none of them.
async fn state(apps: &[App]) -> Vec<(Value, String)> {
    let paths = ["/api/users/", "/api/things/"];
    let all = apps
        .iter()
        .flat_map(|app| paths.map(|path| (app, path)))
        .map(async |(app, path)| {
            let reply = app.request("GET", path).send().await.unwrap();
            let cursor = reply.headers()["fieldsync-cursor"].to_str().unwrap();
            let cursor = cursor.to_owned();
            (reply.json().await.unwrap(), cursor)
        });
    join_all(all).await
}

/// Sends a request to each app, and returns their answer after checking that all answers are alike.
async fn ask(apps: &[App], name: &str, request: &[u8]) -> Answer {
    let answers = join_all(apps.iter().map(async |app| {
        let mut wire = Wire::open(app.address).await;
        wire.send(request).await;
        let answer = wire.answer().await;
        let connection = answer.header("connection").unwrap_or_default();
        let connection = connection.to_lowercase();
        let is_last = String::from_utf8_lossy(request).contains("\r\nconnection: close\r\n");
        if is_last || connection == "close" {
            assert!(wire.is_closed().await, "{name} by {:?}", app.server);
        }
        // RFC 9110, section 7.8.
        if answer.header("upgrade").is_some() {
            assert!(connection.contains("upgrade"), "{name} by {:?}", app.server);
        }
        (app.server, answer)
    }));
    let mut answers = answers.await.into_iter();
    let (_, answer) = answers.next().expect("an app");
    for (server, other) in answers {
        if server == Server::Poem && other.body == b"invalid path params" {
            // poem's router decodes paths, and refuses one that is not UTF-8 itself.
            assert_eq!((name, other.status), ("%ff", 400));
            continue;
        }
        assert_eq!(other.likeness(), answer.likeness(), "{name} by {server:?}");
    }
    answer
}
