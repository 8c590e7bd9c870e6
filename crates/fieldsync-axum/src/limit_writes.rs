//! The limit on writes.

use fieldsync::adapter;
use tokio::net::TcpStream;

/// Cuts a client off that takes nothing of what it is sent for 30 s, and sends small messages at once. Without it, an event stream or a
/// reply that nobody reads holds its connection; a WebSocket has the limit in any case.
///
/// On systems other than Linux and Android it only sends small messages at once.
///
/// ```no_run
/// # async fn serve(listener: tokio::net::TcpListener, app: axum::Router) -> std::io::Result<()> {
/// use axum::serve::ListenerExt as _;
///
/// axum::serve(listener.tap_io(fieldsync_axum::limit_writes), app).await
/// # }
/// ```
pub fn limit_writes(connection: &mut TcpStream) {
    adapter::limit_writes(&*connection);
}
