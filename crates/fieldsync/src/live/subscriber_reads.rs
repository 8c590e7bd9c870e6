//! The reads that subscribers make of the store: a bounded number at a time, so that other reads find the store free.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::live::log_pages::LogPages;
use crate::live::read_step::{ReadStep, Reader, StepResult};
use crate::store::error::StoreError;
use crate::store::store::Store;

/// When a turn ends even though the subscriber has not taken what was read.
const MAX_TURN: Duration = Duration::from_millis(20);

/// The store, as the subscribers of an engine read it.
///
/// Each read waits for its turn behind those that were asked for before. A turn lasts until the subscriber has taken what was
/// read, so that encoding it counts, too. A subscriber asks for the next page or piece only then, and so the subscribers take
/// turns.
#[derive(Debug)]
pub(crate) struct SubscriberReads {
    store: Arc<dyn Store>,
    /// The pages of each collection's log.
    pages: Mutex<HashMap<Arc<str>, Arc<LogPages>>>,
    permits: Semaphore,
    /// For the pieces of long snapshots. Each is as much work as many short reads, which should not wait for them.
    long: Semaphore,
}

impl SubscriberReads {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let permits = store.max_subscriber_reads().max(1);
        Self {
            store,
            pages: Mutex::default(),
            permits: Semaphore::new(permits),
            long: Semaphore::new(max_long_reads().min(permits.div_ceil(2))),
        }
    }

    /// Starts a step of a subscriber.
    pub(crate) fn start(self: &Arc<Self>, step: ReadStep, reader: Reader) -> Turn {
        let reads = Arc::clone(self);
        let (answer, answered) = oneshot::channel();
        let task = tokio::spawn(async move {
            let is_long = matches!(step, ReadStep::SnapshotPiece { after: Some(_) });
            let _long = match is_long {
                true => Some(reads.long.acquire().await),
                false => None,
            };
            let _permit = reads.permits.acquire().await;
            let pages = reads.pages(reader.collection.name());
            let read = reader.execute(step, &*reads.store, &pages).await;
            if answer.send(read).is_ok() {
                sleep(MAX_TURN).await;
            }
        });
        Turn { answered, task }
    }
}

impl SubscriberReads {
    fn pages(&self, collection: &Arc<str>) -> Arc<LogPages> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pages.entry(Arc::clone(collection)).or_default())
    }
}

/// Long snapshots leave processors to other requests.
fn max_long_reads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).max(1)
}

/// The turn of a subscriber. Dropping it ends the turn.
#[derive(Debug)]
pub(crate) struct Turn {
    answered: oneshot::Receiver<Result<StepResult, StoreError>>,
    /// A task of its own: a subscriber whose client has stopped reading is not polled, and must not keep its turn.
    task: JoinHandle<()>,
}

impl Turn {
    /// Polls for what was read.
    pub(crate) fn poll_result(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<StepResult, StoreError>> {
        let panicked = |_| Err(StoreError::Backend("the store panicked".into()));
        Poll::Ready(ready!(self.answered.poll_unpin(context)).unwrap_or_else(panicked))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.task.abort();
    }
}
