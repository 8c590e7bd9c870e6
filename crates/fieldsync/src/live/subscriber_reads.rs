//! The reads that subscribers make of the store: a bounded number at a time, so that other reads find the store free.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::live::log_pages::LogPages;
use crate::live::looks::Looks;
use crate::live::read_step::{ReadStep, Reader, StepResult};
use crate::metrics::Limit;
use crate::model::principal::LimitedBy;
use crate::store::error::StoreError;
use crate::store::store::Store;

/// When a turn ends even though the subscriber has not taken what was read.
const MAX_TURN: Duration = Duration::from_millis(20);

/// How many pieces of snapshots are read for a principal at a time, or wait among those of others.
const MAX_PIECES_OF_PRINCIPAL: usize = 2;

/// The store, as the subscribers of an engine read it.
///
/// Each read waits for its turn behind those that were asked for before. A turn lasts until the subscriber has taken what was
/// read, so that encoding it counts, too. A subscriber asks for the next page or piece only then, and so the subscribers take
/// turns.
#[derive(Debug)]
pub(crate) struct StoreReads {
    store: Arc<dyn Store>,
    /// The pages of each collection's log.
    pages: Mutex<HashMap<Arc<str>, Arc<LogPages>>>,
    /// How often the store was read.
    count: Arc<AtomicU64>,
    permits: Semaphore,
    /// For the pieces of long snapshots. Each is as much work as many short reads, which should not wait for them.
    long: Semaphore,
    principals: Mutex<Principals>,
    looks: Arc<Looks>,
}

/// The reads of the principals that have subscriptions.
#[derive(Debug, Default)]
struct Principals {
    reads: HashMap<LimitedBy, Weak<SubscriberReads>>,
    /// How many are kept before those are dropped that are over.
    max: usize,
}

/// The reads of the subscribers of one principal, however many they are.
#[derive(Debug)]
pub(crate) struct SubscriberReads {
    all: Arc<StoreReads>,
    /// For the pieces of snapshots, which wait here and not among those of others. So principals take turns.
    pieces: Option<Semaphore>,
}

impl StoreReads {
    /// The reads of a store, of which this many at a time are of long snapshots.
    pub(crate) fn new(store: Arc<dyn Store>, looks: Arc<Looks>, max_long: usize) -> Self {
        let permits = store.max_subscriber_reads().max(1);
        Self {
            store,
            pages: Mutex::default(),
            count: Arc::default(),
            permits: Semaphore::new(permits),
            long: Semaphore::new(max_long.min(permits.div_ceil(2))),
            principals: Mutex::default(),
            looks,
        }
    }

    /// The reads of the subscribers of a principal. A subscriber of which nothing is known is one for itself.
    pub(crate) fn of(self: &Arc<Self>, principal: Option<LimitedBy>) -> Arc<SubscriberReads> {
        let new = |pieces| {
            Arc::new(SubscriberReads {
                all: Arc::clone(self),
                pieces,
            })
        };
        let Some(principal) = principal else {
            return new(None);
        };
        let principals = self.principals.lock();
        let mut principals = principals.unwrap_or_else(PoisonError::into_inner);
        let Principals { reads, max } = &mut *principals;
        if let Some(known) = reads.get(&principal).and_then(Weak::upgrade) {
            return known;
        }
        if reads.len() >= (*max).max(1000) {
            reads.retain(|_, one| one.strong_count() > 0);
            *max = reads.len() * 2;
        }
        let added = new(Some(Semaphore::new(MAX_PIECES_OF_PRINCIPAL)));
        reads.insert(principal, Arc::downgrade(&added));
        added
    }

    fn pages(&self, collection: &Arc<str>) -> Arc<LogPages> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(LogPages::counted_by(Arc::clone(&self.count)));
        Arc::clone(pages.entry(Arc::clone(collection)).or_insert_with(new))
    }

    /// How often the store was read so far. Subscribers that share a read count once.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl SubscriberReads {
    /// Starts a step of a subscriber.
    pub(crate) fn start(self: &Arc<Self>, step: ReadStep, reader: Reader) -> Turn {
        let reads = Arc::clone(self);
        let (answer, answered) = oneshot::channel();
        let task = tokio::spawn(async move {
            let turn = reads.take_turn(&step).await;
            // Many may wait for their turns. What a read takes is allocated when it begins.
            Box::pin(reads.read(turn, step, reader, answer)).await;
        });
        Turn { answered, task }
    }

    /// Executes a step in its turn, which lasts until the subscriber has taken the answer.
    async fn read<'a>(
        &'a self,
        mut turn: Permits<'a>,
        step: ReadStep,
        reader: Reader,
        answer: oneshot::Sender<Answer>,
    ) {
        let pages = self.all.pages(reader.collection.name());
        let read = reader.execute(step.clone(), &*self.all.store, &pages).await;
        if reader.collection.is_dependent() {
            // What was read may follow something that a rule reads. The look waits for nobody's turn.
            drop(turn);
            self.all.looks.next().await;
            turn = self.take_turn(&step).await;
        }
        if answer.send(Box::new(read)).is_ok() {
            sleep(MAX_TURN).await;
        }
        drop(turn);
    }

    /// Waits for the turn of a step.
    async fn take_turn(&self, step: &ReadStep) -> Permits<'_> {
        let is_piece = matches!(step, ReadStep::SnapshotPiece { .. });
        let is_long = matches!(step, ReadStep::SnapshotPiece { after: Some(_) });
        let own = match &self.pieces {
            Some(pieces) if is_piece => pieces.acquire().await.ok(),
            _ => None,
        };
        let long = match is_long {
            true => counted(&self.all.long).await,
            false => None,
        };
        [own, long, self.all.permits.acquire().await.ok()]
    }
}

/// For a piece of the principal, for a long piece, and for the read.
type Permits<'a> = [Option<SemaphorePermit<'a>>; 3];

/// Waits for a permit, and counts if it must.
async fn counted(semaphore: &Semaphore) -> Option<SemaphorePermit<'_>> {
    if let Ok(permit) = semaphore.try_acquire() {
        return Some(permit);
    }
    Limit::SnapshotReads.reached();
    semaphore.acquire().await.ok()
}

/// What was read. It is boxed, since memory for it is kept from when the turn is waited for.
type Answer = Box<Result<StepResult, StoreError>>;

/// The turn of a subscriber. Dropping it ends the turn.
#[derive(Debug)]
pub(crate) struct Turn {
    answered: oneshot::Receiver<Answer>,
    /// A task of its own: a subscriber whose client has stopped reading is not polled, and must not keep its turn.
    task: JoinHandle<()>,
}

impl Turn {
    /// Polls for what was read.
    pub(crate) fn poll_result(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<StepResult, StoreError>> {
        let answer = ready!(self.answered.poll_unpin(context));
        let panicked = |_| Err(StoreError::Backend("the store panicked".into()));
        Poll::Ready(answer.map(|answer| *answer).unwrap_or_else(panicked))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.task.abort();
    }
}
