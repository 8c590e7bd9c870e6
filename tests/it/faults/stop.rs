//! The server is told to stop: SIGTERM, Ctrl-C.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::demo::{Demo, on_every_server, signal};
use crate::faults::load::Load;
use crate::socket::Socket;

on_every_server!(
    s_sigterm_and_ctrl_c_finish_what_is_under_way_and_ask_sockets_to_come_back,
    s_what_hangs_delays_a_stop_for_no_more_than_ten_seconds,
    s_a_second_ctrl_c_stops_at_once,
    s_d_a_stop_under_load_loses_no_acknowledged_edit,
);

fn store(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("demo.db").display())
}

/// The code and the reason with which the server closes.
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
    // The server asks for the body: the request is under way.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
        .write_all(&body.as_bytes()[..body.len() / 2])
        .await
        .unwrap();
    stream
}

/// Asks whether it is ready: a connection that is refused, or reset because it still waited to be accepted, says no as well.
async fn is_ready(demo: &Demo) -> bool {
    let reply = reqwest::get(demo.url("/healthz")).await;
    reply.is_ok_and(|reply| reply.status() == 200)
}

/// A stop during which a request is finished.
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
    let mut under_way = half_a_request(&demo, &body).await;
    assert!(is_ready(&demo).await);

    let begun = Instant::now();
    signal(how, &demo.process_id());
    demo.wait_to_say("Stopping");
    assert!(!is_ready(&demo).await);
    // A request that was begun is answered to its end: it is done, or refused as one that may come again.
    let rest = &body.as_bytes()[body.len() / 2..];
    under_way.write_all(rest).await.unwrap();
    let mut reply = String::new();
    under_way.read_to_string(&mut reply).await.unwrap();
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
    assert!(begun.elapsed() < Duration::from_secs(10));

    demo.restart();
    let reply = reqwest::get(demo.url("/api/users/1/")).await.unwrap();
    let user: Value = reply.json().await.unwrap();
    assert_eq!(user["first_name"], if saved { "Ada" } else { "John" });
}

async fn s_sigterm_and_ctrl_c_finish_what_is_under_way_and_ask_sockets_to_come_back(server: &str) {
    tokio::join!(check_drain(server, "TERM"), check_drain(server, "INT"));
}

async fn s_what_hangs_delays_a_stop_for_no_more_than_ten_seconds(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&store(&folder), &["--server", server]);
    // A request whose rest never comes, and a socket whose peer never answers a close.
    let _request = half_a_request(&demo, "{\"first_name\": \"Ada\"}").await;
    let _socket = Socket::open_at(&demo.address, None).await.unwrap();
    let begun = Instant::now();
    signal("TERM", &demo.process_id());
    assert_eq!(demo.ended().await.code(), Some(0));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
}

async fn s_a_second_ctrl_c_stops_at_once(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&store(&folder), &["--server", server]);
    // Both would hold it up.
    let _request = half_a_request(&demo, "{\"first_name\": \"Ada\"}").await;
    let _socket = Socket::open_at(&demo.address, None).await.unwrap();
    signal("INT", &demo.process_id());
    demo.wait_to_say("Stopping");
    let begun = Instant::now();
    signal("INT", &demo.process_id());
    assert_eq!(demo.ended().await.code(), Some(130));
    // A closing handshake alone has longer.
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
        assert!(begun.elapsed() < Duration::from_secs(10));
        load.check(&path);
        demo.restart();
    }
    load.finish_and_check(&path, || demo.kill()).await;
}
