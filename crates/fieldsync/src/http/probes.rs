//! The probes of load balancers and orchestrators: whether this process lives, and whether it can serve.

use ::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use ::http::{Method, Response, StatusCode};
use bytes::Bytes;
use serde_json::json;

use crate::engine::engine::Engine;
use crate::engine::readiness::NotReady;
use crate::http::body::Body;
use crate::http::reply::{Rejection, WithHeader as _, json as json_response, to_json};

/// What a probe asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether the process lives. It does while the engine drains, and while the store is down: a new process would help neither.
    Live,
    /// Whether the process can serve: the store answers within two seconds, and the engine does not drain.
    Ready,
}

/// Answers a probe: 200, or 503 with `Retry-After` and a word that says why. The answer contains nothing secret.
///
/// The store is asked at most twice a second, however many probes there are.
pub async fn probe(engine: &Engine, probe: Probe, method: &Method) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let detail = "a probe is made with GET or HEAD";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let allowed = HeaderValue::from_static("GET, HEAD");
        let rejection = Rejection::new(status, "method-not-allowed", detail);
        return rejection.with(ALLOW, allowed).into_response();
    }
    let checked = match probe {
        Probe::Live => engine.liveness(),
        Probe::Ready => engine.readiness().await,
    };
    let (status, body) = match checked {
        Ok(()) => (StatusCode::OK, json!({"status": "ok"})),
        Err(cause) => {
            let body = json!({"status": "unavailable", "cause": word(cause)});
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
    };
    let body = to_json(&body);
    let length = body.len() as u64;
    let is_head = *method == Method::HEAD;
    let response = json_response(status, if is_head { Bytes::new() } else { body });
    let response = response.with(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let response = match is_head {
        true => response.with(CONTENT_LENGTH, length.into()),
        false => response,
    };
    match checked {
        Ok(()) => response,
        Err(_) => response.with(RETRY_AFTER, HeaderValue::from_static("1")),
    }
}

fn word(cause: NotReady) -> &'static str {
    match cause {
        NotReady::Stopped => "stopped",
        NotReady::Draining => "draining",
        NotReady::StoreSilent => "store-silent",
        NotReady::StoreUnavailable => "store-unavailable",
        NotReady::StoreFailed => "store-failed",
        NotReady::Tables => "tables",
    }
}
