//! Looks: reads of the ends of all logs at one moment. When a look is complete, this node has applied every change up to then of what
//! rules read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

/// How old the last look may be. After that, whoever was removed meanwhile may not be known here.
const MAX_AGE: Duration = Duration::from_secs(2);

/// The looks of a node. They are made one after the other.
#[derive(Debug)]
pub(crate) struct Looks {
    requested: Notify,
    /// The number of looks that have begun.
    begun: AtomicU64,
    /// The number of the last look that is complete.
    complete: watch::Sender<u64>,
    created: Instant,
    /// When that look began, in milliseconds since these were created.
    last: AtomicU64,
}

/// A look that has begun.
#[derive(Debug)]
pub(crate) struct Look {
    number: u64,
    began: Duration,
}

impl Looks {
    pub(crate) fn new() -> Self {
        Self {
            requested: Notify::new(),
            begun: AtomicU64::new(0),
            complete: watch::Sender::new(0),
            created: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Asks for a look as soon as one can be made.
    pub(crate) fn request(&self) {
        self.requested.notify_one();
    }

    /// Resolves when somebody has asked for a look.
    pub(crate) async fn requested(&self) {
        self.requested.notified().await;
    }

    /// Begins a look. The caller reads the heads afterwards.
    pub(crate) fn begin(&self) -> Look {
        Look {
            number: self.begun.fetch_add(1, Ordering::SeqCst) + 1,
            began: self.created.elapsed(),
        }
    }

    /// Notes that this node has applied what the look found. Returns whether the one before was too old.
    pub(crate) fn complete(&self, look: &Look) -> bool {
        let last = u64::try_from(look.began.as_millis()).unwrap_or(u64::MAX);
        let before = self.last.swap(last, Ordering::SeqCst);
        // As of after that: who has found the one before too old until then is to be woken.
        let was_too_old = !self.is_recent(before);
        self.complete.send_replace(look.number);
        was_too_old
    }

    /// Whether the last look is recent enough to deliver anything that depends on what rules read.
    pub(crate) fn are_recent(&self) -> bool {
        self.is_recent(self.last.load(Ordering::SeqCst))
    }

    fn is_recent(&self, look: u64) -> bool {
        let look = Duration::from_millis(look);
        self.created.elapsed().saturating_sub(look) < MAX_AGE
    }

    /// Resolves when a look is complete that began after this was called.
    pub(crate) async fn next(&self) {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut complete = self.complete.subscribe();
        self.request();
        // The sender lives as long as this.
        let _ = complete.wait_for(|complete| *complete > begun).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn only_a_look_that_began_later_counts() {
        let looks = Looks::new();
        let earlier = looks.begin();
        let mut next = Box::pin(looks.next());
        assert!(next.as_mut().now_or_never().is_none());
        looks.complete(&earlier);
        assert!(next.as_mut().now_or_never().is_none());
        let incomplete = looks.begin();
        let later = looks.begin();
        assert!(incomplete.number < later.number);
        looks.complete(&later);
        assert!(next.as_mut().now_or_never().is_some());
    }
}
