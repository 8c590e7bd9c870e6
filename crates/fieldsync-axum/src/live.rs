//! The WebSocket route.

use std::io::Cursor;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};
use fieldsync::{Accepted, Engine, Principal, accept, serve};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, join};
use tokio::net::TcpStream;

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
                    Ok(upgraded) => serve_upgraded(engine, accepted, who, upgraded).await,
                    Err(error) => {
                        tracing::debug!(%error, "a client left before its socket was open");
                    }
                }
            });
            response(reply)
        }
    })
}

/// Serves on the connection itself where it is TCP: past hyper, and each frame sent at once.
async fn serve_upgraded(engine: Engine, accepted: Accepted, who: Principal, upgraded: Upgraded) {
    match tcp_of(upgraded) {
        Ok((stream, early)) => {
            // Else what follows a frame that was not yet confirmed would wait.
            let _ = stream.set_nodelay(true);
            let (read, write) = stream.into_split();
            let io = join(Cursor::new(early).chain(read), write);
            Box::pin(serve(engine, accepted, who, io)).await;
        }
        Err(upgraded) => {
            let io = TokioIo::new(upgraded);
            Box::pin(serve(engine, accepted, who, io)).await;
        }
    }
}

/// The TCP connection below, and what has been read of it already.
fn tcp_of(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    // `axum::serve` wraps it once more than hyper alone.
    let (io, early) = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => (parts.io, parts.read_buf),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
            (parts.io, parts.read_buf)
        }
    };
    // Copied, so that hyper's buffer is freed.
    Ok((io.into_inner(), Bytes::copy_from_slice(&early)))
}
