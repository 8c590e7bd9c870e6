//! HTTP/2 without TLS, as proxies speak it to a backend: requests, and WebSockets over it (RFC 8441).

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

use crate::app::{App, On, Server, builder};
use crate::tasks::within_limit;

pub(crate) type Client = SendRequest<Empty<Bytes>>;

async fn app() -> App {
    App::start(Server::Axum, On::Memory, builder()).await
}

async fn connect(address: SocketAddr) -> Client {
    connect_over(TcpStream::connect(address).await.unwrap()).await
}

pub(crate) async fn connect_over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Client {
    let (client, connection) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// An extended CONNECT to `app.example:8000`, with these headers beside or instead of the usual ones; an empty value removes one.
pub(crate) async fn ask(
    client: &mut Client,
    protocol: &'static str,
    changed: &[(&'static str, &'static str)],
) -> Response<Incoming> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://app.example:8000/ws/user-updates/")
        .version(Version::HTTP_2)
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static(protocol));
    let headers = request.headers_mut().unwrap();
    for (name, value) in changed {
        if value.is_empty() {
            headers.remove(*name);
        } else {
            headers.insert(*name, value.parse().unwrap());
        }
    }
    let sent = client.send_request(request.body(Empty::new()).unwrap());
    within_limit("a response", sent).await.unwrap()
}

pub(crate) type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

pub(crate) async fn open(response: Response<Incoming>) -> Socket {
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    ClientBuilder::new().take_over(TokioIo::new(upgraded))
}

pub(crate) async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = within_limit("a message", socket.next()).await;
        let message = message.unwrap().unwrap();
        if let Some(text) = message.as_text() {
            return serde_json::from_str(text).unwrap();
        }
    }
}

pub(crate) const V1: (&str, &str) = ("sec-websocket-protocol", "fieldsync.v1");

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http_2_shows_changes_beside_requests() {
    let app = app().await;
    let mut client = connect(app.address).await;
    let response = ask(&mut client, "websocket", &[V1]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "fieldsync.v1");
    for header in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(header), "{header}");
    }
    let mut socket = open(response).await;
    let subscribe = json!({"type": "subscribe", "topic": "users"}).to_string();
    socket.send(Message::text(subscribe)).await.unwrap();
    for expected in ["subscribed", "snapshot", "live"] {
        assert_eq!(next(&mut socket).await["type"], expected);
    }
    app.create_user("Ada", "Lovelace").await;
    let change = next(&mut socket).await;
    assert_eq!(
        (&change["type"], &change["fields"]["first_name"]),
        (&json!("change"), &json!("Ada"))
    );
    // A request on the same connection.
    let get = Request::get("http://app.example:8000/api/users/1/")
        .body(Empty::new())
        .unwrap();
    let got = client.send_request(get).await.unwrap();
    assert_eq!(got.status(), 200);
    let body = got.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["first_name"],
        "Ada"
    );
    // A message that is too large closes the socket with its code, as over HTTP/1.1.
    let large = "x".repeat(100_000);
    socket.send(Message::text(large)).await.unwrap();
    let code = loop {
        let message = within_limit("a close", socket.next())
            .await
            .unwrap()
            .unwrap();
        if let Some((code, _)) = message.as_close() {
            break u16::from(code);
        }
    };
    assert_eq!(code, 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_over_http_2_are_checked_like_those_of_http_1() {
    let app = app().await;
    let mut client = connect(app.address).await;
    for (name, changed, status) in [
        ("fieldsync.v1", &[V1][..], 200),
        ("the plain feed", &[], 200),
        (
            "two subprotocols",
            &[("sec-websocket-protocol", "other, fieldsync.v1")],
            200,
        ),
        ("no version", &[("sec-websocket-version", "")], 400),
        ("another version", &[("sec-websocket-version", "12")], 426),
        (
            "a page of the server",
            &[("origin", "http://app.example:8000")],
            200,
        ),
        (
            "a page that is allowed",
            &[("origin", "https://friend.example")],
            200,
        ),
        (
            "a page of somebody else",
            &[("origin", "https://evil.example")],
            403,
        ),
        (
            "a page of another port",
            &[("origin", "http://app.example:8001")],
            403,
        ),
        (
            "a page of another scheme",
            &[
                ("origin", "http://app.example:8000"),
                ("x-forwarded-proto", "https"),
            ],
            403,
        ),
        ("null", &[("origin", "null")], 403),
    ] {
        let response = ask(&mut client, "websocket", changed).await;
        assert_eq!(response.status(), status, "{name}");
    }
    let get = Request::get("http://app.example:8000/ws/user-updates/")
        .body(Empty::new())
        .unwrap();
    assert_eq!(client.send_request(get).await.unwrap().status(), 426);
    let drained = app.engine.drain(std::time::Duration::from_secs(5)).await;
    assert_eq!(drained.requests, 0);
    let response = ask(&mut client, "websocket", &[V1]).await;
    assert_eq!(response.status(), 503);
}
