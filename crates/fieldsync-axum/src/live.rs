//! The WebSocket route.

use std::io::Cursor;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Version};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any};
use fieldsync::Engine;
use fieldsync::adapter::{Accepted, ExtendedConnect, accept, leave_limit_to_websocket, serve};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, join};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::principal::Principal;

/// How long a client may take to receive the answer to its handshake. Until then its principal can't be revoked.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

/// The engine's WebSocket: `fieldsync.v1` for clients that offer it, else the plain feed if the engine has one. It is opened over
/// HTTP/1.1, and over HTTP/2 (RFC 8441) where the server speaks that: `axum::serve` does with axum's feature `http2`.
///
/// Each connection is a task, which ends when the connection is closed or the engine drains.
pub fn live<S: Clone + Send + Sync + 'static>(engine: &Engine) -> MethodRouter<S> {
    let engine = engine.clone();
    let open = move |principal: Principal, request: Request| async move {
        let (mut parts, _) = request.into_parts();
        // Only an extended CONNECT has a path.
        if parts.method == Method::CONNECT && parts.version == Version::HTTP_2 {
            parts.extensions.insert(ExtendedConnect);
        }
        let (response, accepted) = accept(&engine, &principal.0, &parts);
        let Some(accepted) = accepted else {
            return response.into_response();
        };
        let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            tracing::error!(
                "a WebSocket can't be opened: this server does not upgrade connections"
            );
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        tokio::spawn(async move {
            match timeout(UPGRADE_TIMEOUT, upgrade).await {
                Ok(Ok(upgraded)) => serve_upgraded(engine, accepted, principal.0, upgraded).await,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a client disconnected before its WebSocket was open");
                }
                Err(_) => tracing::debug!("a client did not take the answer to its handshake"),
            }
        });
        response.into_response()
    };
    any(open)
}

/// Serves a TCP connection without hyper in between, and sends each frame at once.
fn serve_upgraded(
    engine: Engine,
    accepted: Accepted,
    principal: fieldsync::Principal,
    upgraded: Upgraded,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match tcp_of(upgraded) {
        Ok((stream, early)) => {
            leave_limit_to_websocket(&stream);
            let (read, write) = stream.into_split();
            let io = join(Cursor::new(early).chain(read), write);
            Box::pin(serve(engine, accepted, principal, io))
        }
        Err(upgraded) => {
            let io = TokioIo::new(upgraded);
            Box::pin(serve(engine, accepted, principal, io))
        }
    }
}

/// The TCP connection below hyper, and the bytes that hyper has read of it already.
fn tcp_of(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    // `axum::serve` adds a wrapper of its own.
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
