//! Commits a batch in parts where a constraint or a lock stops the whole, so that only the group at fault is refused.

use std::time::{Duration, Instant};

use fieldsync::Refusal;
use fieldsync::backend::{Batch, Committed, GroupResult, RefusedEdit, StoreError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a batch of several groups waits for a lock, so that one locked row does not delay the others.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// How long a transaction waits for locks.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LockTimeouts {
    /// For the locks of rows and of idempotency keys.
    pub rows: Duration,
    /// For the locks of the heads, which every writer needs and holds until the disk has confirmed.
    pub heads: Duration,
}

/// The result of one transaction.
#[derive(Debug)]
pub enum Attempt {
    /// Committed.
    Committed(Committed),
    /// A constraint refused the only group. Rolled back.
    Refused(GroupResult),
    /// A constraint refused one of several groups, or a row is locked. Rolled back.
    Stopped,
    /// A head is locked. Rolled back.
    HeadLocked,
    /// The database chose this transaction to end a deadlock. Rolled back.
    Deadlock,
}

/// Commits a batch with `attempt`, which runs one transaction.
///
/// If a constraint or a lock stops a transaction, the batch is split in half until the group at fault is alone. Such a group
/// waits for its lock only if it came alone; otherwise it is refused with [`Refusal::Locked`], and the engine retries
/// it alone. `waiters` limits the transactions that wait for locks, so that connections remain for the others.
///
/// # Errors
/// Those of `attempt`.
pub async fn commit_in_parts<F>(
    batch: Batch,
    waiters: &Semaphore,
    attempt: impl Fn(Batch, LockTimeouts) -> F,
) -> Result<Committed, StoreError>
where
    F: Future<Output = Result<Attempt, StoreError>>,
{
    let Some(deadline) = batch.deadline() else {
        return Ok(Committed::default());
    };
    let is_alone = batch.len() == 1;
    let (mut permit, mut is_first) = (None, true);
    let (mut results, mut changes) = (Vec::with_capacity(batch.len()), Vec::new());
    let mut parts = vec![batch];
    while let Some(batch) = parts.pop() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeouts = lock_timeouts(left, permit.is_some(), is_alone, is_first);
        is_first = false;
        match attempt(batch.clone(), timeouts).await? {
            Attempt::Committed(committed) => {
                results.extend(committed.results);
                changes.extend(committed.changes);
            }
            Attempt::Refused(refused) => results.push(refused),
            Attempt::Deadlock if !left.is_zero() => {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
                parts.push(batch);
            }
            // Every part would wait for the same lock.
            Attempt::HeadLocked => match timeout(left, waiters.acquire()).await {
                Ok(Ok(free)) if permit.is_none() => {
                    (permit, is_first) = (Some(free), true);
                    parts.push(batch);
                }
                _ => results.extend((0..batch.len()).map(|_| refused(Refusal::Busy))),
            },
            Attempt::Stopped | Attempt::Deadlock => match batch.split_in_half() {
                Some((first, second)) => parts.extend([second, first]),
                // The other groups do not wait for this one. The engine retries it alone.
                None if !is_alone => results.push(refused(Refusal::Locked)),
                None if permit.is_none() => match timeout(left, waiters.acquire()).await {
                    Ok(Ok(free)) => {
                        permit = Some(free);
                        parts.push(batch);
                    }
                    _ => results.push(refused(Refusal::Busy)),
                },
                None => results.push(refused(Refusal::Busy)),
            },
        }
    }
    Ok(Committed { results, changes })
}

fn lock_timeouts(left: Duration, has_permit: bool, is_alone: bool, is_first: bool) -> LockTimeouts {
    let short = SHARED_LOCK_TIMEOUT.min(left);
    let rows = if has_permit && is_alone {
        left
    } else if is_first {
        short
    } else {
        // A row that was locked a moment ago is left to the retry.
        Duration::ZERO
    };
    LockTimeouts {
        rows,
        heads: if has_permit { left } else { short },
    }
}

fn refused(refusal: Refusal) -> GroupResult {
    Err(RefusedEdit { edit: 0, refusal })
}
