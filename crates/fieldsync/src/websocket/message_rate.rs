//! How many messages a peer may send.

use tokio::time::Instant;

/// How many messages a peer may send at once: it may subscribe to every topic, and unsubscribe.
const BURST: f64 = 2000.0;

/// How many messages a second it may send in the long run.
const PER_SECOND: f64 = 100.0;

/// Counts the messages of one peer.
#[derive(Debug)]
pub(crate) struct MessageRate {
    /// How many messages the peer may still send, as of the last one.
    left: f64,
    last: Instant,
}

impl MessageRate {
    pub(crate) fn new() -> Self {
        Self {
            left: BURST,
            last: Instant::now(),
        }
    }

    /// Counts a message that arrives now. Whether it is one too many.
    pub(crate) fn exceeds(&mut self, now: Instant) -> bool {
        let regained = (now - self.last).as_secs_f64() * PER_SECOND;
        self.left = (self.left + regained).min(BURST) - 1.0;
        self.last = now;
        self.left < 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_a_hundred_a_second() {
        let mut rate = MessageRate::new();
        let mut now = Instant::now();
        assert!((0..2000).all(|_| !rate.exceeds(now)));
        assert!(rate.exceeds(now));
        let mut rate = MessageRate::new();
        for _ in 0..10_000 {
            now += Duration::from_millis(10);
            assert!(!rate.exceeds(now));
        }
    }
}
