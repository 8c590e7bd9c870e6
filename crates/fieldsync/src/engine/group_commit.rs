//! Group commit: edits that arrive at the same time share one transaction.
//!
//! There is no timer. While one transaction runs, the next batch grows. An edit that arrives alone is committed at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{timeout, timeout_at};
use tracing::Instrument as _;

use crate::broker::relay::NotificationQueue;
use crate::engine::drain::InProgress;
use crate::engine::limits::Limits;
use crate::engine::usage::Usage;
use crate::error::EngineError;
use crate::live::hub_registry::HubRegistry;
use crate::metrics;
use crate::model::outcome::Outcome;
use crate::model::refusal::Refusal;
use crate::store::error::StoreError;
use crate::store::store::{Committed, Store};
use crate::write::batch::{Batch, Group, GroupResult, RefusedEdit};
use crate::write::commit_slot::CommitSlot;

/// The maximum number of edits that share a transaction, and their maximum size in bytes.
const MAX_BATCH_EDITS: usize = 256;
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// The maximum number of groups in the queue. Further groups wait to enter it, until their deadline.
const MAX_QUEUED_GROUPS: usize = 1024;
/// The time after which the next batch may overtake a batch, and the maximum number of batches that may be overtaken. Most batches
/// take a few milliseconds.
const OVERTAKE_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_OVERTAKEN: usize = 256;
/// A store answers a batch within its deadline. This is how long the engine waits beyond it for a store that does not.
const STORE_GRACE_TIMEOUT: Duration = Duration::from_secs(5);

/// The queue of groups that wait for a transaction.
#[derive(Debug, Clone)]
pub(crate) struct GroupCommit {
    queue: mpsc::Sender<Submission>,
    usage: Arc<Usage>,
}

#[derive(Debug)]
struct Submission {
    group: Arc<Group>,
    bytes: usize,
    reply: oneshot::Sender<Result<GroupResult, Arc<StoreError>>>,
    /// A drain waits for the commit, also when nobody waits for the reply.
    _in_progress: InProgress,
}

impl GroupCommit {
    /// Starts the task that commits. It ends when the last clone is dropped and the queue is empty.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        limits: &Limits,
        hubs: Arc<HubRegistry>,
        notifications: Arc<NotificationQueue>,
    ) -> Self {
        let usage = Arc::new(Usage::new(limits));
        let (queue, submissions) = mpsc::channel(MAX_QUEUED_GROUPS);
        let committer = Committer {
            store,
            max_record_bytes: limits.record_bytes,
            usage: Arc::clone(&usage),
            hubs,
            notifications,
        };
        tokio::spawn(commit_batches(submissions, Arc::new(committer)));
        Self { queue, usage }
    }

    /// What principals use of their limits. What is committed is charged here.
    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Whether the task that commits lives. It ends with its runtime.
    pub(crate) fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Commits a group of edits as a whole or not at all. What is committed is announced to this node's subscribers and
    /// to the other nodes, also when the future is dropped.
    pub(crate) async fn commit_and_announce(
        &self,
        group: Group,
        in_progress: InProgress,
    ) -> Result<Vec<Outcome>, EngineError> {
        let deadline = group.deadline;
        let edits = group.edits.iter();
        let bytes = edits.map(|(edit, ..)| edit.size_in_memory()).sum();
        let (reply, replied) = oneshot::channel();
        let group = Arc::new(group);
        let submission = Submission {
            group: Arc::clone(&group),
            bytes,
            reply,
            _in_progress: in_progress,
        };
        match timeout_at(deadline.into(), self.queue.send(submission)).await {
            Err(_) => return Err(Refusal::Busy.into()),
            Ok(Err(_)) => return Err(task_ended()),
            Ok(Ok(())) => {}
        }
        match timeout_at((deadline + STORE_GRACE_TIMEOUT).into(), replied).await {
            Ok(Ok(Ok(result))) => result.map_err(|refused| group.shown(refused).into()),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(task_ended()),
            Err(_) => {
                Err(StoreError::Unavailable("the store did not answer in time".into()).into())
            }
        }
    }
}

/// The task ends only with its runtime.
fn task_ended() -> EngineError {
    StoreError::Backend("the commit task has stopped".into()).into()
}

async fn commit_batches(mut queue: mpsc::Receiver<Submission>, committer: Arc<Committer>) {
    let slots = Arc::new(Semaphore::new(1));
    let overtaken = Arc::new(Semaphore::new(MAX_OVERTAKEN));
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // While this waits for the slot, the batch grows.
        let permit = Arc::clone(&slots).acquire_owned().await;
        let slot = CommitSlot::new(permit.expect("the semaphore is never closed"));
        let slot = Arc::new(slot);
        let submissions = gather(first, &mut queue, &mut held);
        let mut committed = Arc::clone(&committer).commit(submissions, Arc::clone(&slot));
        let overtaken = Arc::clone(&overtaken);
        tokio::spawn(async move {
            if timeout(OVERTAKE_TIMEOUT, &mut committed).await.is_ok() {
                return;
            }
            // The next batch overtakes a batch that another program's lock holds up.
            tokio::select! {
                () = &mut committed => {}
                permit = overtaken.acquire_owned() => {
                    slot.give_up();
                    committed.await;
                    drop(permit);
                }
            }
        });
    }
}

/// Where a batch goes: to the store, to the callers, to this node's subscribers and to the other nodes.
#[derive(Debug)]
struct Committer {
    store: Arc<dyn Store>,
    max_record_bytes: usize,
    usage: Arc<Usage>,
    hubs: Arc<HubRegistry>,
    notifications: Arc<NotificationQueue>,
}

impl Committer {
    fn commit(
        self: Arc<Self>,
        submissions: Vec<Submission>,
        slot: Arc<CommitSlot>,
    ) -> BoxFuture<'static, ()> {
        let groups = submissions.iter().map(|one| Arc::clone(&one.group));
        let edits = submissions.iter().map(|one| one.group.edits.len()).sum();
        let batch = Batch::new(groups.collect())
            .with_max_record_bytes(self.max_record_bytes)
            .with_slot(slot);
        let span = tracing::debug_span!("commit", groups = batch.len());
        let committed = async move {
            // A store that panics fails only this batch.
            let begun = Instant::now();
            let committed = AssertUnwindSafe(self.store.commit(batch)).catch_unwind();
            let panicked = |_| Err(StoreError::Backend("the store panicked".into()));
            let committed = committed.await.unwrap_or_else(panicked);
            metrics::committed(edits, begun.elapsed(), committed.is_ok());
            match committed {
                Ok(committed) => self.reply_and_announce(submissions, committed),
                Err(error) => self.fail(submissions, error),
            }
        };
        committed.instrument(span).boxed()
    }

    fn reply_and_announce(self: Arc<Self>, submissions: Vec<Submission>, committed: Committed) {
        let Committed {
            results,
            mut changes,
        } = committed;
        changes.sort_by(|a, b| a.key.collection.cmp(&b.key.collection));
        #[cfg(fieldsync_fault_points)]
        crate::fault::point("before-reply");
        for (submission, result) in submissions.into_iter().zip(results) {
            let is_locked = |refused: &RefusedEdit| refused.refusal == Refusal::Locked;
            if result.as_ref().is_err_and(is_locked) {
                // It waits for the lock in a batch of its own, until its deadline.
                tokio::spawn(Arc::clone(&self).commit(vec![submission], Arc::default()));
                continue;
            }
            if let Ok(outcomes) = &result {
                self.usage.charge(&submission.group, outcomes);
            }
            // A caller that stopped waiting still has its edit committed.
            let _ = submission.reply.send(Ok(result));
        }
        #[cfg(fieldsync_fault_points)]
        crate::fault::point("before-announcement");
        for notification in self.hubs.announce(&changes) {
            self.notifications.put(notification);
        }
    }

    fn fail(&self, submissions: Vec<Submission>, error: StoreError) {
        let error = Arc::new(error);
        tracing::error!(
            error = &*error as &dyn std::error::Error,
            "a batch could not be committed"
        );
        for submission in submissions {
            let _ = submission.reply.send(Err(Arc::clone(&error)));
        }
        // The batch may still be committed.
        self.hubs.request_catch_up();
    }
}

/// Takes from the queue what fits one batch.
fn gather(
    first: Submission,
    queue: &mut mpsc::Receiver<Submission>,
    held: &mut Option<Submission>,
) -> Vec<Submission> {
    let (mut edits, mut bytes) = (first.group.edits.len(), first.bytes);
    let mut gathered = vec![first];
    while let Ok(next) = queue.try_recv() {
        edits += next.group.edits.len();
        bytes += next.bytes;
        if edits > MAX_BATCH_EDITS || bytes > MAX_BATCH_BYTES {
            *held = Some(next);
            break;
        }
        gathered.push(next);
    }
    gathered
}
