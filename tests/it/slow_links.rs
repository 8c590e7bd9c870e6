//! Links that are slow, break and fall silent, and peers that take nothing.

use std::time::{Duration, Instant};

use fieldsync::{Collection, Edit, Engine, EngineBuilder};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::app::{App, On, Server};
use crate::proxy::{Network, Proxy};
use crate::random;
use crate::socket::{Mirror, Socket};
use crate::tasks::{Tasks, within_limit};

/// How long records are written.
const WRITING: Duration = Duration::from_secs(12);

/// How many subscribers each link has.
const SUBSCRIBERS: usize = 12;

/// The bytes a second of the links.
const RATES: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// The most bytes that a server may send over bad links, as a part of what it sends over good ones of the same rates.
const MAX_RATIO: f64 = 1.3;

fn notes() -> EngineBuilder {
    let schema = json!({"type": "object", "properties": {
        "text": {"type": "string", "default": ""},
        "number": {"type": "integer", "default": 0},
    }});
    Engine::builder().collection(Collection::from_schema("notes", &schema).open_to_everyone())
}

#[tokio::test(flavor = "multi_thread")]
async fn x_subscribers_on_slow_links_that_break_converge_under_axum() {
    check_links(Server::Axum).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x_subscribers_on_slow_links_that_break_converge_under_actix() {
    check_links(Server::Actix).await;
}

/// Two sets of links carry the same records at the same rates. In one of them connections break, and fall silent for 3 s.
async fn check_links(server: Server) {
    let mut random = random::generator();
    let app = App::start(server, On::Sqlite, notes()).await;
    for bytes in [100, 1_000, 5_000, 20_000, 64_000] {
        create(&app, bytes).await;
    }
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for rate in RATES {
        good.push(Proxy::slow(app.address.port(), rate).await);
        bad.push(Proxy::slow(app.address.port(), rate).await);
    }
    let tasks = Tasks::new();
    let subscribers: Vec<_> = good
        .iter()
        .chain(&bad)
        .flat_map(|link| (0..SUBSCRIBERS).map(|_| Subscriber::start(link, &tasks)))
        .collect();
    let begun = Instant::now();
    let mut cuts = 0;
    for second in 0.. {
        if begun.elapsed() >= WRITING {
            break;
        }
        for link in &bad {
            cuts += link.cut(0.01);
            link.set(if (4..7).contains(&second) {
                Network::Silent
            } else {
                Network::Works
            });
        }
        if second == 8 {
            // What the chance has spared is cut now.
            cuts += bad[random.usize(..2)].cut(0.2);
        }
        for _ in 0..4 {
            write(&app, &mut random).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    let all = app.get("/api/notes/").await;
    for subscriber in subscribers {
        subscriber.converges_to(&all).await;
    }
    let sent = |links: &[Proxy]| links.iter().map(Proxy::sent).collect::<Vec<_>>();
    let (good, bad) = (sent(&good), sent(&bad));
    let ratio = bad.iter().sum::<usize>() as f64 / good.iter().sum::<usize>() as f64;
    println!("{cuts} connections cut; bytes {good:?}, disturbed {bad:?}, {ratio:.2} times");
    assert!(cuts > 0);
    assert!(ratio <= MAX_RATIO, "{good:?}, disturbed {bad:?}");
}

async fn create(app: &App, bytes: usize) {
    let note = json!({"text": "x".repeat(bytes)});
    let edits = vec![Edit::create("notes", note)];
    app.engine.transaction(edits).await.unwrap();
}

/// Writes a record: mostly a small one, now and then one of up to 64 KB.
async fn write(app: &App, random: &mut fastrand::Rng) {
    let bytes = if random.u8(..20) == 0 {
        random.usize(..64_000)
    } else {
        random.usize(..2_000)
    };
    match random.u8(..8) {
        0 => create(app, bytes).await,
        1 => {
            let path = format!("/api/notes/{}/", 1 + random.u8(..8));
            app.request("DELETE", &path).send().await.unwrap();
        }
        _ => {
            let path = format!("/api/notes/{}/", 1 + random.u8(..8));
            let patch = json!({"text": "y".repeat(bytes), "number": random.i32(..)});
            app.send("PATCH", &path, &patch).await;
        }
    }
}

/// A subscriber behind a link, which connects again when its connection ends.
struct Subscriber {
    records: watch::Receiver<Value>,
    tasks: Tasks,
}

impl Subscriber {
    fn start(link: &Proxy, tasks: &Tasks) -> Self {
        let (shown, records) = watch::channel(Value::Null);
        let address = link.address.to_string();
        tasks.spawn(async move {
            let mut window = Mirror::default();
            loop {
                follow(&address, &mut window, &shown).await;
                assert_eq!(window.resets, [""; 0]);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(100..500))).await;
            }
        });
        let tasks = tasks.clone();
        Self { records, tasks }
    }

    async fn converges_to(mut self, all: &Value) {
        let converged = self.records.wait_for(|records| records == all);
        drop(
            self.tasks
                .wait("a subscriber's records", converged)
                .await
                .unwrap(),
        );
    }
}

/// Applies what comes on a new connection until it ends.
async fn follow(address: &str, window: &mut Mirror, shown: &watch::Sender<Value>) {
    let Some(mut socket) = Socket::open_at(address, Some("fieldsync.v1")).await else {
        return;
    };
    if window.go_on(&mut socket, "notes").await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.stream.next().await {
        if let Some(text) = message.as_text() {
            assert!(
                text.len() <= 64 * 1024 || text.matches(r#""id":"#).count() == 1,
                "{} bytes",
                text.len()
            );
            window.apply(&serde_json::from_str(text).unwrap());
            shown.send_replace(window.list());
        }
    }
}

/// What a peer asks for, and then does not read.
const REQUESTS: [(&str, &str); 3] = [
    ("a page", "GET /api/notes/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        "an event stream",
        "GET /api/notes/ HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
    ),
    (
        "a WebSocket",
        "GET /ws/user-updates/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: fieldsync.v1\r\n\r\n",
    ),
];

/// When a peer that takes nothing is gone: 30 s, and the time between two looks.
const CUT_OFF: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread")]
async fn m_a_peer_that_takes_nothing_is_cut_off_whatever_it_asked_for() {
    let mut peers = Vec::new();
    let mut apps = Vec::new();
    for server in [Server::Axum, Server::Actix] {
        let app = App::start(server, On::Memory, notes()).await;
        for _ in 0..4 {
            let note = json!({"text": "x".repeat(1000)});
            let edits = (0..1000)
                .map(|_| Edit::create("notes", note.clone()))
                .collect();
            app.engine.transaction(edits).await.unwrap();
        }
        for (name, request) in REQUESTS {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut peer = socket.connect(app.address).await.unwrap();
            peer.write_all(request.as_bytes()).await.unwrap();
            if name == "a WebSocket" {
                let subscribe = br#"{"type":"subscribe","topic":"notes"}"#;
                let mut frame = vec![0x81, 0x80 | subscribe.len() as u8, 0, 0, 0, 0];
                frame.extend(subscribe);
                peer.write_all(&frame).await.unwrap();
            }
            peers.push((server, name, peer));
        }
        apps.push(app);
    }
    tokio::time::sleep(CUT_OFF).await;
    for (server, name, mut peer) in peers {
        // What is left in the buffers, and then the end. A page alone has 1 MiB.
        let mut read = Vec::new();
        let _ = within_limit(name, peer.read_to_end(&mut read)).await;
        assert!(
            read.len() < 900_000,
            "{server:?}, {name}: {} bytes",
            read.len()
        );
    }
}
