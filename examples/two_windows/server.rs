//! Listening, with what `axum::serve` leaves out: a limit on connections, a limit on how long a request's head may take,
//! and a stop that finishes what is under way.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use fieldsync::Engine;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// So many connections are served at a time; further ones wait to be accepted. A socket frees its place when it is open.
const CONNECTIONS: usize = 10_000;
/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long requests and sockets under way may take to end.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Serves until the process is told to stop (SIGTERM or Ctrl-C), then drains. A second Ctrl-C stops at once.
pub(crate) async fn serve(listener: TcpListener, app: Router, engine: Engine) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stop) = watch::channel(false);
    let mut stop_signals = StopSignals::listen();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            let (stream, _) = listener.accept().await?;
            Ok::<_, std::io::Error>((place, stream))
        };
        let (place, stream) = tokio::select! {
            accepted = next => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: some will be free again.
                    eprintln!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop_signals.next() => break,
        };
        let _ = stream.set_nodelay(true);
        let (service, mut stop) = (TowerToHyperService::new(app.clone()), stop.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            let connection = http
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = async { drop(stop.wait_for(|stopping| *stopping).await) } => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
    drop(listener);
    eprintln!("Stopping. Press Ctrl-C again to stop at once.");
    tokio::spawn(async move {
        stop_signals.next().await;
        std::process::exit(130);
    });
    stopping.send_replace(true);
    if !engine.drain(DRAIN_TIME).await {
        eprintln!("Some requests were not finished in time.");
    }
    // A request holds its connection's place until its reply is written.
    let all = places.acquire_many(CONNECTIONS as u32);
    let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
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
