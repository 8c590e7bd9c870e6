//! What the server answers by itself: the page, the list of collections, and refusals. Without a login, the names of the server and
//! the origins of pages decide who may call it.

use std::net::IpAddr;

use http::uri::Authority;
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// What is served besides the collections.
pub(crate) struct Site {
    /// The names under which the server may be reached, besides those of the loopback.
    pub(crate) hosts: Vec<String>,
    /// The origins whose pages may write, besides the server's own.
    pub(crate) origins: Vec<String>,
    /// What `GET /api/` returns.
    pub(crate) collections: String,
}

/// The head of a request, as far as it matters here.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    /// The Host header, or the authority of the request.
    pub(crate) host: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

const PAGES: [(&str, &str, &str); 3] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("../page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/page.js"),
    ),
];

impl Site {
    /// The answer to a request that is not for the collections or the WebSocket. `None` for one that is.
    pub(crate) fn answer(&self, head: &Head<'_>) -> Option<Answer> {
        if let Err(refusal) = self.check(head) {
            return Some(refusal);
        }
        let is_read = matches!(*head.method, Method::GET | Method::HEAD);
        if is_read && matches!(head.path, "/api" | "/api/") {
            return Some(Answer {
                status: StatusCode::OK,
                content_type: "application/json",
                body: self.collections.clone(),
            });
        }
        if head.path == "/live" || head.path.starts_with("/api/") {
            return None;
        }
        let page = PAGES.iter().find(|(path, ..)| *path == head.path);
        Some(match page {
            Some((_, content_type, text)) if is_read => Answer {
                status: StatusCode::OK,
                content_type,
                body: (*text).to_owned(),
            },
            Some(_) => problem(StatusCode::METHOD_NOT_ALLOWED, "the page can only be read"),
            None => problem(StatusCode::NOT_FOUND, "nothing exists at this path"),
        })
    }

    /// Refuses requests for another name of this server (DNS rebinding), and writes of foreign pages.
    fn check(&self, head: &Head<'_>) -> Result<(), Answer> {
        let refuse = |status, detail: String| Err(problem(status, &detail));
        let authority = head.host.and_then(|host| host.parse::<Authority>().ok());
        let Some(authority) = authority else {
            return refuse(
                StatusCode::BAD_REQUEST,
                "a valid Host header is required".into(),
            );
        };
        let name = authority.host();
        if !is_loopback(name)
            && !self
                .hosts
                .iter()
                .any(|host| host.eq_ignore_ascii_case(name))
        {
            let detail = format!(
                "this server is not served under the name {name:?}; start it with --host {name} to allow that"
            );
            return refuse(StatusCode::MISDIRECTED_REQUEST, detail);
        }
        let is_write = !matches!(*head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if let Some(origin) = head.origin.filter(|_| is_write) {
            let is_own = origin
                .split_once("://")
                .is_some_and(|(_, host)| host == authority.as_str());
            if !is_own && !self.origins.iter().any(|one| one == origin) {
                let detail = format!(
                    "pages of {origin} may not write here; start the server with --allow-origin {origin} to allow that"
                );
                return refuse(StatusCode::FORBIDDEN, detail);
            }
        }
        Ok(())
    }
}

fn is_loopback(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Problem details (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Answer {
    let problem: Value = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    Answer {
        status,
        content_type: "application/problem+json",
        body: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            hosts: vec!["box.example".into()],
            origins: vec!["https://app.example".into()],
            collections: "{}".into(),
        }
    }

    #[track_caller]
    fn check(method: &Method, path: &str, host: &str, origin: Option<&str>, expected: Option<u16>) {
        let head = Head {
            method,
            path,
            host: Some(host),
            origin,
        };
        let status = site().answer(&head).map(|answer| answer.status.as_u16());
        assert_eq!(status, expected, "{method} {path} {host} {origin:?}");
    }

    #[test]
    fn other_names_of_the_server_are_refused() {
        for host in [
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "127.1.2.3",
            "box.example",
            "a.localhost",
        ] {
            check(&Method::GET, "/", host, None, Some(200));
            check(&Method::GET, "/api/film/", host, None, None);
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0:8000",
            "192.168.1.5",
        ] {
            check(&Method::GET, "/api/film/", host, None, Some(421));
            check(&Method::GET, "/live", host, None, Some(421));
        }
        check(&Method::GET, "/", "a b", None, Some(400));
    }

    #[test]
    fn foreign_pages_may_not_write() {
        let patch = Method::PATCH;
        check(&patch, "/api/film/1/", "localhost:8000", None, None);
        check(
            &patch,
            "/api/film/1/",
            "localhost:8000",
            Some("http://localhost:8000"),
            None,
        );
        check(
            &patch,
            "/api/film/1/",
            "localhost:8000",
            Some("https://app.example"),
            None,
        );
        for origin in ["http://localhost:8001", "https://evil.example", "null"] {
            check(
                &patch,
                "/api/film/1/",
                "localhost:8000",
                Some(origin),
                Some(403),
            );
        }
    }

    #[test]
    fn the_list_of_collections_is_answered() {
        check(&Method::GET, "/api/", "localhost", None, Some(200));
        check(&Method::POST, "/api/", "localhost", None, None);
        check(&Method::GET, "/nothing", "localhost", None, Some(404));
        check(&Method::DELETE, "/", "localhost", None, Some(405));
    }
}
