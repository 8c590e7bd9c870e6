//! An orderly stop: SIGTERM and Ctrl-C.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::demo::{Demo, on_every_server, signal};
use crate::faults::load::Load;
use crate::socket::Socket;
use crate::tasks::within_limit;

on_every_server!(
    s_sigterm_and_ctrl_c_finish_requests_and_ask_sockets_to_reconnect,
    s_requests_and_sockets_that_hang_delay_a_stop_for_ten_seconds_at_most,
    s_a_second_ctrl_c_stops_the_server_at_once,
    s_d_a_stop_under_load_loses_no_acknowledged_edit,
);

/// The deadline of the demo's drain. A drain that completes takes far less.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

fn store(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("demo.db").display())
}

/// Waits for the server's close frame, and returns its code and reason.
async fn closed(socket: &mut Socket) -> (u16, String) {
    while let Some(message) = socket.stream.next().await {
        if let Some((code, reason)) = message.unwrap().as_close() {
            return (code.into(), reason.to_owned());
        }
    }
    panic!("the connection ends without a close frame");
}

/// Connects, and sends the head of a PATCH and the first half of its body.
async fn half_a_request(demo: &Demo, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&demo.address).await.unwrap();
    let head = format!(
        "PATCH /api/users/1/ HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        demo.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server has asked for the body, so the request has begun.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
        .write_all(&body.as_bytes()[..body.len() / 2])
        .await
        .unwrap();
    stream
}

/// Whether the server says that it is ready. A refused connection, and one that is reset before it is accepted, mean no.
async fn is_ready(demo: &Demo) -> bool {
    let reply = reqwest::get(demo.url("/readyz")).await;
    reply.is_ok_and(|reply| reply.status() == 200)
}

/// Checks a stop during which a request ends.
async fn check_drain(server: &str, how: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&store(&folder), &["--server", server]);
    let mut v1 = Socket::open_at(&demo.address, Some("fieldsync.v1"))
        .await
        .unwrap();
    v1.subscribe("users", None).await;
    v1.expect("snapshot").await;
    let mut feed = Socket::open_at(&demo.address, None).await.unwrap();
    let body = json!({"first_name": "Ada"}).to_string();
    let mut request = half_a_request(&demo, &body).await;
    assert!(is_ready(&demo).await);

    let begun = Instant::now();
    signal(how, &demo.process_id());
    demo.wait_for_log("Stopping");
    let drains = async { while is_ready(&demo).await {} };
    within_limit("a node that is not ready", drains).await;
    // The request is answered: it is done, or refused with a status that allows a retry.
    let rest = &body.as_bytes()[body.len() / 2..];
    request.write_all(rest).await.unwrap();
    let mut reply = String::new();
    request.read_to_string(&mut reply).await.unwrap();
    let saved = reply.starts_with("HTTP/1.1 200 ");
    assert!(
        saved || reply.starts_with("HTTP/1.1 503 ") && reply.contains("retry-after: 1"),
        "{reply}"
    );
    for socket in [&mut v1, &mut feed] {
        let (code, reason) = closed(socket).await;
        assert_eq!(code, 1012);
        let delay = reason.strip_prefix("retry-after-ms=").unwrap();
        assert!((200..3000).contains(&delay.parse::<u32>().unwrap()));
    }
    drop((v1, feed));
    assert_eq!(demo.ended().await.code(), Some(0));
    assert!(begun.elapsed() < DRAIN_TIMEOUT);

    demo.restart();
    let reply = reqwest::get(demo.url("/api/users/1/")).await.unwrap();
    let user: Value = reply.json().await.unwrap();
    assert_eq!(user["first_name"], if saved { "Ada" } else { "John" });
}

async fn s_sigterm_and_ctrl_c_finish_requests_and_ask_sockets_to_reconnect(server: &str) {
    tokio::join!(check_drain(server, "TERM"), check_drain(server, "INT"));
}

async fn s_requests_and_sockets_that_hang_delay_a_stop_for_ten_seconds_at_most(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&store(&folder), &["--server", server]);
    // The rest of this request never comes, and the peer of this socket never answers a close.
    let _request = half_a_request(&demo, "{\"first_name\": \"Ada\"}").await;
    let _socket = Socket::open_at(&demo.address, None).await.unwrap();
    let begun = Instant::now();
    signal("TERM", &demo.process_id());
    assert_eq!(demo.ended().await.code(), Some(0));
    let took = begun.elapsed();
    assert!(took < 2 * DRAIN_TIMEOUT, "{took:?}");
}

async fn s_a_second_ctrl_c_stops_the_server_at_once(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&store(&folder), &["--server", server]);
    // Both would delay the stop.
    let _request = half_a_request(&demo, "{\"first_name\": \"Ada\"}").await;
    let _socket = Socket::open_at(&demo.address, None).await.unwrap();
    signal("INT", &demo.process_id());
    demo.wait_for_log("Stopping");
    let begun = Instant::now();
    signal("INT", &demo.process_id());
    assert_eq!(demo.ended().await.code(), Some(130));
    // The closing handshake alone may take longer.
    assert!(begun.elapsed() < Duration::from_secs(3));
}

async fn s_d_a_stop_under_load_loses_no_acknowledged_edit(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let mut demo = Demo::start(&store(&folder), &["--server", server]);
    let load = Load::start(&demo.address, 8);
    for how in ["TERM", "INT", "TERM"] {
        load.acknowledged(30).await;
        signal(how, &demo.process_id());
        let begun = Instant::now();
        assert_eq!(demo.ended().await.code(), Some(0));
        assert!(begun.elapsed() < DRAIN_TIMEOUT);
        load.check(&path);
        demo.restart();
    }
    load.finish_and_check(&path, || demo.kill()).await;
}
