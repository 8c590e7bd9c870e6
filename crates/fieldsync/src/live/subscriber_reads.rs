//! The reads that subscribers make of the store: a bounded number at a time, so that other reads find the store free.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::live::log_pages::LogPages;
use crate::live::looks::Looks;
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
    looks: Arc<Looks>,
}

impl SubscriberReads {
    pub(crate) fn new(store: Arc<dyn Store>, looks: Arc<Looks>) -> Self {
        let permits = store.max_subscriber_reads().max(1);
        Self {
            store,
            pages: Mutex::default(),
            permits: Semaphore::new(permits),
            long: Semaphore::new(max_long_reads().min(permits.div_ceil(2))),
            looks,
        }
    }

    /// Starts a step of a subscriber.
    pub(crate) fn start(self: &Arc<Self>, step: ReadStep, reader: Reader) -> Turn {
        let reads = Arc::clone(self);
        let (answer, answered) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut turn = reads.take_turn(&step).await;
            let pages = reads.pages(reader.collection.name());
            let read = reader.execute(step.clone(), &*reads.store, &pages).await;
            if reader.collection.is_dependent() {
                // What was read may follow something that a rule reads. The look waits for nobody's turn.
                drop(turn);
                reads.looks.next().await;
                turn = reads.take_turn(&step).await;
            }
            if answer.send(read).is_ok() {
                sleep(MAX_TURN).await;
            }
            drop(turn);
        });
        Turn { answered, task }
    }

    /// Waits for the turn of a step.
    async fn take_turn(&self, step: &ReadStep) -> Permits<'_> {
        let is_long = matches!(step, ReadStep::SnapshotPiece { after: Some(_) });
        let long = match is_long {
            true => self.long.acquire().await.ok(),
            false => None,
        };
        (long, self.permits.acquire().await.ok())
    }
}

impl SubscriberReads {
    fn pages(&self, collection: &Arc<str>) -> Arc<LogPages> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pages.entry(Arc::clone(collection)).or_default())
    }
}

/// For a long piece, and for the read.
type Permits<'a> = (Option<SemaphorePermit<'a>>, Option<SemaphorePermit<'a>>);

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
