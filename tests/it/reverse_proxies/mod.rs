//! Two nodes behind nginx, HAProxy and Caddy with TLS, with the configurations in `docs/`.

mod haproxy;
mod nginx;
mod program;
mod retries;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::demo::Demo;
use crate::events::Events;
use crate::faults::load::Load;
use crate::http2;
use crate::servers::Redis;
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

use self::program::{Kind, ReverseProxy};

/// Every case behind every proxy.
macro_rules! behind_every_proxy {
    ($($case:ident),+ $(,)?) => {
        behind_every_proxy!(by_nginx Nginx: $($case),+);
        behind_every_proxy!(by_haproxy Haproxy: $($case),+);
        behind_every_proxy!(by_caddy Caddy: $($case),+);
    };
    ($name:ident $kind:ident: $($case:ident),+) => {
        mod $name {
            use super::{Kind, Site};

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(Site::start(Kind::$kind).await).await;
            })+
        }
    };
}

behind_every_proxy!(
    a_change_reaches_the_subscribers_of_both_nodes,
    only_pages_of_the_site_may_open_a_socket,
    events_are_not_buffered,
    replies_pass_with_their_headers,
    a_request_without_tls_is_redirected,
    requests_and_events_pass_over_http_2,
    d_x_r_when_a_node_dies_or_stops_clients_reconnect_and_miss_nothing,
    an_event_source_comes_back_after_no_node_answered,
);

/// A site: one node under axum and one under actix, on one SQLite file.
struct Site {
    nodes: [Demo; 2],
    proxy: ReverseProxy,
    /// The address for clients, without TLS: `tls_to` adds that.
    address: SocketAddr,
    database: PathBuf,
    _redis: Redis,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("demo.db");
        let redis = Redis::start().await;
        let (store, broker) = (format!("sqlite:{}", database.display()), redis.url());
        let start = |server| Demo::start(&store, &["--broker", &broker, "--server", server]);
        let nodes = ["axum", "actix"].map(start);
        let proxy = ReverseProxy::start(kind, [&nodes[0].address, &nodes[1].address]).await;
        Self {
            nodes,
            address: tls_to(&proxy).await,
            proxy,
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

/// Starts a proxy that connects to the reverse proxy with TLS, for clients without it.
async fn tls_to(proxy: &ReverseProxy) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (port, config) = (proxy.port, tls_config(proxy));
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let config = config.clone();
            tokio::spawn(async move {
                let mut server = connect(port, config).await;
                // Either side may close the connection.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

fn tls_config(proxy: &ReverseProxy) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(proxy.certificate.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    config.with_no_client_auth()
}

async fn connect(port: u16, config: ClientConfig) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let name = "app.example".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

/// A client that speaks HTTP/2.
async fn http2(proxy: &ReverseProxy) -> http2::Client {
    let mut config = tls_config(proxy);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = connect(proxy.port, config).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    http2::connect_over(stream).await
}

fn request(address: SocketAddr, method: &str, path: &str) -> RequestBuilder {
    let url = format!("http://{address}{path}");
    Client::new().request(method.parse().unwrap(), url)
}

async fn a_change_reaches_the_subscribers_of_both_nodes(site: Site) {
    // The proxy assigns connections to the nodes in turn.
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

async fn only_pages_of_the_site_may_open_a_socket(site: Site) {
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

async fn events_are_not_buffered(site: Site) {
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

async fn replies_pass_with_their_headers(site: Site) {
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

async fn requests_and_events_pass_over_http_2(site: Site) {
    let mut client = http2(&site.proxy).await;
    let mut ask = async |accept: &str| {
        let get = http::Request::get("https://app.example/api/users/1/").header("accept", accept);
        let reply = client.send_request(get.body(Empty::new()).unwrap());
        let reply = within_limit("a reply", reply).await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), reply.version()),
            (200, http::Version::HTTP_2)
        );
        reply.into_body()
    };
    // One stream at each node, and both on the same connection.
    let mut streams = [
        ask("text/event-stream").await,
        ask("text/event-stream").await,
    ];
    let patch = json!({"first_name": "Over HTTP/2"});
    site.send("PATCH", "/api/users/1/", &patch).await;
    for events in &mut streams {
        let mut received = String::new();
        while !received.contains("Over HTTP/2") {
            let frame = within_limit("a change", events.frame()).await;
            received += std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap();
        }
    }
    let user = ask("application/json")
        .await
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&user).unwrap()["first_name"],
        "Over HTTP/2"
    );
}

async fn a_request_without_tls_is_redirected(site: Site) {
    let policy = reqwest::redirect::Policy::none();
    let client = Client::builder().redirect(policy).build().unwrap();
    let url = format!("http://127.0.0.1:{}/window1/?a=b", site.proxy.plain_port);
    let get = client.get(url).header("host", "app.example");
    let reply = get.send().await.unwrap();
    assert_eq!(reply.status(), 308);
    let location = reply.headers()["location"].to_str().unwrap();
    let default_port = location.replace(&format!(":{}", site.proxy.port), "");
    assert_eq!(default_port, "https://app.example/window1/?a=b");
}

async fn d_x_r_when_a_node_dies_or_stops_clients_reconnect_and_miss_nothing(mut site: Site) {
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

async fn an_event_source_comes_back_after_no_node_answered(site: Site) {
    let Site {
        nodes,
        proxy: _proxy,
        address,
        ..
    } = site;
    drop(nodes);
    let events = request(address, "GET", "/api/users/").header("accept", "text/event-stream");
    let reply = events.send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    assert_eq!(reply.text().await.unwrap(), "retry: 2000\n\n");
    // Nothing else is told so: not a write that has failed, whatever it accepts.
    for method in ["POST", "PATCH", "DELETE"] {
        let write = request(address, method, "/api/users/1/").json(&json!({}));
        let write = write.header("accept", "application/json, text/event-stream");
        let status = write.send().await.unwrap().status().as_u16();
        assert!(matches!(status, 502 | 503), "{method}: {status}");
    }
    let get = request(address, "GET", "/api/users/").send().await.unwrap();
    assert!(matches!(get.status().as_u16(), 502 | 503));
}
