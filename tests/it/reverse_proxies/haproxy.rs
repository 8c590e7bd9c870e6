//! WebSockets over HTTP/2 through HAProxy, which takes them (RFC 8441) and passes them on over HTTP/1.1.

use futures_util::SinkExt as _;
use serde_json::json;
use tokio_websockets::Message;

use crate::browser::Browsers;
use crate::http2::{V1, ask, next, open};
use crate::reverse_proxies::program::Kind;
use crate::reverse_proxies::{Site, http2};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http_2_reaches_nodes_of_both_frameworks() {
    let site = Site::start(Kind::Haproxy).await;
    let mut client = http2(&site.proxy).await;
    // Both on the same connection.
    for name in ["Ada", "Grace"] {
        let response = ask(&mut client, "websocket", &[V1]).await;
        assert_eq!(response.status(), 200);
        let mut socket = open(response).await;
        let subscribe = json!({"type": "subscribe", "topic": "users"}).to_string();
        socket.send(Message::text(subscribe)).await.unwrap();
        for expected in ["subscribed", "snapshot", "live"] {
            assert_eq!(next(&mut socket).await["type"], expected);
        }
        let patch = json!({"first_name": name});
        site.send("PATCH", "/api/users/1/", &patch).await;
        let change = next(&mut socket).await;
        assert_eq!(change["fields"]["first_name"], name);
    }
    let foreign = ("origin", "https://evil.example");
    let refused = ask(&mut client, "websocket", &[V1, foreign]).await;
    assert_eq!(refused.status(), 403);
    let own = ("origin", "https://app.example:8000");
    let accepted = ask(&mut client, "websocket", &[V1, own]).await;
    assert_eq!(accepted.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_windows_of_a_browser_are_live_over_http_2_alone() {
    let site = Site::start(Kind::Haproxy).await;
    let browsers = Browsers::start();
    let port = site.proxy.port;
    let resolver = format!("--host-resolver-rules=MAP app.example 127.0.0.1:{port}");
    let arguments = ["--ignore-certificate-errors", &resolver];
    let url = "https://app.example/window1/";
    let window = browsers.open_with(url, &arguments, json!({})).await;
    let protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(window.eval(protocol).await, "h2");
    site.send("PATCH", "/api/users/1/", &json!({"first_name": "Ada"}))
        .await;
    window.until_field(1, "first_name", "Ada").await;
    window.picture("over_http_2.png").await;
    window.close().await;
    let log = site.proxy.log();
    let opened = "/ws/user-updates/ HTTP/2.0";
    assert!(log.contains(opened), "no WebSocket over HTTP/2:\n{log}");
}
