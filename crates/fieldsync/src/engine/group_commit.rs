//! Group commit: edits that come at the same time share one transaction.
//!
//! There is no timer. While one transaction runs the next batch grows; a lone edit leaves at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::broker::relay::NotificationQueue;
use crate::error::EngineError;
use crate::live::hub_registry::HubRegistry;
use crate::model::outcome::Outcome;
use crate::model::refusal::Refusal;
use crate::store::error::StoreError;
use crate::store::store::Store;
use crate::write::batch::{Batch, CommitSlot, Group, GroupResult, RefusedEdit};

/// At most so many edits share a transaction, or so many bytes of them.
const BATCH_EDITS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;
/// So many groups may wait for their slot; further ones wait to be let in, until their deadline.
const WAITING_GROUPS: usize = 1024;
/// After so long a batch is overtaken by the next, and so many may be. Most take a few milliseconds.
const OVERTAKE_TIME: Duration = Duration::from_millis(100);
const OVERTAKEN: usize = 256;
/// A store answers a batch within its deadline. One that does not is not waited for longer than this beyond it.
const GRACE: Duration = Duration::from_secs(5);

/// Where edits are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    submissions: mpsc::Sender<Submission>,
}

#[derive(Debug)]
struct Submission {
    group: Arc<Group>,
    bytes: usize,
    answer: oneshot::Sender<Result<GroupResult, Arc<StoreError>>>,
}

impl Committer {
    /// Starts the task that commits; it ends when the last committer is dropped and all that was handed in is done.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        hubs: Arc<HubRegistry>,
        notices: Arc<NotificationQueue>,
    ) -> Self {
        let (submissions, waiting) = mpsc::channel(WAITING_GROUPS);
        let path = Path {
            store,
            hubs,
            notices,
        };
        tokio::spawn(commit_batches(waiting, Arc::new(path)));
        Self { submissions }
    }

    /// Commits a group of edits, all or nothing.
    ///
    /// Dropping the future does not take the edits back: they are committed, or not, as a whole.
    pub(crate) async fn commit(&self, group: Group) -> Result<Vec<Outcome>, EngineError> {
        let deadline = group.deadline;
        let bytes = group
            .edits
            .iter()
            .map(|(edit, ..)| edit.size_in_memory())
            .sum();
        let (answer, answered) = oneshot::channel();
        let submission = Submission {
            group: Arc::new(group),
            bytes,
            answer,
        };
        match tokio::time::timeout_at(deadline.into(), self.submissions.send(submission)).await {
            Err(_) => return Err(Refusal::Busy.into()),
            Ok(Err(_)) => return Err(gone()),
            Ok(Ok(())) => {}
        }
        match tokio::time::timeout_at((deadline + GRACE).into(), answered).await {
            Ok(Ok(Ok(result))) => result.map_err(|refused| refused.refusal.into()),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                Err(StoreError::Unavailable("the store did not answer in time".into()).into())
            }
        }
    }
}

/// The task ends with its runtime alone.
fn gone() -> EngineError {
    StoreError::Backend("the task that commits is gone".into()).into()
}

async fn commit_batches(mut waiting: mpsc::Receiver<Submission>, path: Arc<Path>) {
    let (slot, overtaken) = (
        Arc::new(Semaphore::new(1)),
        Arc::new(Semaphore::new(OVERTAKEN)),
    );
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // Meanwhile the batch grows.
        let slot = Arc::clone(&slot).acquire_owned().await;
        let slot = Arc::new(CommitSlot::new(slot.expect("it is never closed")));
        let submissions = gather(first, &mut waiting, &mut held);
        let mut committed = Arc::clone(&path).commit(submissions, Arc::clone(&slot));
        let overtaken = Arc::clone(&overtaken);
        tokio::spawn(async move {
            if timeout(OVERTAKE_TIME, &mut committed).await.is_ok() {
                return;
            }
            // The next batch overtakes what somebody else's lock holds up, unless too many were overtaken.
            tokio::select! {
                () = &mut committed => {}
                place = overtaken.acquire_owned() => {
                    slot.end();
                    committed.await;
                    drop(place);
                }
            }
        });
    }
}

/// Where a batch goes: to the store, to those who wait for answers, to this node's subscribers, to other nodes.
#[derive(Debug)]
struct Path {
    store: Arc<dyn Store>,
    hubs: Arc<HubRegistry>,
    notices: Arc<NotificationQueue>,
}

impl Path {
    fn commit(
        self: Arc<Self>,
        submissions: Vec<Submission>,
        slot: Arc<CommitSlot>,
    ) -> BoxFuture<'static, ()> {
        let groups = submissions.iter().map(|one| Arc::clone(&one.group));
        let batch = Batch::new(groups.collect()).with_slot(slot);
        let span = tracing::debug_span!("commit", groups = batch.len());
        let committed = async move {
            // A store that panics fails this batch, and no other.
            let committed = AssertUnwindSafe(self.store.commit(batch)).catch_unwind();
            let panicked = |_| Err(StoreError::Backend("the store panicked".into()));
            match committed.await.unwrap_or_else(panicked) {
                Ok(results) => self.answer(submissions, results),
                Err(error) => self.fail(submissions, error),
            }
        };
        committed.instrument(span).boxed()
    }

    fn answer(self: Arc<Self>, submissions: Vec<Submission>, results: Vec<GroupResult>) {
        let changes = changes_of(&results);
        #[cfg(fieldsync_fault_points)]
        crate::fault::point("before-reply");
        for (submission, result) in submissions.into_iter().zip(results) {
            let is_locked = |refused: &RefusedEdit| refused.refusal == Refusal::Locked;
            if result.as_ref().is_err_and(is_locked) {
                // It waits for the lock alone, until its deadline.
                tokio::spawn(Arc::clone(&self).commit(vec![submission], Arc::default()));
                continue;
            }
            // Whoever went away meanwhile has the edit all the same.
            let _ = submission.answer.send(Ok(result));
        }
        #[cfg(fieldsync_fault_points)]
        crate::fault::point("before-announcement");
        for notice in self.hubs.announce(&changes) {
            self.notices.put(notice);
        }
    }

    fn fail(&self, submissions: Vec<Submission>, error: StoreError) {
        let error = Arc::new(error);
        tracing::error!(
            error = &*error as &dyn std::error::Error,
            "a batch could not be committed"
        );
        for submission in submissions {
            let _ = submission.answer.send(Err(Arc::clone(&error)));
        }
        // It may be committed all the same.
        self.hubs.look();
    }
}

/// Takes what is waiting now, as far as it fits one batch.
fn gather(
    first: Submission,
    waiting: &mut mpsc::Receiver<Submission>,
    held: &mut Option<Submission>,
) -> Vec<Submission> {
    let (mut edits, mut bytes) = (first.group.edits.len(), first.bytes);
    let mut gathered = vec![first];
    while let Ok(next) = waiting.try_recv() {
        edits += next.group.edits.len();
        bytes += next.bytes;
        if edits > BATCH_EDITS || bytes > BATCH_BYTES {
            *held = Some(next);
            break;
        }
        gathered.push(next);
    }
    gathered
}

/// The changes that a commit made, in log order per collection.
fn changes_of(results: &[GroupResult]) -> Vec<Arc<crate::Change>> {
    let mut changes = Vec::new();
    for outcome in results.iter().flatten().flatten() {
        if let Outcome::Committed(change) = outcome {
            changes.push(Arc::clone(change));
        }
    }
    // An edit repeated within one batch is answered with the same change.
    changes.sort_by(|a, b| {
        (&a.key.collection, a.position.offset).cmp(&(&b.key.collection, b.position.offset))
    });
    changes.dedup_by(|a, b| a.key.collection == b.key.collection && a.position == b.position);
    changes
}
