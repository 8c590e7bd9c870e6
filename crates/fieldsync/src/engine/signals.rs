//! The signals that ask a process to stop, and servers that run until then.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::ctrl_c;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::engine::engine::Engine;

/// How long a server may take after the drain: for requests that are not the engine's, and connections that are idle.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The future that a server stops accepting connections at.
pub type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Engine {
    /// Runs a server until SIGTERM or Ctrl-C, in one line. Then the engine drains for at most `timeout`, and the server finishes what is
    /// left, for at most a second more: a client that never ends its request does not hold up the process.
    ///
    /// `serve` starts the server, which stops accepting when its argument resolves. Dropping the future stops the server where it is.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn serve(engine: fieldsync::Engine) -> std::io::Result<()> {
    /// # let serve_http = |stopped: fieldsync::Stopped| async { stopped.await; Ok(()) };
    /// // |stopped| axum::serve(listener, app).with_graceful_shutdown(stopped)
    /// engine.serve_until_signal(Duration::from_secs(10), serve_http).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// The server's.
    pub async fn serve_until_signal<S>(
        &self,
        timeout: Duration,
        serve: impl FnOnce(Stopped) -> S,
    ) -> io::Result<()>
    where
        S: IntoFuture<Output = io::Result<()>>,
    {
        let (engine, signal) = (self.clone(), stop_signal());
        let (signalled, is_signalled) = oneshot::channel();
        let stopped = async move {
            signal.await;
            let _ = signalled.send(());
            engine.drain_and_report(timeout).await;
        };
        let deadline = async move {
            if is_signalled.await.is_err() {
                // The server has dropped the future, and ends by itself.
                std::future::pending::<()>().await;
            }
            sleep(timeout + FINISH_TIMEOUT).await;
        };
        tokio::select! {
            served = serve(Box::pin(stopped)).into_future() => served,
            () = deadline => {
                tracing::warn!("connections were still open at the deadline of the shutdown");
                Ok(())
            }
        }
    }

    /// Waits for SIGTERM or Ctrl-C, and then drains for at most this long: the future that a web framework takes for its own graceful
    /// shutdown. What was still in progress at the deadline is logged.
    ///
    /// It must be called on a Tokio runtime. From then on these signals no longer end the process by themselves.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn serve(engine: fieldsync::Engine) {
    /// let stopped = engine.drain_on_signal(Duration::from_secs(10));
    /// // axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    /// # stopped.await
    /// # }
    /// ```
    pub fn drain_on_signal(&self, timeout: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (engine, signal) = (self.clone(), stop_signal());
        async move {
            signal.await;
            engine.drain_and_report(timeout).await;
        }
    }

    async fn drain_and_report(&self, timeout: Duration) {
        tracing::info!("stopping: the engine drains");
        let report = self.drain(timeout).await;
        if !report.is_complete() {
            tracing::warn!(
                ?report,
                "the engine was still busy at the deadline of its drain"
            );
        }
    }
}

/// Resolves at SIGTERM or Ctrl-C. The signals are registered at once, so that none is missed.
#[cfg(unix)]
pub(crate) fn stop_signal() -> impl Future<Output = ()> + Send {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    async move {
        match (terminate, interrupt) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            _ => wait_for_ctrl_c().await,
        }
    }
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn stop_signal() -> impl Future<Output = ()> + Send {
    wait_for_ctrl_c()
}

async fn wait_for_ctrl_c() {
    if let Err(error) = ctrl_c().await {
        tracing::warn!(%error, "signals can't be received: the engine drains only when the app calls drain");
        std::future::pending::<()>().await;
    }
}
