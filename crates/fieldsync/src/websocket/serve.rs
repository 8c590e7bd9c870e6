//! One WebSocket from the end of its handshake to its close, on any `AsyncRead + AsyncWrite`.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt as _, SinkExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;
use tokio_websockets::{CloseCode, Config, Error, Limits, Message, ServerBuilder, WebSocketStream};
use tracing::Instrument as _;

use crate::engine::drain::Work;
use crate::engine::engine::Engine;
use crate::http::connection_span;
use crate::model::principal::Principal;
use crate::protocol::Close;
use crate::websocket::connection::{CLOSE_TIMEOUT, Connection, Ended};
use crate::websocket::counted_io::CountedIo;
use crate::websocket::handshake::Accepted;

/// The size of the write buffer.
const BUFFER_BYTES: usize = 16 * 1024;
/// How much of what the peer still sends is read before the connection is cut.
const MAX_LINGER_BYTES: u64 = 1024 * 1024;

/// Serves a WebSocket until the peer closes it, the peer breaks the protocol, or the engine drains.
///
/// `io` carries the bytes that follow the 101 of [`accept`](crate::adapter::accept). Its writer must not be ready while
/// the peer does not read, or memory is no longer bounded.
///
/// Dropping the future cuts the connection without a closing handshake. Nothing is lost: the client resumes with its
/// cursor.
pub fn serve<S>(
    engine: Engine,
    mut accepted: Accepted,
    principal: Principal,
    io: S,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let span = connection_span("websocket", Some(&accepted.request_id));
    let limits = Limits::default().max_payload_len(Some(engine.settings().limits.message_bytes));
    let config = Config::default().flush_threshold(BUFFER_BYTES);
    let (io, written) = CountedIo::new(io);
    let mut socket = ServerBuilder::new().limits(limits).config(config).serve(io);
    // It is most of the memory of an idle connection. An `async fn` would keep its parameters twice, and a future with a name, too.
    let serving = async move {
        let _in_progress = engine.begin(Work::Connection);
        tracing::debug!("a WebSocket was opened");
        let mut connection = Connection::new(&engine, &mut accepted, principal);
        // A panic in the app's own code ends only this connection.
        let ended = AssertUnwindSafe(connection.run(&mut socket, &written))
            .catch_unwind()
            .await;
        let ended = match ended {
            Ok(Err(ended)) => ended,
            Err(_) => Ended::Close(Close::Internal),
        };
        tracing::debug!(?ended, "a WebSocket ended");
        drop(connection);
        if let Ended::Gone = ended {
            return;
        }
        // A peer that does not take part in the closing handshake is cut off.
        let _ = Box::pin(timeout(CLOSE_TIMEOUT, close(socket, ended))).await;
    };
    serving.instrument(span)
}

/// Finishes the closing handshake, then reads what the peer still sends: closing a TCP connection with unread data resets
/// it, and the peer might lose the close frame.
async fn close<S>(mut socket: WebSocketStream<S>, ended: Ended) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Ended::Close(close) = ended {
        let code = CloseCode::try_from(close.code()).expect("every code of ours is valid");
        let message = Message::close(Some(code), &close.reason());
        // This fails if the message was too big: the library has already sent the close frame.
        let _ = socket.send(message).await;
    }
    socket.close().await?;
    let mut rest = socket.into_inner().take(MAX_LINGER_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
