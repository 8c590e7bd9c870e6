//! Two nodes behind nginx with TLS, with the configuration in `docs/nginx.conf`.

mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::demo::Demo;
use crate::events::Events;
use crate::faults::load::Load;
use crate::servers::Redis;
use crate::socket::{Mirror, Socket};

use self::server::Nginx;

/// A site: one node under axum and one under actix, on one SQLite file.
struct Site {
    nodes: [Demo; 2],
    nginx: Nginx,
    /// The address for clients, without TLS: `tls_to` adds that.
    address: SocketAddr,
    database: PathBuf,
    _redis: Redis,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("demo.db");
        let redis = Redis::start().await;
        let (store, broker) = (format!("sqlite:{}", database.display()), redis.url());
        let start = |server| Demo::start(&store, &["--broker", &broker, "--server", server]);
        let nodes = ["axum", "actix"].map(start);
        let nginx = Nginx::start([&nodes[0].address, &nodes[1].address]).await;
        Self {
            nodes,
            address: tls_to(&nginx).await,
            nginx,
            database,
            _redis: redis,
            _folder: folder,
        }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        request(self.address, method, path)
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        let request = self.request(method, path).json(body);
        request.send().await.unwrap()
    }

    async fn subscribe(&self) -> Socket {
        let socket = Socket::open_at(&self.address.to_string(), Some("fieldsync.v1")).await;
        let mut socket = socket.unwrap();
        socket.subscribe("users", None).await;
        Mirror::default().catch_up(&mut socket).await;
        socket
    }
}

/// Starts a proxy that connects to nginx with TLS, for clients without it.
async fn tls_to(nginx: &Nginx) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(nginx.certificate.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, port) = (listener.local_addr().unwrap(), nginx.port);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let connector = connector.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
                let name = "app.example".try_into().unwrap();
                let server = connector.connect(name, server.await.unwrap()).await;
                // Either side may close the connection.
                let _ = copy_bidirectional(&mut client, &mut server.unwrap()).await;
            });
        }
    });
    address
}

fn request(address: SocketAddr, method: &str, path: &str) -> RequestBuilder {
    let url = format!("http://{address}{path}");
    Client::new().request(method.parse().unwrap(), url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_subscribers_of_both_nodes() {
    let site = Site::start().await;
    // nginx assigns connections to the nodes in turn.
    let mut sockets = [site.subscribe().await, site.subscribe().await];
    for name in ["Ada", "Grace"] {
        let patch = json!({"first_name": name});
        let reply = site.send("PATCH", "/api/users/1/", &patch).await;
        assert_eq!(reply.status(), 200);
        for socket in &mut sockets {
            let change = socket.expect("change").await;
            assert_eq!(change["fields"]["first_name"], name);
            assert_eq!(
                change["cursor"],
                *reply.headers()["fieldsync-cursor"].to_str().unwrap()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_the_site_may_open_a_socket() {
    let site = Site::start().await;
    for (host, origin, status) in [
        ("app.example", "https://app.example", 101),
        ("app.example:8443", "https://app.example:8443", 101),
        ("app.example", "https://evil.example", 403),
        ("app.example", "https://app.example:8443", 403),
        ("app.example", "null", 403),
    ] {
        let handshake = site
            .request("GET", "/ws/user-updates/")
            .header("host", host)
            .header("origin", origin)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let reply = handshake.send().await.unwrap();
        assert_eq!(reply.status(), status, "{origin} at {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_not_buffered() {
    let site = Site::start().await;
    // One stream at each node.
    let open = || Events::of(site.request("GET", "/api/users/"));
    let mut streams = [open().await, open().await];
    for events in &mut streams {
        events.expect("snapshot").await;
        events.expect("live").await;
    }
    for name in ["Ada", "Grace"] {
        let patch = json!({"first_name": name});
        site.send("PATCH", "/api/users/1/", &patch).await;
        for events in &mut streams {
            let change = events.expect("change").await;
            assert_eq!(change.data["fields"]["first_name"], name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_pass_nginx_with_their_headers() {
    let site = Site::start().await;
    let created = site.send("POST", "/api/users/", &json!({})).await;
    assert_eq!(created.status(), 201);
    assert_eq!(created.headers()["location"], "/api/users/3/");
    // Once at each node.
    for _ in 0..2 {
        let get = || site.request("GET", "/api/users/3/");
        let reply = get().send().await.unwrap();
        let tag = reply.headers()["etag"].clone();
        assert!(tag.as_bytes().starts_with(b"\""), "the tag is strong");
        let reply = get().header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["etag"]),
            (304, &tag)
        );
        assert!(reply.headers().contains_key("fieldsync-cursor"));
        let patch = || site.request("PATCH", "/api/users/3/").json(&json!({}));
        let reply = patch().header("if-match", &tag).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        let reply = patch()
            .header("if-match", "\"other\"")
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 412);
        assert_eq!(reply.headers()["content-type"], "application/problem+json");
        let reply = site.request("OPTIONS", "/api/users/").send().await.unwrap();
        assert_eq!(reply.headers()["allow"], "GET, HEAD, POST, OPTIONS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_tls_is_redirected() {
    let site = Site::start().await;
    let policy = reqwest::redirect::Policy::none();
    let client = Client::builder().redirect(policy).build().unwrap();
    let url = format!("http://127.0.0.1:{}/window1/?a=b", site.nginx.plain_port);
    let reply = client.get(url).send().await.unwrap();
    assert_eq!(reply.status(), 308);
    assert_eq!(
        reply.headers()["location"],
        "https://127.0.0.1/window1/?a=b"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_by_nginx_and_one_at_the_limit_reaches_fieldsync() {
    let site = Site::start().await;
    let frame = json!({"first_name": ""}).to_string().len();
    for (length, status, media_type) in [
        (1024 * 1024, 422, "application/problem+json"),
        (1024 * 1024 + 1, 413, "text/html"),
    ] {
        let patch = json!({"first_name": "x".repeat(length - frame)});
        let reply = site.send("PATCH", "/api/users/1/", &patch).await;
        assert_eq!(reply.status(), status);
        assert_eq!(reply.headers()["content-type"], media_type);
    }
}

/// Starts a node that counts requests, sends the same reply to each, and closes the connection.
async fn bad_node(reply: &'static str, requests: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            while stream.read_u8().await.unwrap() != b'\n' {}
            requests.fetch_add(1, Ordering::SeqCst);
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_is_retried_at_the_other_node_only_if_that_is_safe() {
    let dies = ("", 502);
    let stops = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        503,
    );
    for (reply, status) in [dies, stops] {
        for (method, times) in [("GET", 2), ("DELETE", 2), ("PATCH", 1), ("POST", 1)] {
            let requests = Arc::new(AtomicUsize::new(0));
            let one = bad_node(reply, Arc::clone(&requests)).await;
            let other = bad_node(reply, Arc::clone(&requests)).await;
            let nginx = Nginx::start([&one, &other]).await;
            let request = request(tls_to(&nginx).await, method, "/api/users/1/");
            assert_eq!(request.send().await.unwrap().status(), status);
            assert_eq!(requests.load(Ordering::SeqCst), times, "{method} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_r_when_a_node_dies_or_stops_clients_reconnect_through_nginx_and_miss_nothing() {
    let mut site = Site::start().await;
    let load = Load::start_at(vec![site.address.to_string()], 6, &[]);
    for (dies, node) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        load.acknowledged(50).await;
        let node = &mut site.nodes[node];
        if dies {
            node.kill();
        } else {
            assert_eq!(node.terminate(), Some(0));
        }
        // The other node goes on.
        load.acknowledged(50).await;
        node.restart();
        load.caught_up().await;
    }
    let nodes = &mut site.nodes;
    load.finish_and_check(&site.database, || nodes.iter_mut().for_each(Demo::kill))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_comes_back_after_no_node_answered() {
    let site = Site::start().await;
    let Site {
        nodes,
        nginx: _nginx,
        address,
        ..
    } = site;
    drop(nodes);
    let events = request(address, "GET", "/api/users/").header("accept", "text/event-stream");
    let reply = events.send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    assert_eq!(reply.text().await.unwrap(), "retry: 2000\n\n");
    // Nothing else is told so.
    let get = request(address, "GET", "/api/users/").send().await.unwrap();
    assert_eq!(get.status(), 502);
}
