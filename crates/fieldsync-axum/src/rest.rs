//! The REST routes.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{OriginalUri, Request};
use axum::http::header;
use fieldsync::Engine;
use fieldsync::adapter::{MountPath, handle};
use tokio::time::timeout;

use crate::principal::Principal;

/// How long the rest of a refused request's body is read.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The routes of every collection, to be nested where the app wants them: `GET` and `POST /users/`, `GET`, `PATCH` and
/// `DELETE /users/1/`, each with or without the trailing slash.
pub fn rest<S: Clone + Send + Sync + 'static>(engine: &Engine) -> Router<S> {
    let engine = engine.clone();
    let answer = move |principal: Principal, original: OriginalUri, request: Request| async move {
        let (mut parts, mut body) = request.into_parts();
        let mount_path = MountPath::removed_from(original.path(), parts.uri.path());
        parts.extensions.insert(mount_path);
        let expects_100 = parts.headers.contains_key(header::EXPECT);
        let response = handle(&engine, principal.0, parts, &mut body).await;
        let status = response.status();
        if (status.is_client_error() || status.is_server_error()) && !expects_100 {
            tokio::spawn(timeout(DISCARD_TIMEOUT, discard(body)));
        }
        response
    };
    Router::new().fallback(answer)
}

/// Reads the rest of a body while the response is sent: a client that is still writing when the connection is closed may
/// never see the response (RFC 9112, section 9.6).
async fn discard(mut body: Body) {
    while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {}
}
