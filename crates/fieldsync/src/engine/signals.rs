//! The signals that ask a process to stop.

use tokio::signal::ctrl_c;

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
