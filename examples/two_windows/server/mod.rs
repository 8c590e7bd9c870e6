//! The same app under either web framework: the pages, the REST routes, the socket, and what a server needs besides: a limit
//! on connections, a limit on how long a request's head may take, and a stop that finishes what is under way.

mod actix;
mod axum;

use std::io::{Write as _, stdout};
use std::time::Duration;

use fieldsync::Engine;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::options::{Options, ServerOption};

/// So many connections are served at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 10_000;
/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long requests and sockets under way may take to end.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// What pages of other origins may call, send and read, where the options allow any.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];
const ALLOWED_HEADERS: [&str; 6] = [
    "content-type",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "fieldsync-base",
    "last-event-id",
];
const EXPOSED_HEADERS: [&str; 7] = [
    "etag",
    "location",
    "link",
    "fieldsync-cursor",
    "accept-patch",
    "allow",
    "retry-after",
];

/// Serves until the process is told to stop (SIGTERM or Ctrl-C), then drains. A second Ctrl-C stops at once.
pub(crate) async fn serve(engine: Engine, options: &Options) -> Result<(), String> {
    let listen = options.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let what_to_do = "Is another one running? Stop it, or choose another address with --listen 127.0.0.1:8001";
        format!("Can't listen on {listen}: {error}.\n{what_to_do}")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    // Whoever started the program may not read what it says.
    let _ = writeln!(
        stdout(),
        "Window 1: http://{address}/window1/\nWindow 2: http://{address}/window2/"
    );
    match options.server {
        ServerOption::Axum => axum::serve(listener, engine, options).await,
        ServerOption::Actix => actix::serve(listener, engine, options).await,
    }
}

/// What `/healthz` answers: a status, and why.
fn health(engine: &Engine) -> (u16, &'static str) {
    if engine.is_ready() {
        (200, "ok")
    } else {
        (503, "stopping")
    }
}

/// Finishes what is under way in the engine: edits, and sockets, which are asked to come back.
async fn drain(engine: &Engine, mut stop_signals: StopSignals) {
    eprintln!("Stopping. Press Ctrl-C again to stop at once.");
    tokio::spawn(async move {
        stop_signals.next().await;
        std::process::exit(130);
    });
    if !engine.drain(DRAIN_TIME).await {
        eprintln!("Some requests were not finished in time.");
    }
}

/// SIGTERM and Ctrl-C. Listened to from the beginning on, so that none is missed between the first and the second.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Self {
        let listen = |kind| signal(kind).expect("the process may listen to signals");
        Self {
            terminate: listen(SignalKind::terminate()),
            interrupt: listen(SignalKind::interrupt()),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
