//! What wakes the subscriptions that one task reads, and says which of them a change concerns.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::task::AtomicWaker;

use crate::live::number_set::NumberSet;

/// The task of some subscriptions to a collection: those of one connection, which it has numbered.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    pub(crate) waker: AtomicWaker,
    /// The subscriptions for which the ring has a change that they wait for by a value. All others wait for every change.
    marked: Mutex<NumberSet>,
}

impl Waiter {
    /// Notes that a change concerns this subscription.
    pub(crate) fn mark(&self, number: usize) {
        self.marked().insert(number);
    }

    /// Notes that these still have something to read.
    pub(crate) fn mark_all(&self, numbers: &NumberSet) {
        self.marked().extend(numbers);
    }

    /// Takes the numbers of those that were marked.
    pub(crate) fn take_marked(&self) -> NumberSet {
        std::mem::take(&mut self.marked())
    }

    fn marked(&self) -> MutexGuard<'_, NumberSet> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
