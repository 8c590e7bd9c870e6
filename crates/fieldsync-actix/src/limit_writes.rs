//! The limit on writes.

use std::any::Any;

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use fieldsync::adapter;

/// Cuts a client off that takes nothing of what it is sent for 30 s, and sends small messages at once. Without it, a reply or an event
/// stream that nobody reads holds its connection, and so does what is left after a WebSocket.
///
/// It is for TCP connections without TLS. On systems other than Linux and Android it only sends small messages at once.
///
/// ```no_run
/// # use actix_web::{App, HttpServer};
/// # fn serve() -> std::io::Result<actix_web::dev::Server> {
/// let server = HttpServer::new(App::new).on_connect(fieldsync_actix::limit_writes);
/// Ok(server.bind("127.0.0.1:8000")?.run())
/// # }
/// ```
pub fn limit_writes(connection: &dyn Any, _: &mut Extensions) {
    if let Some(connection) = connection.downcast_ref::<TcpStream>() {
        adapter::limit_writes(connection);
    }
}
