//! The slot in which a batch is committed. A batch that gives up its slot early lets the next one start.

use std::sync::{Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// The right to commit. The next batch starts when this one gives it up, at the latest when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct CommitSlot(Mutex<Option<OwnedSemaphorePermit>>);

impl CommitSlot {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Mutex::new(Some(permit)))
    }

    pub(crate) fn give_up(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
