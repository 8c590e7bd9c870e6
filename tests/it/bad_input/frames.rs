//! Frames and messages on a WebSocket.

use futures_util::future::join_all;

use crate::app::{App, on_every_store};

use super::wire::{Frame, Wire};

on_every_store!(
    w7_text_that_is_not_utf_8_is_refused_before_the_frame_ends,
    w11_a_frame_that_announces_too_many_bytes_is_refused_at_its_header,
    w12_the_size_limit_applies_to_all_fragments_together,
    w14_the_third_malformed_message_closes_the_connection,
    w19_a_topic_can_be_subscribed_to_once,
    w23_too_many_messages_close_the_connection,
    w24_pings_are_answered_and_frames_after_a_close_are_ignored,
);

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame with a masking key of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..0x10000 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

pub(super) fn text(text: &str) -> Vec<u8> {
    frame(FIN | TEXT, text.as_bytes())
}

/// The header of a frame that announces this length, as 64 bits.
fn announced(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat()
}

/// Sends these bytes, and returns the code of the close frame that answers them. The connection must end after it.
async fn closed_by(app: &App, name: &str, bytes: &[u8]) -> Option<u16> {
    let mut wire = Wire::upgraded(app.address).await;
    wire.send(bytes).await;
    let code = match wire.frame().await {
        Frame::Close(code) => code,
        other => panic!("{name}: {other:?}"),
    };
    // Completes the closing handshake, unless the bytes contained a close frame.
    wire.send(&frame(FIN | CLOSE, b"")).await;
    assert_eq!(wire.frame().await, Frame::End, "{name}");
    code
}

pub(super) async fn every_bad_frame_closes_the_connection(apps: &[App]) {
    let mut rows = vec![
        (
            "W1 a frame that is not masked",
            vec![FIN | TEXT, 2, b'{', b'}'],
            1002,
        ),
        ("W4 a ping of 126 bytes", frame(FIN | PING, &[0; 126]), 1002),
        (
            "W4 a close of 126 bytes",
            frame(FIN | CLOSE, &[3; 126]),
            1002,
        ),
        ("W4 a fragmented ping", frame(PING, b""), 1002),
        ("W4 a fragmented close", frame(CLOSE, b""), 1002),
        (
            "W5 a continuation without a start",
            frame(FIN | CONTINUATION, b"x"),
            1002,
        ),
        (
            "W5 a text between fragments of a text",
            [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat(),
            1002,
        ),
        (
            "W5 binary data between fragments of a text",
            [frame(TEXT, b"{"), frame(FIN | BINARY, b"}")].concat(),
            1002,
        ),
        (
            "W6 a short length in two bytes",
            vec![FIN | TEXT, 0x80 | 126, 0, 2, 0, 0, 0, 0, b'{', b'}'],
            1002,
        ),
        (
            "W6 a short length in eight bytes",
            [announced(FIN | TEXT, 2), b"{}".to_vec()].concat(),
            1002,
        ),
        ("W7 not UTF-8", frame(FIN | TEXT, b"\xff"), 1007),
        (
            "W7 an overlong encoding",
            frame(FIN | TEXT, b"\xc0\xaf"),
            1007,
        ),
        ("W7 a surrogate", frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
        ("W7 half a character", frame(FIN | TEXT, b"\xe2\x82"), 1007),
        (
            "W7 half a character in each of two fragments",
            [frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"\xe2")].concat(),
            1007,
        ),
        ("W10 binary", frame(FIN | BINARY, b"{}"), 1003),
        (
            "W10 binary in fragments",
            [frame(BINARY, b"{"), frame(FIN | CONTINUATION, b"}")].concat(),
            1003,
        ),
        ("W11 65,537 bytes", frame(FIN | TEXT, &[b' '; 65_537]), 1009),
        (
            "W13 compressed data without the extension",
            frame(FIN | 0x40 | TEXT, b"\xff\xff"),
            1002,
        ),
    ];
    rows.extend(
        [0x10, 0x20, 0x40].map(|bit| ("W2 a reserved bit", frame(FIN | bit | TEXT, b"{}"), 1002)),
    );
    rows.extend(
        [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]
            .map(|opcode| ("W3 a reserved opcode", frame(FIN | opcode, b""), 1002)),
    );
    let rows = rows
        .into_iter()
        .map(|(name, bytes, code)| (name, bytes, Some(code)));
    let rows: Vec<_> = rows.chain(closes()).collect();
    let everywhere = apps
        .iter()
        .flat_map(|app| rows.iter().map(move |row| (app, row)));
    // All at the same time, because actix takes a second to close.
    join_all(everywhere.map(async |(app, (name, bytes, code))| {
        let closed = closed_by(app, name, bytes).await;
        assert_eq!(closed, *code, "{name} by {:?}", app.server);
    }))
    .await;
}

/// Close frames, and the codes that answer them.
fn closes() -> impl Iterator<Item = (&'static str, Vec<u8>, Option<u16>)> {
    let close =
        |code: u16, reason: &[u8]| frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat());
    let good = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ];
    let bad = [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ];
    let good = good.map(|code| ("W9", close(code, b"bye"), Some(code)));
    let bad = bad.map(|code| ("W8", close(code, b""), Some(1002)));
    let others = [
        ("W9 no code", frame(FIN | CLOSE, b""), None),
        ("W8 one byte", frame(FIN | CLOSE, &[3]), Some(1002)),
        (
            "W8 a reason that is not UTF-8",
            close(1000, b"\xff"),
            Some(1007),
        ),
    ];
    good.into_iter().chain(bad).chain(others)
}

pub(super) async fn bad_messages_are_answered_and_the_connection_stays(apps: &[App]) {
    for (name, message, kind) in [
        ("W14 nonsense", "S3NT".to_owned(), "bad-message"),
        ("W14 an empty message", String::new(), "bad-message"),
        ("W14 an array", "[]".to_owned(), "bad-message"),
        ("W14 null", "null".to_owned(), "bad-message"),
        (
            "W15 an unknown type",
            r#"{"type":"S3NT","topic":"users"}"#.to_owned(),
            "unknown-type",
        ),
        (
            "W15 a write",
            r#"{"type":"user_update","topic":"users","data":{"action":"update"}}"#.to_owned(),
            "unknown-type",
        ),
        (
            "W15 no type",
            r#"{"topic":"users"}"#.to_owned(),
            "unknown-type",
        ),
        (
            "W15 no topic",
            r#"{"type":"subscribe"}"#.to_owned(),
            "invalid-message",
        ),
        (
            "W15 a topic that is a number",
            r#"{"type":"subscribe","topic":1}"#.to_owned(),
            "invalid-message",
        ),
        (
            "W15 a cursor that is a number",
            r#"{"type":"subscribe","topic":"users","since":1}"#.to_owned(),
            "invalid-message",
        ),
        (
            "W16 a duplicate name",
            r#"{"type":"subscribe","topic":"S3NT","topic":"users"}"#.to_owned(),
            "bad-message",
        ),
        (
            "W16 a lone surrogate",
            r#"{"type":"subscribe","topic":"\ud800"}"#.to_owned(),
            "bad-message",
        ),
        (
            "W16 NUL",
            r#"{"type":"subscribe","topic":"users\u0000"}"#.to_owned(),
            "bad-message",
        ),
        (
            "W16 a number that would be rounded",
            r#"{"type":"subscribe","topic":"users","since":1e400}"#.to_owned(),
            "invalid-message",
        ),
        (
            "W16 10,000 levels",
            format!("{{\"type\":{}", "[".repeat(10_000)),
            "bad-message",
        ),
        (
            "W16 __proto__",
            r#"{"__proto__":{"type":"subscribe"},"topic":"users"}"#.to_owned(),
            "unknown-type",
        ),
        (
            "W18 an unknown collection",
            r#"{"type":"subscribe","topic":"S3NT"}"#.to_owned(),
            "not-found",
        ),
        (
            "W18 a table of fieldsync's own",
            r#"{"type":"subscribe","topic":"fieldsync_changes"}"#.to_owned(),
            "not-found",
        ),
        (
            "W18 a topic of 60 KB",
            format!(r#"{{"type":"subscribe","topic":"{}"}}"#, "x".repeat(60_000)),
            "not-found",
        ),
        (
            "W22 a malformed cursor",
            r#"{"type":"subscribe","topic":"users","since":"S3NT"}"#.to_owned(),
            "malformed-cursor",
        ),
    ] {
        let errors = join_all(apps.iter().map(async |app| {
            let mut wire = Wire::upgraded(app.address).await;
            wire.send(&text(&message)).await;
            let error = wire.frame().await;
            wire.send(&text(r#"{"type":"subscribe","topic":"users"}"#))
                .await;
            let Frame::Text(message) = wire.frame().await else {
                panic!("{name}: a message")
            };
            assert_eq!(message["type"], "subscribed", "{name}");
            error
        }));
        let errors = errors.await;
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        let Frame::Text(error) = &errors[0] else {
            panic!("{name}: an error")
        };
        let problem = &error["problem"];
        assert_eq!(error["type"], "error", "{name}");
        assert_eq!(problem["type"], format!("urn:fieldsync:{kind}"), "{name}");
        assert!(!problem.to_string().contains("S3NT"), "{name}: {problem}");
    }
}

async fn w7_text_that_is_not_utf_8_is_refused_before_the_frame_ends(app: App) {
    // The frame announces ten bytes. The first two are not UTF-8, and the others are never sent.
    let begun = [&frame(FIN | TEXT, &[b' '; 10])[..6], b"\xff\xff"].concat();
    assert_eq!(closed_by(&app, "within a frame", &begun).await, Some(1007));
    assert_eq!(
        closed_by(&app, "within a message", &frame(TEXT, b"\xff")).await,
        Some(1007)
    );
}

async fn w11_a_frame_that_announces_too_many_bytes_is_refused_at_its_header(app: App) {
    // The payload is never sent.
    let lengths = [65_537, 1 << 20, 1 << 40, 1 << 62, 1 << 63, u64::MAX];
    let firsts = [FIN | TEXT, TEXT, FIN | BINARY];
    let heads = lengths
        .iter()
        .flat_map(|length| firsts.map(|first| announced(first, *length)));
    join_all(heads.map(async |head| {
        let closed = closed_by(&app, "W11", &head).await;
        assert_eq!(closed, Some(1009), "{head:?}");
    }))
    .await;
}

async fn w12_the_size_limit_applies_to_all_fragments_together(app: App) {
    // Many small fragments within the limit are one message.
    let message = r#"{"type":"subscribe","topic":"users"}"#.as_bytes();
    let mut wire = Wire::upgraded(app.address).await;
    let mut bytes = frame(TEXT, b"");
    for byte in message {
        bytes.extend(frame(CONTINUATION, &[*byte]));
        bytes.extend(frame(CONTINUATION, b"").repeat(300));
        bytes.extend(frame(FIN | PONG, b""));
    }
    bytes.extend(frame(FIN | CONTINUATION, b""));
    wire.send(&bytes).await;
    let Frame::Text(message) = wire.frame().await else {
        panic!("a message")
    };
    assert_eq!(message["type"], "subscribed");
    // 10,000 fragments that exceed the limit together.
    let fragments = [
        frame(TEXT, b"\""),
        frame(CONTINUATION, b"1234567").repeat(10_000),
    ]
    .concat();
    assert_eq!(closed_by(&app, "W12", &fragments).await, Some(1009));
}

async fn w14_the_third_malformed_message_closes_the_connection(app: App) {
    let mut wire = Wire::upgraded(app.address).await;
    wire.send(&text("S3NT").repeat(5)).await;
    for _ in 0..3 {
        assert!(matches!(wire.frame().await, Frame::Text(_)));
    }
    assert_eq!(wire.frame().await, Frame::Close(Some(1008)));
    assert_eq!(wire.frame().await, Frame::End);
}

async fn w19_a_topic_can_be_subscribed_to_once(app: App) {
    let mut wire = Wire::upgraded(app.address).await;
    let subscribe = text(r#"{"type":"subscribe","topic":"users"}"#);
    let unsubscribe = text(r#"{"type":"unsubscribe","sub":"users"}"#);
    // Unsubscribing from a topic without a subscription does nothing.
    wire.send(&[unsubscribe.clone(), subscribe.clone(), subscribe.clone()].concat())
        .await;
    let mut kinds = Vec::new();
    while kinds.len() < 5 {
        let Frame::Text(message) = wire.frame().await else {
            panic!("a message")
        };
        kinds.push(message["type"].as_str().unwrap().to_owned());
    }
    kinds.sort();
    assert_eq!(
        kinds,
        ["error", "live", "snapshot", "subscribed", "unsubscribed"]
    );
    wire.send(&[unsubscribe, subscribe].concat()).await;
    for kind in ["unsubscribed", "subscribed", "snapshot"] {
        let Frame::Text(message) = wire.frame().await else {
            panic!("a message")
        };
        assert_eq!(message["type"], kind);
    }
}

async fn w23_too_many_messages_close_the_connection(app: App) {
    let mut wire = Wire::upgraded(app.address).await;
    let subscribe = |number| {
        text(&format!(
            r#"{{"type":"subscribe","topic":"users/{number}"}}"#
        ))
    };
    let all: Vec<u8> = (1..=10_000).flat_map(subscribe).collect();
    wire.send(&all).await;
    let (mut snapshots, mut refused) = (0, 0);
    let code = loop {
        match wire.frame().await {
            Frame::Text(message) if message["type"] == "snapshot" => snapshots += 1,
            Frame::Text(message) if message["type"] == "error" => {
                assert_eq!(message["problem"]["type"], "urn:fieldsync:limit");
                refused += 1;
            }
            Frame::Text(_) => {}
            Frame::Close(code) => break code,
            other => panic!("{other:?}"),
        }
    };
    // Each subscription beyond the limit is refused, until the messages themselves are too many.
    assert_eq!(code, Some(1008));
    assert!(snapshots <= 1000, "{snapshots}");
    assert!((900..1500).contains(&refused), "{refused}");
    // Other connections are served as before.
    let mut other = Wire::upgraded(app.address).await;
    other
        .send(&text(r#"{"type":"subscribe","topic":"users"}"#))
        .await;
    assert!(matches!(other.frame().await, Frame::Text(_)));
}

async fn w24_pings_are_answered_and_frames_after_a_close_are_ignored(app: App) {
    let mut wire = Wire::upgraded(app.address).await;
    let unasked = frame(FIN | PONG, b"nobody asked");
    wire.send(&unasked.repeat(800)).await;
    wire.send(&frame(FIN | PING, b"").repeat(800)).await;
    for _ in 0..800 {
        assert_eq!(wire.frame().await, Frame::Pong);
    }
    let close = frame(FIN | CLOSE, &1000_u16.to_be_bytes());
    wire.send(&[close, text(r#"{"type":"subscribe","topic":"users"}"#)].concat())
        .await;
    assert_eq!(wire.frame().await, Frame::Close(Some(1000)));
    assert_eq!(wire.frame().await, Frame::End);
    // Beyond what a client may send they close the connection, as messages do.
    let mut wire = Wire::upgraded(app.address).await;
    wire.send(&unasked.repeat(10_000)).await;
    assert_eq!(wire.frame().await, Frame::Close(Some(1008)));
}
