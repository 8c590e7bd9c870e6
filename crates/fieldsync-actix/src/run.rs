//! The server, until the process is told to stop.

use std::io;
use std::pin::pin;
use std::time::Duration;

use actix_web::dev::Server;
use fieldsync::Engine;
use futures_util::future::{Either, select};

/// Runs a server until SIGTERM or Ctrl-C. Then the engine drains for at most `timeout`, and actix finishes what is left, for at most a
/// second more.
///
/// The server must have been made with `disable_signals`: actix knows nothing of open WebSockets, and would wait for event streams.
///
/// # Errors
/// The server's.
///
/// ```no_run
/// # use std::time::Duration;
/// # use actix_web::{App, HttpServer, web};
/// # async fn serve(engine: fieldsync::Engine) -> std::io::Result<()> {
/// let mounted = engine.clone();
/// let app = move || App::new().service(web::scope("/api").service(fieldsync_actix::rest(&mounted)));
/// let server = HttpServer::new(app).disable_signals().bind("127.0.0.1:8000")?.run();
/// fieldsync_actix::run(server, &engine, Duration::from_secs(10)).await
/// # }
/// ```
pub async fn run(server: Server, engine: &Engine, timeout: Duration) -> io::Result<()> {
    let handle = server.handle();
    let serve = |stopped| async move {
        let stopping = async move {
            stopped.await;
            handle.stop(true).await;
        };
        match select(server, pin!(stopping)).await {
            Either::Left((served, _)) => served,
            Either::Right(((), server)) => server.await,
        }
    };
    engine.serve_until_signal(timeout, serve).await
}
