//! What can be read of a running engine at any time: its [`Stats`], which are also its gauges.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use tokio::time::MissedTickBehavior;

use crate::engine::asks::Asks;
use crate::engine::drain::WorkInProgress;
use crate::live::hub_registry::HubRegistry;
use crate::metrics;

/// How often the gauges are set.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The state of an engine in numbers, at one moment. They are those of this node, and the same that its gauges show
/// (`docs/metrics.md`).
///
/// ```
/// # fn page(engine: &fieldsync::Engine) -> String {
/// let stats = engine.stats();
/// format!("{} windows are open, {} edits are in progress", stats.websockets, stats.edits)
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Open WebSockets.
    pub websockets: usize,
    /// Open streams of server-sent events.
    pub event_streams: usize,
    /// HTTP requests without a response.
    pub requests: usize,
    /// Edits and transactions of edits that are being decided or committed.
    pub edits: usize,
    /// Reads of the store for subscriptions since the start: pages of logs, which subscriptions share, and pieces of snapshots.
    pub subscriber_reads: u64,
    /// Bytes that were written to WebSockets, and that their clients had not confirmed at the last heartbeat of each.
    pub unconfirmed_bytes: u64,
    /// The time since the store last returned the heads of its logs, which it is asked for once per poll interval. In JSON, it is
    /// a number of seconds.
    #[serde(serialize_with = "as_seconds")]
    pub store_silence: Duration,
    /// For how long writes of others have been waiting to be logged, without a pause. Zero when all are logged. In JSON, it is a
    /// number of seconds.
    #[serde(serialize_with = "as_seconds")]
    pub capture_behind: Duration,
    /// The collections, by name.
    pub collections: BTreeMap<String, CollectionStats>,
}

/// The state of a collection in numbers, on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CollectionStats {
    /// The offset of the newest change that this node has announced.
    pub offset: u64,
    /// The changes in the store's log that this node had not announced at its last poll.
    pub lag: u64,
    /// Subscriptions, those of the app itself included.
    pub subscriptions: usize,
    /// Questions that the authorizer has not answered yet.
    pub open_questions: usize,
    /// The approximate number of bytes that the recent changes take in memory.
    pub ring_bytes: usize,
}

/// Where the numbers are. Each is counted in one place.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) hubs: Arc<HubRegistry>,
    pub(crate) asks: Arc<Asks>,
    pub(crate) in_progress: WorkInProgress,
    pub(crate) event_streams: Tally,
    pub(crate) unconfirmed_bytes: Tally,
    pub(crate) capture_behind: Arc<BehindSince>,
}

impl Gauges {
    pub(crate) fn new(
        hubs: Arc<HubRegistry>,
        asks: Asks,
        capture_behind: Arc<BehindSince>,
    ) -> Self {
        Self {
            hubs,
            asks: Arc::new(asks),
            in_progress: WorkInProgress::default(),
            event_streams: Tally::default(),
            unconfirmed_bytes: Tally::default(),
            capture_behind,
        }
    }

    pub(crate) fn read(&self, subscriber_reads: u64) -> Stats {
        let in_progress = self.in_progress.counts();
        let collections = self.hubs.figures().map(|(name, hub)| {
            let stats = CollectionStats {
                offset: hub.head.offset,
                lag: hub.lag,
                subscriptions: hub.subscriptions,
                open_questions: self.asks.open_about(name),
                ring_bytes: hub.ring_bytes,
            };
            (name.to_string(), stats)
        });
        Stats {
            websockets: in_progress.connections,
            event_streams: self.event_streams.total() as usize,
            requests: in_progress.requests,
            edits: in_progress.writes,
            subscriber_reads,
            unconfirmed_bytes: self.unconfirmed_bytes.total(),
            store_silence: self.hubs.store_silence(),
            capture_behind: self.capture_behind.duration(),
            collections: collections.collect(),
        }
    }

    /// Sets the gauges once per second. Never returns.
    pub(crate) async fn export(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(EXPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.read(0).export();
        }
    }
}

impl Stats {
    fn export(&self) {
        metrics::set_connections("websocket", self.websockets);
        metrics::set_connections("event_stream", self.event_streams);
        for (name, value) in [
            ("fieldsync_requests_in_progress", self.requests as f64),
            ("fieldsync_edits_in_progress", self.edits as f64),
            ("fieldsync_unconfirmed_bytes", self.unconfirmed_bytes as f64),
            (
                "fieldsync_store_silence_seconds",
                self.store_silence.as_secs_f64(),
            ),
            (
                "fieldsync_capture_behind_seconds",
                self.capture_behind.as_secs_f64(),
            ),
        ] {
            metrics::set(name, value);
        }
        for (collection, stats) in &self.collections {
            let collection = Arc::from(collection.as_str());
            for (name, value) in [
                ("fieldsync_log_offset", stats.offset as f64),
                ("fieldsync_log_lag", stats.lag as f64),
                ("fieldsync_subscriptions", stats.subscriptions as f64),
                ("fieldsync_open_questions", stats.open_questions as f64),
                ("fieldsync_ring_bytes", stats.ring_bytes as f64),
            ] {
                metrics::set_of(&collection, name, value);
            }
        }
    }
}

/// A sum of what several tasks contribute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<AtomicU64>);

/// What one task contributes to a tally, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    tally: Tally,
    amount: u64,
}

impl Tally {
    /// Contributes this amount.
    pub(crate) fn share(&self, amount: u64) -> Share {
        self.0.fetch_add(amount, Ordering::Relaxed);
        Share {
            tally: self.clone(),
            amount,
        }
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Contributes this amount from now on.
    pub(crate) fn set(&mut self, amount: u64) {
        let change = amount.wrapping_sub(self.amount);
        self.tally.0.fetch_add(change, Ordering::Relaxed);
        self.amount = amount;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Since when a task has more to do than it has done.
#[derive(Debug, Default)]
pub(crate) struct BehindSince(Mutex<Option<Instant>>);

impl BehindSince {
    pub(crate) fn set(&self, is_behind: bool) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = is_behind.then(|| since.unwrap_or_else(Instant::now));
    }

    fn duration(&self) -> Duration {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_until_it_is_dropped() {
        let tally = Tally::default();
        let (mut one, two) = (tally.share(5), tally.share(1));
        one.set(2);
        assert_eq!(tally.total(), 3);
        drop(two);
        assert_eq!(tally.total(), 2);
        drop(one);
        assert_eq!(tally.total(), 0);
    }
}
