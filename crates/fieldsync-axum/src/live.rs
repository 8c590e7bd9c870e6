//! The WebSocket route.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};
use fieldsync::{Engine, accept, serve};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::request::{head_of, response};

/// The WebSocket of the engine: `fieldsync.v1` for those who offer it, else the plain feed if the engine has one.
///
/// Each connection is a task of its own, which ends with the connection, or when the engine drains.
pub fn live<S: Clone + Send + Sync + 'static>(engine: &Engine) -> MethodRouter<S> {
    let engine = engine.clone();
    any(move |mut request: Request<Body>| {
        let engine = engine.clone();
        async move {
            let (head, who) = head_of(&request);
            let (reply, accepted) = accept(&engine, &head);
            let Some(accepted) = accepted else {
                return response(reply);
            };
            let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
                tracing::error!(
                    "a socket can't be opened: this server does not upgrade connections"
                );
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            tokio::spawn(async move {
                match upgrade.await {
                    Ok(io) => serve(engine, accepted, who, TokioIo::new(io)).await,
                    Err(error) => {
                        tracing::debug!(%error, "a client left before its socket was open");
                    }
                }
            });
            response(reply)
        }
    })
}
