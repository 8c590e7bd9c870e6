//! The server with axum.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use fieldsync::Engine;
use tokio::net::TcpListener;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::server::{ALLOWED_HEADERS, DRAIN_TIMEOUT, EXPOSED_HEADERS, METHODS};
use crate::site::{Answer, HEADERS, Head, Site};

pub(crate) async fn serve(
    listener: TcpListener,
    engine: Engine,
    site: Arc<Site>,
    origins: &[String],
) -> Result<(), String> {
    let app = Router::new()
        .nest(
            "/api",
            fieldsync_axum::rest(&engine).fallback(fieldsync_axum::not_found),
        )
        .route("/live", fieldsync_axum::live(&engine))
        .route("/healthz", fieldsync_axum::healthz(&engine))
        .route("/readyz", fieldsync_axum::readyz(&engine))
        .layer(from_fn_with_state(site, answer))
        .layer(cors(origins)?);
    let listener = listener.tap_io(fieldsync_axum::limit_writes);
    let serve = |stopped| axum::serve(listener, app).with_graceful_shutdown(stopped);
    let served = engine.serve_until_signal(DRAIN_TIMEOUT, serve).await;
    served.map_err(|error| error.to_string())
}

async fn answer(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match answer_to(&site, &request) {
        None => next.run(request).await,
        Some(answer) => {
            let content_type = [(header::CONTENT_TYPE, answer.content_type)];
            (answer.status, HEADERS, content_type, answer.body).into_response()
        }
    }
}

fn answer_to(site: &Site, request: &Request) -> Option<Answer> {
    let text = |name| request.headers().get(name)?.to_str().ok();
    let authority = request.uri().authority();
    site.answer(&Head {
        method: request.method(),
        path: request.uri().path(),
        host: text(header::HOST).or(authority.map(|authority| authority.as_str())),
        origin: text(header::ORIGIN),
    })
}

/// Allows pages of these origins to call the API. The WebSocket checks the origin itself.
fn cors(origins: &[String]) -> Result<CorsLayer, String> {
    if origins.is_empty() {
        return Ok(CorsLayer::new());
    }
    let origin = |origin: &String| {
        origin
            .parse::<HeaderValue>()
            .map_err(|_| format!("--allow-origin {origin}: not an origin"))
    };
    let origins = origins.iter().map(origin).collect::<Result<Vec<_>, _>>()?;
    let methods = METHODS.map(|method| Method::from_bytes(method.as_bytes()).unwrap_or_default());
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(methods)
        .allow_headers(ALLOWED_HEADERS.map(HeaderName::from_static))
        .expose_headers(EXPOSED_HEADERS.map(HeaderName::from_static)))
}
