//! The task that has the writes of others logged, and announces them: once per poll interval, and at once when the store or the
//! app says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::broker::relay::NotificationQueue;
use crate::engine::gauges::BehindSince;
use crate::live::hub_registry::HubRegistry;
use crate::metrics;
use crate::store::error::StoreError;
use crate::store::store::{Retention, Store};

/// The longest pause between two steps, when there is much to log.
const MAX_PAUSE: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hubs: Arc<HubRegistry>,
    pub(crate) notifications: Arc<NotificationQueue>,
    pub(crate) retention: Retention,
    pub(crate) behind: Arc<BehindSince>,
}

/// The running task. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CaptureTask {
    /// The app has written.
    woken: Arc<Notify>,
    task: AbortHandle,
}

impl CaptureTask {
    /// Has the task look at once.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Ends the task. What others write from now on is logged by another node, or after the next start.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for CaptureTask {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Capture {
    /// Starts the task on the current runtime.
    pub(crate) fn start(self, poll_interval: Duration) -> CaptureTask {
        let woken = Arc::new(Notify::new());
        let task = tokio::spawn(self.run(poll_interval, Arc::clone(&woken)));
        CaptureTask {
            woken,
            task: task.abort_handle(),
        }
    }

    /// Never returns.
    async fn run(self, poll_interval: Duration, woken: Arc<Notify>) {
        let mut ticks = tokio::time::interval(poll_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = woken.notified() => {}
                () = self.store.captured() => {}
            }
            if let Err(error) = self.log_captured().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not log what others have written, retrying"
                );
                // The store may have said at once that there is something.
                ticks.tick().await;
            }
        }
    }

    async fn log_captured(&self) -> Result<(), StoreError> {
        loop {
            let begun = Instant::now();
            let logged = self.store.log_captured(self.retention).await?;
            let mut changes = logged.changes;
            changes.sort_by(|a, b| a.key.collection.cmp(&b.key.collection));
            for changes in changes.chunk_by(|a, b| a.key.collection == b.key.collection) {
                metrics::captured(&changes[0].key.collection, changes.len());
            }
            self.behind.set(logged.more);
            for notification in self.hubs.announce(&changes) {
                self.notifications.put(notification);
            }
            if logged.interrupted {
                self.hubs.request_catch_up();
            }
            if !logged.more {
                return Ok(());
            }
            // Half of the time is left to the edits.
            sleep(begun.elapsed().min(MAX_PAUSE)).await;
        }
    }
}
