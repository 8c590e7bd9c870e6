//! What the demo's server refuses by itself, before any route.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Response;

use crate::demo::{Demo, on_every_server};

use super::wire::Wire;

on_every_server!(half_a_request_is_closed_within_ten_seconds);

/// The frameworks, in the order of the tables' columns.
const SERVERS: [&str; 2] = ["axum", "actix"];

fn start(server: &str) -> Demo {
    Demo::start("memory:", &["--server", server])
}

async fn get(demo: &Demo, path: &str) -> Response {
    reqwest::get(demo.url(path)).await.unwrap()
}

/// Sends a request that each framework refuses in its own way, before any handler, and closes.
async fn check(demos: &[Demo; 2], name: &str, request: &str, statuses: [u16; 2]) {
    let answers = demos.iter().map(async |demo| {
        let mut wire = Wire::open(&demo.address).await;
        wire.send(request.as_bytes()).await;
        let answer = wire.answer().await;
        assert!(wire.is_closed().await, "{name}");
        answer.status
    });
    assert_eq!(join_all(answers).await, statuses, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_and_closed() {
    let demos = SERVERS.map(start);
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
    for (name, request, statuses) in [
        ("a URI of 70 KB", long, [414, 400]),
        ("150 headers", many, [431, 431]),
        ("a header of 128 KiB", huge, [431, 431]),
        (
            "two Content-Lengths",
            format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
            [400, 400],
        ),
        (
            "a negative Content-Length",
            format!("{post}content-length: -2\r\n\r\n{{}}"),
            [400, 400],
        ),
        (
            "NUL in a header",
            format!("{post}x-y: a\0b\r\n\r\n"),
            [400, 400],
        ),
        (
            "a space in a header's name",
            format!("{post}x y: a\r\n\r\n"),
            [400, 400],
        ),
        (
            "a header on two lines",
            format!("{post}x-y: a\r\n b\r\n\r\n"),
            [400, 400],
        ),
        (
            "no HTTP at all",
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{3}\r\n\r\n".into(),
            [400, 400],
        ),
        (
            "HTTP/3.0",
            "GET /api/users/ HTTP/3.0\r\nhost: x\r\n\r\n".into(),
            [400, 400],
        ),
    ] {
        check(&demos, name, &request, statuses).await;
    }
    for demo in &demos {
        let users: Vec<serde_json::Value> = get(demo, "/api/users/").await.json().await.unwrap();
        assert_eq!(users.len(), 2);
    }
}

/// RFC 9112, section 6.1: such a request may be refused, as actix does, or answered by its chunks alone, as hyper does; the
/// connection is closed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_smuggled_behind_a_body_of_two_lengths_is_not_heard() {
    let demos = SERVERS.map(start);
    let [chunked, length] = ["transfer-encoding: chunked\r\n", "content-length: 2\r\n"];
    let behind = "DELETE /api/users/1/ HTTP/1.1\r\nhost: x\r\n\r\n";
    for both in [[chunked, length], [length, chunked]] {
        let head = "POST /api/users/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let body = "2\r\n{}\r\n0\r\n\r\n";
        let request = format!("{head}{}\r\n{body}{behind}", both.concat());
        check(&demos, &both.concat(), &request, [201, 400]).await;
    }
    for demo in &demos {
        assert_eq!(get(demo, "/api/users/1/").await.status(), 200);
    }
}

async fn half_a_request_is_closed_within_ten_seconds(server: &str) {
    let demo = start(server);
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
    join_all(halves).await;
}
