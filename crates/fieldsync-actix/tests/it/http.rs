//! The path of the scope that the routes are in, and request bodies that are not read.

use std::time::Duration;

use crate::app::App;
use crate::raw::Raw;

#[tokio::test(flavor = "multi_thread")]
async fn a_location_starts_with_the_scopes_path_as_it_was_sent() {
    let app = App::start().await;
    for prefix in ["/api", "/%61pi", "/of/a%2Fb", "/of/%C3%A4"] {
        let mut raw = Raw::connect(&app).await;
        raw.send(format!(
            "POST {prefix}/users HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n\r\n{{}}"
        ))
        .await;
        let head = raw.head().await;
        let location = format!("\r\nlocation: {prefix}/users/");
        assert!(head.contains(&location), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_that_never_ends_is_not_read_to_its_end() {
    let app = App::start().await;
    // The path is unknown; the body is too long; the method has no body.
    for (method, path, status) in [
        ("POST", "/api/users/1/2/", 404),
        ("POST", "/api/users/", 413),
        ("GET", "/api/users/", 200),
    ] {
        let mut raw = Raw::connect(&app).await;
        raw.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n"
        ))
        .await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        let (mut read, mut write) = raw.stream.into_split();
        let sends = async {
            use tokio::io::AsyncWriteExt as _;
            while write.write_all(chunk.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reads = async {
            use tokio::io::AsyncReadExt as _;
            let mut reply = Vec::new();
            // The connection of a client that is still sending may be reset.
            let _ = read.read_to_end(&mut reply).await;
            String::from_utf8_lossy(&reply).into_owned()
        };
        let both = async { tokio::join!(sends, reads).1 };
        let reply = tokio::time::timeout(Duration::from_secs(20), both).await;
        let reply = reply.expect("the connection is closed");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
}

/// Such a client would take the chunks' lengths for events.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_over_http_1_0_has_no_chunks() {
    let app = App::start().await;
    let mut raw = Raw::connect(&app).await;
    raw.send("GET /api/users/ HTTP/1.0\r\nhost: test\r\naccept: text/event-stream\r\n\r\n")
        .await;
    let head = raw.head().await.to_lowercase();
    assert!(
        head.starts_with("http/1.0 200 ") || head.starts_with("http/1.1 200 "),
        "{head}"
    );
    assert!(!head.contains("transfer-encoding"), "{head}");
    let mut body = [0; 100];
    tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut body)
        .await
        .unwrap();
    // Chunks have carriage returns, and events do not.
    assert!(!body.contains(&b'\r'), "{}", String::from_utf8_lossy(&body));
}
