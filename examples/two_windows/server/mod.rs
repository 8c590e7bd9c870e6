//! The app under either web framework: the pages, the REST routes and the WebSocket, a limit on connections, a timeout for the
//! head of a request, and a shutdown that finishes the requests in progress.

mod actix;
mod axum;

use std::io::{Write as _, stdout};
use std::sync::Arc;
use std::time::Duration;

use fieldsync::Engine;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::logins::Logins;
use crate::options::{Options, ServerOption};
use crate::pages::{self, Page};

/// The most open connections. Further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 10_000;
/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a shutdown waits for requests and WebSockets.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The methods and headers that pages of other origins may use, if the options allow any.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];
const ALLOWED_HEADERS: [&str; 7] = [
    "content-type",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "fieldsync-base",
    "last-event-id",
    "prefer",
];
const EXPOSED_HEADERS: [&str; 8] = [
    "etag",
    "location",
    "link",
    "fieldsync-cursor",
    "accept-patch",
    "allow",
    "retry-after",
    "content-range",
];

/// Serves until SIGTERM or Ctrl-C, then drains. A second Ctrl-C stops at once.
pub(crate) async fn serve(engine: Engine, options: &Options) -> Result<(), String> {
    let listen = options.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let what_to_do =
            "If another demo is running, stop it, or name another address: --listen 127.0.0.1:8001";
        format!("can't listen on {listen}: {error}\n{what_to_do}")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    // The standard output may be closed.
    let _ = writeln!(
        stdout(),
        "Window 1: http://{address}/window1/\nWindow 2: http://{address}/window2/"
    );
    let logins = options.roles.then(|| Arc::new(Logins::default()));
    match options.server {
        ServerOption::Axum => axum::serve(listener, engine, options, logins).await,
        ServerOption::Actix => actix::serve(listener, engine, options, logins).await,
    }
}

/// The page or file at a path. Who opens their own window without being signed in is signed in.
fn page(logins: Option<&Logins>, path: &str, cookies: &str) -> Option<Page> {
    let path = if path == "/" { "/window1/" } else { path };
    let person = logins.and_then(|_| pages::person_at(path));
    let mut page = pages::find(path, person)?;
    if let (Some(logins), Some(person)) = (logins, person)
        && logins.principal(person, cookies).is_none()
    {
        page.cookie = Some(logins.sign_in(person));
    }
    Some(page)
}

/// Finishes the requests in progress, and closes the WebSockets so that their clients reconnect.
async fn drain(engine: &Engine, mut stop_signals: StopSignals) {
    eprintln!("Stopping. Press Ctrl-C again to stop at once.");
    tokio::spawn(async move {
        stop_signals.next().await;
        std::process::exit(130);
    });
    let report = engine.drain(DRAIN_TIMEOUT).await;
    if !report.is_complete() {
        eprintln!(
            "After {} s there are still {} requests, {} WebSockets and {} writes in progress.",
            DRAIN_TIMEOUT.as_secs(),
            report.requests,
            report.connections,
            report.writes
        );
    }
}

/// SIGTERM and Ctrl-C. Both are registered at the start, so that no second signal is missed.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Self {
        let listen = |kind| signal(kind).expect("signals can be registered");
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
