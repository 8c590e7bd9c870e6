//! What the servers of both frameworks share: the end, and what pages of other origins may use.

use std::time::Duration;

use fieldsync::Engine;
use tokio::signal::unix::{SignalKind, signal};

/// How long a stop waits for requests and WebSockets.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Resolves at SIGTERM or Ctrl-C, after the engine has drained.
pub(crate) async fn stopped(engine: Engine) {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be registered");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be registered");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    eprintln!("Stopping.");
    let _ = engine.drain(DRAIN_TIMEOUT).await;
}

/// The methods and headers that pages of other origins may use, if the options allow any.
pub(crate) const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];
pub(crate) const ALLOWED_HEADERS: [&str; 6] = [
    "content-type",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "fieldsync-base",
    "last-event-id",
];
pub(crate) const EXPOSED_HEADERS: [&str; 5] = [
    "etag",
    "location",
    "link",
    "fieldsync-cursor",
    "retry-after",
];
