//! Requests that no node answers.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::reverse_proxies::program::{Kind, ReverseProxy};
use crate::reverse_proxies::{request, tls_to};
use crate::tasks::within_limit;

/// Starts a node that counts requests, sends the same reply to each, and closes the connection. It says that it is healthy.
async fn bad_node(reply: &'static str, requests: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut stream, mut line) = (BufReader::new(stream), String::new());
            stream.read_line(&mut line).await.unwrap();
            let reply = if line.contains("/readyz") {
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            } else {
                requests.fetch_add(1, Ordering::SeqCst);
                reply
            };
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    address.to_string()
}

/// Checks how often a request reaches a node that dies, and one that answers 503.
async fn check(
    kind: Kind,
    method: &str,
    (when_it_dies, when_it_stops): (RangeInclusive<usize>, RangeInclusive<usize>),
) {
    let stops = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    for (reply, status, times) in [("", 502, when_it_dies), (stops, 503, when_it_stops)] {
        let requests = Arc::new(AtomicUsize::new(0));
        let one = bad_node(reply, Arc::clone(&requests)).await;
        let other = bad_node(reply, Arc::clone(&requests)).await;
        let proxy = ReverseProxy::start(kind, [&one, &other]).await;
        let request = request(tls_to(&proxy).await, method, "/api/users/1/");
        let answer = within_limit("an answer", request.send()).await.unwrap();
        assert_eq!(answer.status(), status, "{kind:?}, {method}");
        let requests = requests.load(Ordering::SeqCst);
        assert!(
            times.contains(&requests),
            "{kind:?}, {method}, {status}: {requests} requests"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_is_repeated_at_the_other_node_only_if_that_is_safe() {
    let (once, twice) = (1..=1, 2..=2);
    for method in ["PATCH", "POST"] {
        for kind in [Kind::Nginx, Kind::Haproxy, Kind::Caddy] {
            check(kind, method, (once.clone(), once.clone())).await;
        }
    }
    for method in ["GET", "DELETE"] {
        for kind in [Kind::Nginx, Kind::Haproxy] {
            check(kind, method, (twice.clone(), twice.clone())).await;
        }
    }
    // Caddy repeats a GET for as long as `lb_try_duration`, and nothing else.
    check(Kind::Caddy, "GET", (2..=20, once.clone())).await;
    check(Kind::Caddy, "DELETE", (once.clone(), once)).await;
}
