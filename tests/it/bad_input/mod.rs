//! Bad input, as bytes on the wire: each row of a table is a request, or a frame, and the reply to it. Every store and web
//! framework must reply alike.
//!
//! `tests/README.md` says what the numbers of the cases mean, and where the other cases are tested.

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
async fn every_framework_and_store_replies_to_bad_input_as_the_tables_say() {
    let apps = everywhere().await;
    for app in &apps {
        assert_eq!(app.create_user("John", "Doe").await, 1);
    }
    let before = state(&apps).await;
    requests::every_bad_request_is_refused(&apps).await;
    handshakes::every_bad_handshake_is_refused(&apps).await;
    frames::every_bad_frame_closes_the_socket(&apps).await;
    frames::bad_messages_are_answered_and_the_socket_stays_open(&apps).await;
    assert_eq!(state(&apps).await, before);
    requests::unusual_requests_are_accepted(&apps).await;
    handshakes::unusual_handshakes_are_accepted(&apps).await;
}

/// Starts the app under every framework and on every store.
async fn everywhere() -> Vec<App> {
    let places = [
        (Server::Axum, On::Memory),
        (Server::Axum, On::Sqlite),
        (Server::Actix, On::Sqlite),
        #[cfg(feature = "services")]
        (Server::Axum, On::Postgres),
        #[cfg(feature = "services")]
        (Server::Actix, On::Postgres),
        (Server::Poem, On::Memory),
    ];
    join_all(places.map(|(server, on)| App::start(server, on, builder()))).await
}

/// All records, and the positions in the logs: a refused request changes neither.
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

/// Sends a request to each app, checks that all replies are alike, and returns the first.
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
            // The router of poem decodes paths, and refuses those that are not UTF-8.
            assert_eq!((name, other.status), ("%ff", 400));
            continue;
        }
        assert_eq!(other.likeness(), answer.likeness(), "{name} by {server:?}");
    }
    answer
}
