//! How many messages a peer may send.

use tokio::time::Instant;

use crate::engine::limits::Limits;
use crate::model::allowance::{Allowance, Rate};

/// Counts the messages of one peer.
#[derive(Debug)]
pub(crate) struct MessageRate {
    rate: Rate,
    left: Allowance,
}

impl MessageRate {
    pub(crate) fn within(limits: &Limits) -> Self {
        let rate = Rate::per_second(limits.messages_per_second);
        Self {
            rate,
            left: Allowance::full(rate, Instant::now().into_std()),
        }
    }

    /// Counts a message that arrives now. Whether it is one too many.
    pub(crate) fn exceeds(&mut self, now: Instant) -> bool {
        self.left.take(1.0, self.rate, now.into_std()).is_err()
    }
}
