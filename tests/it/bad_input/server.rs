//! What the demo's server refuses by itself, before any route.

use std::time::{Duration, Instant};

use crate::demo::{Demo, on_every_server};

use super::wire::Wire;

on_every_server!(
    what_is_no_request_is_refused_and_closed,
    what_is_smuggled_behind_a_body_of_two_lengths_is_not_heard,
    half_a_request_is_closed_within_ten_seconds,
);

async fn what_is_no_request_is_refused_and_closed(server: &str) {
    let demo = Demo::start("memory:", &["--server", server]);
    let long = format!(
        "GET /api/users/?q={} HTTP/1.1\r\nhost: x\r\n\r\n",
        "q".repeat(70_000)
    );
    let many: String = (0..150)
        .map(|number| format!("x-{number}: v\r\n"))
        .collect();
    let many = format!("GET /api/users/ HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let huge = format!(
        "GET /api/users/ HTTP/1.1\r\nhost: x\r\ncookie: {}\r\n\r\n",
        "c".repeat(128 * 1024)
    );
    let post = "POST /api/users/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    // The statuses of hyper and of actix.
    for (name, request, by_axum, by_actix) in [
        ("a URI of 70 KB", long, 414, 400),
        ("150 headers", many, 431, 431),
        ("a header of 128 KiB", huge, 431, 431),
        (
            "two Content-Lengths",
            format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
            400,
            400,
        ),
        (
            "a negative Content-Length",
            format!("{post}content-length: -2\r\n\r\n{{}}"),
            400,
            400,
        ),
        (
            "NUL in a header",
            format!("{post}x-y: a\0b\r\n\r\n"),
            400,
            400,
        ),
        (
            "a space in a header's name",
            format!("{post}x y: a\r\n\r\n"),
            400,
            400,
        ),
        (
            "a header on two lines",
            format!("{post}x-y: a\r\n b\r\n\r\n"),
            400,
            400,
        ),
        (
            "no HTTP at all",
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{3}\r\n\r\n".into(),
            400,
            400,
        ),
        (
            "HTTP/3.0",
            "GET /api/users/ HTTP/3.0\r\nhost: x\r\n\r\n".into(),
            400,
            400,
        ),
    ] {
        let mut wire = Wire::open(&demo.address).await;
        wire.send(request.as_bytes()).await;
        let status = if server == "axum" { by_axum } else { by_actix };
        assert_eq!(wire.answer().await.status, status, "{name}");
        assert!(wire.is_closed().await, "{name}");
    }
    let users = reqwest::get(demo.url("/api/users/")).await.unwrap();
    let users: serde_json::Value = users.json().await.unwrap();
    assert_eq!(users.as_array().unwrap().len(), 2);
}

/// RFC 9112, section 6.1: such a request may be refused, as actix does, or answered by its chunks alone, as hyper does; the
/// connection is closed.
async fn what_is_smuggled_behind_a_body_of_two_lengths_is_not_heard(server: &str) {
    let demo = Demo::start("memory:", &["--server", server]);
    let [chunked, length] = ["transfer-encoding: chunked\r\n", "content-length: 2\r\n"];
    let behind = "DELETE /api/users/1/ HTTP/1.1\r\nhost: x\r\n\r\n";
    for both in [[chunked, length], [length, chunked]] {
        let head = "POST /api/users/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let body = "2\r\n{}\r\n0\r\n\r\n";
        let mut wire = Wire::open(&demo.address).await;
        wire.send(format!("{head}{}\r\n{body}{behind}", both.concat()).as_bytes())
            .await;
        let status = if server == "axum" { 201 } else { 400 };
        assert_eq!(wire.answer().await.status, status);
        assert!(wire.is_closed().await);
    }
    let john = reqwest::get(demo.url("/api/users/1/")).await.unwrap();
    assert_eq!(john.status(), 200);
}

async fn half_a_request_is_closed_within_ten_seconds(server: &str) {
    let demo = Demo::start("memory:", &["--server", server]);
    let head = "POST /api/users/ HTTP/1.1\r\nhost: x\r\n";
    let body = format!("{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{");
    let halves = ["", "GET /api/us", head, &body].map(async |half| {
        let mut wire = Wire::open(&demo.address).await;
        let begun = Instant::now();
        wire.send(half.as_bytes()).await;
        // It may be told why.
        wire.is_closed().await;
        let took = begun.elapsed();
        let limit = if half.ends_with('{') { 12 } else { 10 };
        assert!(took <= Duration::from_secs(limit), "{half:?} took {took:?}");
    });
    futures_util::future::join_all(halves).await;
}
