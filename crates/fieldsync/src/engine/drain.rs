//! What is in progress, so that a drain can wait for it and report what was still in progress.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// What was still in progress at the deadline of [`Engine::drain`](crate::Engine::drain).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct DrainReport {
    /// HTTP requests without a response.
    pub requests: usize,
    /// WebSocket connections that were not closed.
    pub connections: usize,
    /// Writes whose outcome is unknown: each is committed or not, as a whole.
    pub writes: usize,
}

impl DrainReport {
    /// Whether everything was finished before the deadline.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self == Self::default()
    }
}

/// The kinds of work that a drain waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Request,
    Connection,
    Write,
}

impl Work {
    fn of(self, counts: &mut DrainReport) -> &mut usize {
        match self {
            Self::Request => &mut counts.requests,
            Self::Connection => &mut counts.connections,
            Self::Write => &mut counts.writes,
        }
    }
}

/// Counts the work in progress.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkInProgress(Arc<watch::Sender<DrainReport>>);

/// One piece of work in progress, until it is dropped.
#[derive(Debug)]
pub(crate) struct InProgress {
    counts: Arc<watch::Sender<DrainReport>>,
    work: Work,
}

impl WorkInProgress {
    pub(crate) fn begin(&self, work: Work) -> InProgress {
        self.0.send_modify(|counts| *work.of(counts) += 1);
        InProgress {
            counts: Arc::clone(&self.0),
            work,
        }
    }

    /// What is in progress now.
    pub(crate) fn counts(&self) -> DrainReport {
        *self.0.borrow()
    }

    /// Waits until nothing is in progress, at most for this long. Returns what is left.
    pub(crate) async fn finish(&self, timeout: Duration) -> DrainReport {
        let mut counts = self.0.subscribe();
        // A timeout is no error here: the report says what is left.
        let _ = tokio::time::timeout(timeout, counts.wait_for(DrainReport::is_complete)).await;
        *counts.borrow()
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| *self.work.of(counts) -= 1);
    }
}
