//! The limits on waiting for a peer, with a paused clock and streams in memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fieldsync::adapter::{accept, handle, serve};
use fieldsync::{Collection, Edit, Engine, MemoryStore, Principal};
use http::request::Parts;
use http_body::{Body, Frame};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How often a connection is pinged.
const HEARTBEAT: Duration = Duration::from_secs(15);

async fn engine() -> Engine {
    let notes =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    let notes = Collection::from_schema("notes", &notes).open_to_everyone();
    let builder = Engine::builder()
        .collection(notes)
        .store(MemoryStore::new());
    builder.start().await.unwrap()
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// Opens a WebSocket on a stream that buffers this many bytes between server and peer.
fn open(engine: &Engine, buffer: usize) -> (DuplexStream, JoinHandle<()>) {
    let headers = [
        ("host", "x"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "fieldsync.v1"),
    ];
    let (response, accepted) = accept(engine, &head("GET", "/", &headers));
    assert_eq!(response.status(), 101);
    let (peer, io) = tokio::io::duplex(buffer);
    let (engine, principal) = (engine.clone(), Principal::anonymous());
    (
        peer,
        tokio::spawn(serve(engine, accepted.unwrap(), principal, io)),
    )
}

/// A frame with a masking key of zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

async fn subscribe(peer: &mut DuplexStream) {
    let message = br#"{"type":"subscribe","topic":"notes"}"#;
    peer.write_all(&frame(1, message)).await.unwrap();
}

/// A body of which nothing arrives.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

async fn fill(engine: &Engine, bytes: usize) {
    let create = || Edit::create("notes", json!({"text": "x".repeat(1000)}));
    let edits = (0..bytes / 1000).map(|_| create()).collect();
    engine.transaction(edits).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_pings_is_closed_within_two_heartbeats() {
    let engine = engine().await;
    let (peer, serving) = open(&engine, 1 << 16);
    let begun = Instant::now();
    serving.await.unwrap();
    assert!(begun.elapsed() <= 2 * HEARTBEAT, "{:?}", begun.elapsed());
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_stays_connected() {
    let engine = engine().await;
    let (mut peer, serving) = open(&engine, 1 << 16);
    for _ in 0..20 {
        let mut ping = [0; 2];
        timeout(2 * HEARTBEAT, peer.read_exact(&mut ping))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ping, [0x89, 0]);
        peer.write_all(&frame(10, b"")).await.unwrap();
    }
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_closed_and_one_that_reads_slowly_is_not() {
    let engine = engine().await;
    fill(&engine, 60_000).await;
    let (mut stalled, closed) = open(&engine, 1000);
    let (mut slow, served) = open(&engine, 1000);
    subscribe(&mut stalled).await;
    subscribe(&mut slow).await;
    // At 100 bytes per second the snapshot of 60 KB takes ten minutes.
    let (mut read, begun) = (0, Instant::now());
    while read < 60_000 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut bytes = [0; 100];
        read += slow.read_exact(&mut bytes).await.unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_secs(600));
    assert!(!served.is_finished(), "the slow reader is still served");
    assert!(closed.is_finished(), "the stalled one is not");
}

#[tokio::test(start_paused = true)]
async fn s_a_peer_that_reads_nothing_does_not_delay_a_drain() {
    let engine = engine().await;
    fill(&engine, 200_000).await;
    let (mut stalled, _serving) = open(&engine, 1000);
    let (_silent, _served) = open(&engine, 1000);
    subscribe(&mut stalled).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(engine.drain(Duration::from_secs(10)).await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_answered_with_408() {
    let engine = engine().await;
    let headers = [("content-type", "application/json")];
    let head = head("POST", "/notes/", &headers);
    let response = timeout(
        Duration::from_secs(11),
        handle(&engine, Principal::anonymous(), head, Endless),
    );
    let response = response.await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(response.headers()["connection"], "close");
}
