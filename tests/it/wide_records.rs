//! The server's memory does not grow with the size of records, with the length of pages, or with clients that do not read.

use std::fs;

use serde_json::{Value, json};

use crate::demo::{Demo, LogCounter, on_every_server};
use crate::many_views::read_change;
use crate::socket::Socket;
use crate::tasks::within_limit;

on_every_server!(
    wide_records_take_bounded_memory_on_sqlite,
    wide_records_take_bounded_memory_on_postgres,
    wide_records_take_bounded_memory_in_memory,
    m_subscribers_of_many_views_that_take_nothing_pin_bounded_memory,
);

const RECORDS: usize = 40;
const TEXT_BYTES: usize = 256 * 1024;
const MAX_GROWTH: usize = 64 * 1024 * 1024;

/// Each set of these fields is a view, with the text.
const NAMES: [&str; 4] = ["first_name", "last_name", "created_at", "updated_at"];

const CHANGES: usize = 40;
const CHANGE_BYTES: usize = 1_000_000;

/// What a change as large as a record pins, in all subscribers together.
const MAX_PINNED: usize = 120 * 1024 * 1024;

async fn wide_records_take_bounded_memory_on_sqlite(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("app.db").display());
    check_memory(&store, server).await;
}

async fn wide_records_take_bounded_memory_on_postgres(server: &str) {
    check_memory(&crate::cluster::fresh_database().await, server).await;
}

async fn wide_records_take_bounded_memory_in_memory(server: &str) {
    check_memory("memory:", server).await;
}

/// Reads a list in pages, while subscribers that do not read wait for the snapshot and for missed changes.
async fn check_memory(store: &str, server: &str) {
    let options = ["--store", store, "--server", server, "--texts"];
    let more = ["--no-sample-data"];
    let mut node = Demo::node(&[&options[..], &more].concat(), &LogCounter::default());
    let http = reqwest::Client::new();
    let start = http.get(node.url("/api/users/")).send().await.unwrap();
    let start = start.headers()["fieldsync-cursor"]
        .to_str()
        .unwrap()
        .to_owned();
    let user = json!({"text": "x".repeat(TEXT_BYTES)});
    for _ in 0..RECORDS {
        let created = http.post(node.url("/api/users/")).json(&user).send();
        assert_eq!(created.await.unwrap().status(), 201);
    }
    if store != "memory:" {
        // Otherwise it reuses the memory in which it has received the records.
        node.restart();
    }
    let base = reset_peak(&node);
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for client in 0..10 {
        // Half of them wait for a snapshot, half for the changes since the start.
        let since = (client % 2 == 0).then_some(&*start);
        sockets.push(subscribed(&node, since).await);
        let query = since.map_or_else(String::new, |since| format!("?since={since}"));
        let events = http.get(node.url(&format!("/api/users/{query}")));
        let events = events.header("accept", "text/event-stream");
        streams.push(events.send().await.unwrap());
    }
    assert_eq!(read_all(&http, &node).await, RECORDS);
    let growth = peak(&node).saturating_sub(base);
    assert!(growth < MAX_GROWTH, "{} MiB", growth >> 20);
    // A client that reads receives everything, in messages of at most one record each.
    let mut socket = subscribed(&node, None).await;
    let mut received = 0;
    loop {
        let message = socket.expect("snapshot").await;
        let records = message["records"].as_array().unwrap();
        assert!(records.len() <= 1, "{} records", records.len());
        received += records.len();
        if message.get("cursor").is_some() {
            break;
        }
    }
    assert_eq!(received, RECORDS);
}

/// Changes of a large record, of which each subscriber sees something else. One in four of them reads.
async fn m_subscribers_of_many_views_that_take_nothing_pin_bounded_memory(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("app.db").display());
    let options = ["--store", &store, "--server", server, "--texts"];
    let more = ["--no-sample-data"];
    let node = Demo::node(&[&options[..], &more].concat(), &LogCounter::default());
    let http = reqwest::Client::new();
    let write = async |number: usize| {
        let text = format!("{number} {}", "x".repeat(CHANGE_BYTES));
        let request = match number {
            0 => http.post(node.url("/api/users/")),
            _ => http.patch(node.url("/api/users/1/")),
        };
        let reply = request.json(&json!({"text": text})).send().await.unwrap();
        assert!(reply.status().is_success());
    };
    write(0).await;
    let (mut reading, mut stalled) = (Vec::new(), Vec::new());
    for view in 0..1 << NAMES.len() {
        let fields = (0..NAMES.len()).filter(|field| view & (1 << field) > 0);
        let names = fields.map(|field| NAMES[field]).chain(["text"]);
        let names = names.collect::<Vec<_>>().join(",");
        for copy in 0..2 {
            let socket = Socket::open_at(&node.address, Some("fieldsync.v1")).await;
            let mut socket = socket.unwrap();
            let topic = format!("users?select={names}");
            let sub = format!("{view} {copy}");
            let subscribe = json!({"type": "subscribe", "topic": topic, "sub": sub});
            socket.send(&subscribe).await;
            socket.expect_any(&["live"]).await;
            match view % 2 + copy {
                0 => reading.push(socket),
                _ => stalled.push(socket),
            }
        }
    }
    let base = reset_peak(&node);
    for number in 1..=CHANGES {
        write(number).await;
        for socket in &mut reading {
            read_change(socket).await;
        }
    }
    let growth = peak(&node).saturating_sub(base);
    println!("{server}: {} MiB", growth >> 20);
    assert!(growth < MAX_PINNED, "{} MiB", growth >> 20);
    drop(stalled);
}

async fn subscribed(node: &Demo, since: Option<&str>) -> Socket {
    let socket = Socket::open_at(&node.address, Some("fieldsync.v1")).await;
    let mut socket = socket.unwrap();
    socket.subscribe("users", since).await;
    socket
}

/// Reads a list to its end. Returns the number of records.
async fn read_all(http: &reqwest::Client, node: &Demo) -> usize {
    let (mut path, mut read) = ("/api/users/?limit=1000".to_owned(), 0);
    loop {
        let reply = http.get(node.url(&path)).send().await.unwrap();
        let link = reply.headers().get("link").cloned();
        let body = within_limit("a page", reply.bytes()).await.unwrap();
        assert!(body.len() <= 1024 * 1024, "{} bytes", body.len());
        read += serde_json::from_slice::<Vec<Value>>(&body).unwrap().len();
        let Some(link) = link else { return read };
        let link = link.to_str().unwrap().trim_start_matches('<');
        path = link.split_once('>').unwrap().0.to_owned();
    }
}

/// The memory of the process in bytes, which is the peak from now on.
fn reset_peak(node: &Demo) -> usize {
    fs::write(format!("/proc/{}/clear_refs", node.process_id()), "5").unwrap();
    peak(node)
}

/// The peak of the process's memory in bytes.
fn peak(node: &Demo) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", node.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<usize>().unwrap() * 1024
}
