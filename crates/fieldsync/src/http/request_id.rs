//! The ids by which the lines of one request, or of one connection, are found in the log.

use std::fmt;

use ::http::header::{HeaderMap, HeaderName};

use tracing::Span;

use crate::http::headers::only_value;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest id that is taken from a request.
const MAX_ID_BYTES: usize = 64;

/// The id of a request: its `X-Request-Id`, else the trace id of its `traceparent` (W3C Trace Context), else a random one.
///
/// It is for the log alone. A client may send any id, so that it identifies nobody, and is no label of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(Box<str>);

impl RequestId {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| only_value(headers, name)?.to_str().ok();
        let id = text(X_REQUEST_ID).filter(|id| is_id(id));
        let id = id.or_else(|| trace_id(text(TRACEPARENT)?));
        id.map_or_else(Self::random, |id| Self(id.into()))
    }

    pub(crate) fn random() -> Self {
        Self(format!("{:016x}", fastrand::u64(..)).into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The span of a connection: the lines about a WebSocket or an event stream have its random id. A WebSocket outlives the span of its
/// handshake, and takes along its id.
///
/// It is an error's span, so that lines of every level have it.
pub(crate) fn connection_span(transport: &'static str, handshake: Option<&RequestId>) -> Span {
    tracing::error_span!(
        "connection",
        connection_id = %RequestId::random(),
        request_id = handshake.map(tracing::field::display),
        transport,
    )
}

/// Whether the text is short, and can't be taken for more than one word of a line.
fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The trace id of a `traceparent`: version, trace id, parent id and flags, in lower-case hexadecimal.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let mut hex = |digits: usize| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let part = parts.next()?;
        (part.len() == digits && part.bytes().all(is_digit)).then_some(part)
    };
    let (version, id, parent, _) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    (version != "ff" && !is_zero(id) && !is_zero(parent)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn id_of(headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        RequestId::of(&map).to_string()
    }

    #[test]
    fn the_id_of_a_proxy_is_taken_and_else_that_of_the_trace() {
        assert_eq!(id_of(&[("x-request-id", "a1-B.c:_")]), "a1-B.c:_");
        let trace = ("traceparent", TRACE);
        assert_eq!(id_of(&[trace]), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(id_of(&[("x-request-id", "one"), trace]), "one");
    }

    #[test]
    fn other_texts_are_replaced_by_a_random_id() {
        let long = "a".repeat(65);
        for id in ["", "two words", "a=b", "\"", "é", &long] {
            let found = id_of(&[("x-request-id", id)]);
            assert!(found.len() == 16 && found != id, "{id:?}: {found}");
        }
        assert_eq!(
            id_of(&[("x-request-id", "a"), ("x-request-id", "b")]).len(),
            16
        );
        for trace in [
            "",
            "00",
            &TRACE.to_uppercase(),
            &TRACE.replace("00-4", "ff-4"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(id_of(&[("traceparent", trace)]).len(), 16, "{trace}");
        }
        assert_ne!(id_of(&[]), id_of(&[]));
    }
}
