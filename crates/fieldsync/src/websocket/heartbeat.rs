//! Heartbeats: whether a peer on a slow link still takes what it is sent.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_websockets::Message;

/// How long a peer is waited for at most.
const MAX_PATIENCE: Duration = Duration::from_secs(600);
/// How many bytes a second a peer must take to be waited for.
const MIN_BYTES_PER_SECOND: u64 = 10_000;

/// How long a peer on a slow link may need for this many bytes.
pub(crate) fn time_to_take(bytes: u64) -> Duration {
    Duration::from_secs(bytes / MIN_BYTES_PER_SECOND).min(MAX_PATIENCE)
}

/// A ping that says how many bytes were written before it. The peer repeats this when it has taken them.
pub(crate) fn ping(written: u64) -> Message {
    Message::ping(Bytes::copy_from_slice(&written.to_be_bytes()))
}

/// How many bytes the peer had taken when it sent this pong.
pub(crate) fn bytes_taken(pong: &[u8]) -> Option<u64> {
    pong.try_into().map(u64::from_be_bytes).ok()
}

/// Ticks once per heartbeat. The first tick is random, so that connections do not ping all at once.
pub(crate) fn heartbeats(heartbeat: Duration) -> Interval {
    let first = Instant::now() + heartbeat.mul_f64(fastrand::f64());
    let mut heartbeats = interval_at(first, heartbeat);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeats
}
