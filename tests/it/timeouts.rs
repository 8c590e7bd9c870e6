//! The limits on waiting for a peer, with a paused clock and streams in memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fieldsync::adapter::{accept, handle, serve};
use fieldsync::{Collection, Edit, Engine, MemoryStore, Principal};
use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_websockets::Message;

use crate::app::Never;

/// How often a connection is pinged.
const HEARTBEAT: Duration = Duration::from_secs(15);

fn schema() -> Value {
    json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}})
}

async fn engine() -> Engine {
    let notes = Collection::from_schema("notes", &schema()).open_to_everyone();
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
    let (response, accepted) = accept(engine, &Principal::anonymous(), &head("GET", "/", &headers));
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
        // With the number of bytes that were written before it.
        let mut ping = [0; 2 + 8];
        timeout(2 * HEARTBEAT, peer.read_exact(&mut ping))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ping[..2], [0x89, 8]);
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

/// A link that carries this many bytes a second, from its end to the peer's.
fn slow_link(io: DuplexStream, bytes_per_second: usize) -> DuplexStream {
    let (peer, link) = tokio::io::duplex(100);
    let (mut from_server, mut to_server) = tokio::io::split(io);
    let (mut from_peer, mut to_peer) = tokio::io::split(link);
    tokio::spawn(async move { tokio::io::copy(&mut from_peer, &mut to_server).await });
    tokio::spawn(async move {
        let mut bytes = vec![0; bytes_per_second / 10];
        while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if to_peer.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    });
    peer
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_pong_waits_behind_what_is_on_its_way_is_not_closed() {
    let engine = engine().await;
    fill(&engine, 1_000_000).await;
    // The server has written everything at once, and the link carries it for 85 s. The ping is behind it.
    let (io, served) = open(&engine, 2_000_000);
    let mut peer = tokio_websockets::ClientBuilder::new().take_over(slow_link(io, 12_000));
    let subscribe = r#"{"type":"subscribe","topic":"notes"}"#;
    peer.send(Message::text(subscribe)).await.unwrap();
    let begun = Instant::now();
    loop {
        let message = peer
            .next()
            .await
            .expect("the peer is still served")
            .unwrap();
        if message
            .as_text()
            .is_some_and(|text| text.starts_with(r#"{"type":"live""#))
        {
            break;
        }
    }
    assert!(
        begun.elapsed() > Duration::from_secs(80),
        "{:?}",
        begun.elapsed()
    );
    // Then it answers every ping.
    let served = timeout(10 * HEARTBEAT, async {
        tokio::select! {
            _ = async { while peer.next().await.is_some() {} } => {}
            _ = served => {}
        }
    });
    assert!(served.await.is_err(), "the peer is still served");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_is_not_waited_for_longer_than_its_bytes_may_take() {
    let engine = engine().await;
    fill(&engine, 1_000_000).await;
    let (mut peer, served) = open(&engine, 2_000_000);
    subscribe(&mut peer).await;
    let begun = Instant::now();
    served.await.unwrap();
    // 1 MB at 10 KB/s, and two heartbeats.
    let limit = Duration::from_secs(110) + 2 * HEARTBEAT;
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn h_requests_that_wait_for_a_rule_that_hangs_are_limited() {
    let collection = |name: &str| Collection::from_schema(name, &schema());
    let engine = Engine::builder()
        .collection(collection("notes").authorize(Never))
        .collection(collection("open").open_to_everyone())
        .store(MemoryStore::new());
    let engine = engine.start().await.unwrap();
    let ask = async |path: &str| {
        let begun = Instant::now();
        let parts = head("GET", path, &[]);
        let reply = handle(&engine, Principal::anonymous(), parts, Endless).await;
        assert!(reply.status() != 503 || reply.headers().contains_key("retry-after"));
        (
            reply.status().as_u16(),
            begun.elapsed() < Duration::from_secs(1),
        )
    };
    let replies = join_all((0..2000).map(|_| ask("/notes/")));
    let others = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        ask("/open/").await
    };
    let (replies, other) = tokio::join!(replies, others);
    assert_eq!(
        other,
        (200, true),
        "another collection has a limit of its own"
    );
    let refused = replies
        .iter()
        .filter(|reply| **reply == (503, true))
        .count();
    let waited = replies
        .iter()
        .filter(|reply| **reply == (503, false))
        .count();
    assert_eq!((refused, waited), (1000, 1000));
}

#[tokio::test(start_paused = true)]
async fn an_event_source_whose_rule_hangs_is_told_to_come_back() {
    let notes = Collection::from_schema("notes", &schema()).authorize(Never);
    let engine = Engine::builder()
        .collection(notes)
        .store(MemoryStore::new());
    let engine = engine.start().await.unwrap();
    let ask = async |path: &str| {
        let parts = head("GET", path, &[("accept", "text/event-stream")]);
        handle(&engine, Principal::anonymous(), parts, Endless).await
    };
    // An `EventSource` would give up at a 503 for good.
    let (one, several) = tokio::join!(ask("/notes/"), ask("/?topic=notes"));
    for reply in [one, several] {
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()["content-type"], "text/event-stream");
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"retry: "), "{body:?}");
    }
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
