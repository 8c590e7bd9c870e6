//! Requests to open a WebSocket.

use crate::app::{App, on_every_store};

use super::ask;
use super::wire::{Frame, Wire};

on_every_store!(w38_a_frame_may_come_with_the_handshake);

const PATH: &str = "/ws/user-updates/";
const GOOD: [(&str, &str); 5] = [
    ("host", "app.example:8000"),
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A valid handshake with these headers instead of those with the same names. An empty value removes the header.
pub(super) fn request(changed: &[(&str, &str)]) -> Vec<u8> {
    request_as("GET", "HTTP/1.1", changed)
}

fn request_as(method: &str, version: &str, changed: &[(&str, &str)]) -> Vec<u8> {
    let kept = GOOD
        .iter()
        .filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
    let headers = kept.chain(changed).filter(|(_, value)| !value.is_empty());
    let headers = headers.map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers: String = headers.collect();
    format!("{method} {PATH} {version}\r\n{headers}\r\n").into()
}

pub(super) async fn every_bad_handshake_is_refused(apps: &[App]) {
    let version_13 = Some(("sec-websocket-version", "13"));
    let upgrade = Some(("upgrade", "websocket"));
    let huge = "v".repeat(20_000);
    let refused = |name: &'static str, changed: &[(&str, &str)], status: u16| {
        (name, request(changed), status, None)
    };
    let origin = |origin: &'static str| refused(origin, &[("origin", origin)], 403);
    let rows = [
        ("no Upgrade", request(&[("upgrade", "")]), 426, upgrade),
        (
            "another Upgrade",
            request(&[("upgrade", "h2c")]),
            426,
            upgrade,
        ),
        ("HTTP/1.0", request_as("GET", "HTTP/1.0", &[]), 426, upgrade),
        (
            "version 8",
            request(&[("sec-websocket-version", "8")]),
            426,
            version_13,
        ),
        (
            "version 013",
            request(&[("sec-websocket-version", "013")]),
            426,
            version_13,
        ),
        (
            "POST",
            request_as("POST", "HTTP/1.1", &[]),
            405,
            Some(("allow", "GET")),
        ),
        (
            "PUT",
            request_as("PUT", "HTTP/1.1", &[]),
            405,
            Some(("allow", "GET")),
        ),
        refused("no Connection", &[("connection", "")], 400),
        refused("another Connection", &[("connection", "close")], 400),
        refused("no version", &[("sec-websocket-version", "")], 400),
        refused("no key", &[("sec-websocket-key", "")], 400),
        refused("a key of 3 bytes", &[("sec-websocket-key", "AAAA")], 400),
        refused(
            "a key of 17 bytes",
            &[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAAA=")],
            400,
        ),
        refused(
            "a key that is not base64",
            &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=!")],
            400,
        ),
        refused(
            "two keys",
            &[
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
            400,
        ),
        refused("H44 20 KB of headers", &[("cookie", &huge)], 431),
        origin("https://evil.example"),
        origin("null"),
        origin("https://friend.example.evil.example"),
        origin("https://evil.example/https://friend.example"),
        origin("https://sub.friend.example"),
        origin("http://friend.example"),
        origin("https://friend.example:444"),
        origin("http://app.example"),
        origin("http://app.example:8001"),
        origin("http://app.example:8000.evil.example"),
        origin("http://app.example:8000@evil.example"),
        origin("app.example:8000"),
        refused(
            "W37 two origins",
            &[
                ("origin", "https://friend.example"),
                ("origin", "https://evil.example"),
            ],
            403,
        ),
    ];
    for (name, request, status, header) in rows {
        let answer = ask(apps, name, &request).await;
        assert_eq!(answer.status, status, "{name}");
        answer.problem(name);
        assert_eq!(answer.header("sec-websocket-accept"), None, "{name}");
        if let Some((header, value)) = header {
            assert_eq!(answer.header(header), Some(value), "{name}");
        }
    }
    // Without Host. Some servers refuse that before any handler.
    for app in apps {
        let mut wire = Wire::open(app.address).await;
        wire.send(&request(&[("host", "")])).await;
        assert_eq!(wire.answer().await.status, 400);
    }
}

pub(super) async fn unusual_handshakes_are_accepted(apps: &[App]) {
    let v1 = Some("fieldsync.v1");
    for (name, changed, speaks) in [
        ("W36 no subprotocol: the plain feed", vec![], None),
        (
            "W36 an unknown subprotocol is not echoed",
            vec![("sec-websocket-protocol", "S3NT")],
            None,
        ),
        (
            "W36 two subprotocols",
            vec![("sec-websocket-protocol", "S3NT, fieldsync.v1")],
            v1,
        ),
        (
            "W36 two subprotocols in two headers",
            vec![
                ("sec-websocket-protocol", "S3NT"),
                ("sec-websocket-protocol", "fieldsync.v1"),
            ],
            v1,
        ),
        (
            "W36 the name of a subprotocol is case-sensitive",
            vec![("sec-websocket-protocol", "Fieldsync.V1")],
            None,
        ),
        (
            "W13 an unsupported extension",
            vec![(
                "sec-websocket-extensions",
                "permessage-deflate; client_max_window_bits",
            )],
            None,
        ),
        (
            "W13 an extension with bad parameters",
            vec![(
                "sec-websocket-extensions",
                "permessage-deflate; server_max_window_bits=99",
            )],
            None,
        ),
        (
            "W37 the server's own origin",
            vec![("origin", "http://app.example:8000")],
            None,
        ),
        (
            "W37 the server's own origin, by a proxy that names the scheme of the WebSocket",
            vec![
                ("origin", "http://app.example:8000"),
                ("x-forwarded-proto", "ws"),
            ],
            None,
        ),
        (
            "W37 the server's own origin, by two proxies",
            vec![
                ("origin", "https://app.example:8000"),
                ("x-forwarded-proto", "WSS, http"),
            ],
            None,
        ),
        (
            "W37 the server's own origin, by a proxy that names no scheme",
            vec![
                ("origin", "https://app.example:8000"),
                ("x-forwarded-proto", ""),
            ],
            None,
        ),
        (
            "W37 the server's own origin in capitals",
            vec![("origin", "HTTP://APP.EXAMPLE:8000")],
            None,
        ),
        (
            "W37 an origin that the app allows",
            vec![("origin", "https://friend.example")],
            None,
        ),
        (
            "tokens in capitals",
            vec![("upgrade", "WebSocket"), ("connection", "UPGRADE")],
            None,
        ),
    ] {
        let answer = ask(apps, name, &request(&changed)).await;
        assert_eq!(answer.status, 101, "{name}");
        // RFC 6455, section 1.3.
        let accept = answer.header("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{name}");
        assert_eq!(answer.header("sec-websocket-protocol"), speaks, "{name}");
        assert_eq!(answer.header("sec-websocket-extensions"), None, "{name}");
    }
}

async fn w38_a_frame_may_come_with_the_handshake(app: App) {
    let mut bytes = request(&[("sec-websocket-protocol", "fieldsync.v1")]);
    bytes.extend(super::frames::text(
        r#"{"type":"subscribe","topic":"users"}"#,
    ));
    let mut wire = Wire::open(app.address).await;
    wire.send(&bytes).await;
    assert_eq!(wire.answer().await.status, 101);
    for expected in ["subscribed", "snapshot", "live"] {
        let Frame::Text(message) = wire.frame().await else {
            panic!("a message")
        };
        assert_eq!(message["type"], expected);
    }
}
