//! The handshake, the first frames and the close.

use std::time::{Duration, Instant};

use crate::app::App;
use crate::raw::{Raw, frame, handshake};

#[tokio::test(flavor = "multi_thread")]
async fn the_response_to_a_handshake_has_the_headers_of_the_core_and_no_others() {
    let app = App::start().await;
    let mut raw = Raw::connect(&app).await;
    raw.send(handshake("")).await;
    let head = raw.head().await;
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "HTTP/1.1 101 Switching Protocols");
    lines.retain(|line| !line.starts_with("date: "));
    lines.sort_unstable();
    let expected = [
        "connection: upgrade",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: fieldsync.v1",
        "upgrade: websocket",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_no_handshake_is_refused_with_a_problem() {
    let app = App::start().await;
    let get = |from: &str, to: &str| handshake("").replace(from, to);
    let body = "transfer-encoding: chunked\r\n";
    for (request, status) in [
        (get("GET", "POST"), "405 "),
        (get("HTTP/1.1", "HTTP/1.0"), "426 "),
        (get("upgrade: websocket\r\n", ""), "426 "),
        // actix takes neither for a handshake, and would not pass on the frames that follow.
        (get("upgrade: websocket", "upgrade: websocket, h2c"), "426 "),
        (handshake(body), "426 "),
        (get("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400 "),
        (handshake("origin: https://evil.example\r\n"), "403 "),
    ] {
        let mut raw = Raw::connect(&app).await;
        raw.send(&request).await;
        let head = raw.head().await;
        assert!(head[9..].starts_with(status), "{request}{head}");
        assert!(
            head.contains("\r\ncontent-type: application/problem+json\r\n"),
            "{head}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_sent_with_the_handshake_is_read() {
    let app = App::start().await;
    let mut raw = Raw::connect(&app).await;
    let subscribe = frame(1, br#"{"type":"subscribe","topic":"users"}"#);
    raw.send([handshake("").into_bytes(), subscribe].concat())
        .await;
    raw.until(r#""type":"live""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_a_drain_closes_websockets_with_1012_and_then_their_tcp_connections() {
    let app = App::start().await;
    let mut raw = Raw::socket(&app, "").await;
    let engine = app.engine.clone();
    let drain = tokio::spawn(async move { engine.drain(Duration::from_secs(5)).await });
    let close = raw.bytes(4).await;
    assert_eq!(
        (close[0], u16::from_be_bytes([close[2], close[3]])),
        (0x88, 1012)
    );
    raw.send(frame(8, &1012_u16.to_be_bytes())).await;
    let begun = Instant::now();
    raw.rest().await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(drain.await.unwrap().is_complete());
}
