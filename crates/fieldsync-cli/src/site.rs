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

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page: path, media type and text.
macro_rules! files {
    ($($media_type:expr => $($name:literal)+;)+) => {
        &[$($((concat!("/", $name), $media_type, include_str!(concat!("../page/", $name)))),+),+]
    };
}
const FILES: &[(&str, &str, &str)] = files! {
    "text/html; charset=utf-8" => "index.html";
    "text/css; charset=utf-8" => "page.css";
    "image/svg+xml" => "icon.svg";
    SCRIPT => "page.js"
        "table_session.js" "listing.js" "list_page.js" "catalog.js" "location_hash.js"
        "grid_view.js" "grid_focus.js" "grid_keys.js" "highlights.js" "cell_view.js" "cell_editor.js" "cell_value.js" "field_kind.js" "field_input.js" "edits.js" "desks.js"
        "table_list_view.js" "columns_view.js" "code_view.js" "snippets.js" "news.js" "table_facts.js" "record_dialog.js" "pager.js" "tabs.js" "element.js"
        "wire_view.js" "wire_log.js" "wire_taps.js"
        "client/connection_view.js" "client/problem.js" "client/fieldsync.js" "client/records.js" "client/close_codes.js"
        "client/saver.js" "client/retrier.js" "client/rest.js" "client/idempotency_key.js" "client/backoff.js"
        "client/clock.js";
};

/// The headers of every answer. The page loads files from its own server only, sends requests to no other, and is never shown
/// inside another page.
pub(crate) const HEADERS: [(&str, &str); 3] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("cache-control", "no-cache"),
];

impl Site {
    /// The answer to a request that is not for the collections, the WebSocket or a probe. `None` for one that is.
    pub(crate) fn answer(&self, head: &Head<'_>) -> Option<Answer> {
        // A probe names the server by any address, and learns nothing.
        if matches!(head.path, "/healthz" | "/readyz") {
            return None;
        }
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
        let path = match head.path {
            "/" => "/index.html",
            path => path,
        };
        let page = FILES.iter().find(|(known, ..)| *known == path);
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

    #[test]
    fn every_file_that_a_script_imports_is_served() {
        for (path, _, text) in FILES.iter().filter(|(path, ..)| path.ends_with(".js")) {
            let folder = &path[..=path.rfind('/').unwrap_or(0)];
            let imports = text.lines().filter(|line| line.starts_with("import "));
            for import in imports {
                let name = import.split('\'').nth(1).unwrap_or_default();
                let imported = format!("{folder}{}", name.trim_start_matches("./"));
                let is_served = FILES.iter().any(|(known, ..)| *known == imported);
                assert!(is_served, "{path} imports {imported}");
            }
        }
    }

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
        for path in ["/healthz", "/readyz"] {
            check(&Method::GET, path, "10.0.0.7:8000", None, None);
        }
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
        check(&Method::GET, "/page.js", "localhost", None, Some(200));
        check(&Method::DELETE, "/", "localhost", None, Some(405));
    }
}
