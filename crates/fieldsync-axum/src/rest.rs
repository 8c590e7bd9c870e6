//! The REST routes.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{OriginalUri, Request};
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any};
use fieldsync::Engine;
use fieldsync::adapter::{MountPath, handle, not_found_response};
use tokio::time::timeout;

use crate::principal::Principal;

/// How long the rest of a refused request's body is read.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The routes of every collection: `GET` and `POST /users/`, `GET`, `PATCH` and `DELETE /users/1/`, each with or without the
/// trailing slash. They can be nested at any depth, merged, and stand beside other routes, a catch-all and a fallback.
///
/// A path of no collection is left to the app's fallback. A collection that a caller may not know of is answered with the
/// problem `not-found`; where its name is a secret, [`not_found`](crate::not_found) gives every other path the same answer.
///
/// `Location` and `Link` begin with the path at which the routes are nested. Where a middleware around the whole router removes
/// a prefix, it must say so by a [`MountPath`] in the request's extensions.
pub fn rest<S: Clone + Send + Sync + 'static>(engine: &Engine) -> Router<S> {
    let served = engine.clone();
    let answer = move |principal: Principal, original: OriginalUri, request: Request| async move {
        let (mut parts, mut body) = request.into_parts();
        let nested_at = MountPath::removed_from(original.path(), parts.uri.path());
        let removed = parts.extensions.remove::<MountPath>().unwrap_or_default();
        parts.extensions.insert(nested_at.below(&removed));
        let expects_100 = parts.headers.contains_key(header::EXPECT);
        let response = handle(&served, principal.0, parts, &mut body).await;
        let status = response.status();
        if (status.is_client_error() || status.is_server_error()) && !expects_100 {
            tokio::spawn(timeout(DISCARD_TIMEOUT, discard(body)));
        }
        response
    };
    let mut routes = Router::new();
    for name in engine.collection_names() {
        for path in [
            format!("/{name}"),
            format!("/{name}/"),
            format!("/{name}/{{*fieldsync_path}}"),
        ] {
            routes = routes.route(&path, any(answer.clone()));
        }
    }
    routes
}

/// One stream of server-sent events for several topics, at a path of the app's choice: `GET /api/?topic=users&topic=orders/7`. A browser
/// opens six connections per host over HTTP/1.1, and an event stream takes one of them for good.
///
/// ```
/// # use axum::Router;
/// # fn mount(engine: &fieldsync::Engine) -> Router {
/// Router::new()
///     .nest("/api", fieldsync_axum::rest(engine))
///     .route("/api/", fieldsync_axum::events(engine))
/// # }
/// ```
pub fn events<S: Clone + Send + Sync + 'static>(engine: &Engine) -> MethodRouter<S> {
    let engine = engine.clone();
    any(move |principal: Principal, request: Request| async move {
        let (mut parts, _) = request.into_parts();
        parts.uri = at_the_root(&parts.uri);
        handle(&engine, principal.0, parts, Body::empty()).await
    })
}

/// The root, with the query of this address.
fn at_the_root(uri: &Uri) -> Uri {
    let query = uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    Uri::try_from(format!("/{query}")).expect("the query was part of an address")
}

/// The answer to a path at which nothing exists: the problem `not-found`, for `.fallback(fieldsync_axum::not_found)`.
///
/// ```
/// # use axum::Router;
/// # fn mount(engine: &fieldsync::Engine) -> Router {
/// Router::new().nest("/api", fieldsync_axum::rest(engine).fallback(fieldsync_axum::not_found))
/// # }
/// ```
pub async fn not_found() -> Response {
    not_found_response().into_response()
}

/// Reads the rest of a body while the response is sent: a client that is still writing when the connection is closed may
/// never see the response (RFC 9112, section 9.6).
async fn discard(mut body: Body) {
    while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {}
}
