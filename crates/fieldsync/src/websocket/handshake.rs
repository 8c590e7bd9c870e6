//! The opening handshake (RFC 6455, section 4.2), the same for every framework.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use ::http::header::{
    ALLOW, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use ::http::request::Parts;
use ::http::{Method, Response, StatusCode, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::engine::engine::Engine;
use crate::engine::origins::Origin;
use crate::engine::usage::OpenConnection;
use crate::http::{
    Body, Rejection, RequestId, WithHeader as _, check_size, empty, list_items, only_value,
};
use crate::model::cursor::Position;
use crate::model::principal::Principal;
use crate::protocol::Problem;

/// The subprotocol's name.
const V1: &str = "fieldsync.v1";

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// The value of `Connection` that goes with `Upgrade`.
const UPGRADES: HeaderValue = HeaderValue::from_static("Upgrade");

/// An accepted handshake, to be passed to [`serve`](crate::adapter::serve).
#[derive(Debug)]
pub struct Accepted {
    pub(crate) subprotocol: Subprotocol,
    /// The ends of the feeds' logs when the handshake was accepted, in the order of the feeds.
    pub(crate) since: Vec<Position>,
    /// The id of the handshake, for the log.
    pub(crate) request_id: RequestId,
    /// Counts the connection, from the handshake on.
    pub(crate) _open: OpenConnection,
}

/// Marks a request as an extended CONNECT of HTTP/2 with the protocol `websocket` (RFC 8441): an adapter puts it into the request's
/// extensions. The response is a 200 then, in place of the 101.
#[derive(Debug, Clone, Copy)]
pub struct ExtendedConnect;

/// What the connection's messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subprotocol {
    /// Messages of `fieldsync.v1`.
    V1,
    /// Messages of the app's plain feeds. It has no name in the handshake.
    Feed,
}

/// Checks a request to open a WebSocket.
///
/// With an [`Accepted`] the response is the 101 (200 in HTTP/2, see [`ExtendedConnect`]), and [`serve`](crate::adapter::serve) takes the bytes that follow it.
/// Without one the response says why the request was refused. Either way the adapter sends the response.
#[must_use]
pub fn accept(
    engine: &Engine,
    principal: &Principal,
    parts: &Parts,
) -> (Response<Body>, Option<Accepted>) {
    let request_id = RequestId::of(&parts.headers);
    let span = tracing::error_span!("handshake", %request_id);
    let checked = span.in_scope(|| {
        let checked = check(engine, parts)?;
        let open = engine.usage().connect(principal).map_err(Problem::from)?;
        Ok::<_, Rejection>((checked, open))
    });
    let ((key, subprotocol), open) = match checked {
        Ok(checked) => checked,
        Err(rejection) => return (rejection.into_response(), None),
    };
    let response = match key {
        Some(key) => empty(StatusCode::SWITCHING_PROTOCOLS)
            .with(UPGRADE, WEBSOCKET)
            .with(CONNECTION, UPGRADES)
            .with_text(SEC_WEBSOCKET_ACCEPT, accept_key(key.as_bytes())),
        None => empty(StatusCode::OK),
    };
    let (response, since) = match subprotocol {
        Subprotocol::V1 => {
            let name = HeaderValue::from_static(V1);
            (response.with(SEC_WEBSOCKET_PROTOCOL, name), Vec::new())
        }
        Subprotocol::Feed => (response, engine.feed_positions()),
    };
    let accepted = Accepted {
        subprotocol,
        since,
        request_id,
        _open: open,
    };
    (response, Some(accepted))
}

/// Checks everything, and returns the key of HTTP/1.1 and the subprotocol.
fn check<'a>(
    engine: &Engine,
    parts: &'a Parts,
) -> Result<(Option<&'a HeaderValue>, Subprotocol), Rejection> {
    let headers = &parts.headers;
    check_size(headers)?;
    let is_connect = parts.extensions.get::<ExtendedConnect>().is_some();
    if parts.method != Method::GET && !is_connect {
        return Err(Rejection::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "a WebSocket is opened with GET",
        )
        .with(ALLOW, HeaderValue::from_static("GET")));
    }
    let key = if is_connect {
        check_version(headers)?;
        None
    } else {
        Some(check_upgrade(parts)?)
    };
    check_origin(engine, parts)?;
    if !engine.is_ready() {
        return Err(Problem::unavailable("the server is shutting down").into());
    }
    let offers_v1 = list_items(headers, SEC_WEBSOCKET_PROTOCOL).any(|name| name == V1.as_bytes());
    if offers_v1 {
        return Ok((key, Subprotocol::V1));
    }
    if engine.settings().feeds.is_empty() {
        let detail =
            "Sec-WebSocket-Protocol must offer fieldsync.v1: this server has no plain feed";
        return Err(malformed(detail));
    }
    Ok((key, Subprotocol::Feed))
}

/// Checks the headers that make a request a handshake, and returns the key.
fn check_upgrade(parts: &Parts) -> Result<&HeaderValue, Rejection> {
    let headers = &parts.headers;
    if parts.version == Version::HTTP_10 {
        return Err(upgrade_required("a WebSocket needs HTTP/1.1"));
    }
    if !has_token(headers, UPGRADE, "websocket") {
        return Err(upgrade_required(
            "this path is a WebSocket: send Upgrade: websocket",
        ));
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        return Err(malformed("Connection must contain Upgrade"));
    }
    if only_value(headers, HOST).is_none() {
        return Err(malformed("Host must be given once"));
    }
    check_version(headers)?;
    only_value(headers, SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16))
        .ok_or_else(|| malformed("Sec-WebSocket-Key must be given once, as 16 bytes in base64"))
}

fn check_version(headers: &HeaderMap) -> Result<(), Rejection> {
    match only_value(headers, SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) {
        Some(b"13") => Ok(()),
        None => Err(malformed("Sec-WebSocket-Version must be given once")),
        Some(_) => {
            let rejection = upgrade_required("Sec-WebSocket-Version must be 13");
            let version = HeaderValue::from_static("13");
            Err(rejection.with(SEC_WEBSOCKET_VERSION, version))
        }
    }
}

/// Allows requests without an `Origin`, which only browsers send, those from the server's own host and port, and those
/// from an origin that the app allows.
fn check_origin(engine: &Engine, parts: &Parts) -> Result<(), Rejection> {
    let headers = &parts.headers;
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let text = |name| only_value(headers, name).and_then(|value| value.to_str().ok());
    let origin = text(ORIGIN).unwrap_or_default();
    let host = authority(parts).unwrap_or_default();
    // A proxy in front of the server says what the page's scheme must be.
    let scheme = text(X_FORWARDED_PROTO).and_then(scheme_of_page);
    let is_own = Origin::parse(origin).is_some_and(|origin| origin.is_at(host, scheme));
    if is_own || engine.settings().origins.allows(origin) {
        return Ok(());
    }
    if is_time_to_log() {
        tracing::warn!(
            origin,
            host,
            scheme,
            "a page's WebSocket was refused: .allow_origin(…) on the engine's builder allows its origin"
        );
    }
    let scheme = scheme.map_or_else(String::new, |scheme| format!(" over {scheme}"));
    let detail = format!(
        "pages of the origin {origin:?} may not open a WebSocket at {host:?}{scheme}; if they should, the app allows it with \
         .allow_origin({origin:?})"
    );
    Err(Rejection::new(StatusCode::FORBIDDEN, "origin", detail))
}

/// The scheme of a page that connects like this, if a proxy says so. Some proxies name that of the WebSocket, and a second one appends its
/// own.
fn scheme_of_page(forwarded: &str) -> Option<&'static str> {
    let first = forwarded.split(',').next()?.trim_ascii();
    match first.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some("https"),
        "http" | "ws" => Some("http"),
        _ => None,
    }
}

/// Where a request was sent: the one Host, or the authority of HTTP/2.
fn authority(parts: &Parts) -> Option<&str> {
    let host = only_value(&parts.headers, HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| Some(parts.uri.authority()?.as_str()))
}

/// At most once a second: others can cause such lines.
fn is_time_to_log() -> bool {
    static LOGGED_AT: AtomicU64 = AtomicU64::new(0);
    let now = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    LOGGED_AT.swap(now, Ordering::Relaxed) != now
}

fn malformed(detail: &str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "malformed", detail)
}

fn upgrade_required(detail: &str) -> Rejection {
    Rejection::new(StatusCode::UPGRADE_REQUIRED, "upgrade-required", detail)
        .with(UPGRADE, WEBSOCKET)
        .with(CONNECTION, UPGRADES)
}

/// Whether a header that is a list of tokens contains this one, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    list_items(headers, name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// The value of `Sec-WebSocket-Accept` (RFC 6455, section 4.2.2, step 5.4).
fn accept_key(key: &[u8]) -> String {
    let mut sha1 = sha1_smol::Sha1::from(key);
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(sha1.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_in_rfc_6455_section_1_3_is_accepted_as_in_the_rfc() {
        assert_eq!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
