//! Commits a batch in parts where the database refuses the whole, so that only the group at fault is refused.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldsync::Refusal;
use fieldsync::backend::{Batch, Change, Committed, GroupResult, RefusedEdit, StoreError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a batch of several groups waits for a lock, so that one locked row does not delay the others.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// How often the transactions of a batch of several groups are repeated after deadlocks before the batch is split. A trigger
/// may raise the same error each time.
const MAX_DEADLOCKS: usize = 3;

/// After this time the other groups no longer wait for one that may be at fault: its trigger may take as long again.
const MAX_SHARED_TIME: Duration = Duration::from_secs(1);

/// How many transactions of a batch may end with [`Attempt::Ended`] before no more parts are split.
const MAX_ENDED: usize = 16;

/// How long a transaction waits for locks.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LockTimeouts {
    /// For the locks of rows and of idempotency keys.
    pub rows: Duration,
    /// For the locks of the heads, which every writer needs and holds until the disk has confirmed.
    pub heads: Duration,
}

impl LockTimeouts {
    /// Whether the transaction waits for a lock that an earlier one did not get.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.rows > SHARED_LOCK_TIMEOUT
    }
}

/// The result of one transaction.
#[derive(Debug)]
pub enum Attempt {
    /// Committed.
    Committed(Committed),
    /// The database refused the only group. Rolled back.
    Refused(GroupResult),
    /// The database refused one of several groups. Rolled back.
    Stopped {
        /// The groups that may be at fault, by their indexes. Empty if that is not known.
        suspects: Vec<usize>,
    },
    /// A lock stopped it. Rolled back.
    Locked(Lock),
    /// It ended with an error as of a store that is unavailable, and the store is available. Rolled back. A trigger may have
    /// raised the error, or closed the connection.
    Ended(StoreError),
}

impl Attempt {
    /// The database refused one of several groups, and it is not known which.
    #[must_use]
    pub fn stopped() -> Self {
        let suspects = Vec::new();
        Self::Stopped { suspects }
    }
}

/// The lock that stopped a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// A row or an idempotency key is locked.
    Row,
    /// A head is locked.
    Head,
    /// The database chose this transaction to end a deadlock.
    Deadlock,
}

/// Groups of a batch that share a transaction.
#[derive(Debug)]
#[non_exhaustive]
pub struct Part {
    /// The groups.
    pub batch: Batch,
    /// Whether mutations may share a statement. Where the database refused one, the next transaction shows which.
    pub may_share_statements: bool,
    /// Their indexes in the whole batch.
    groups: Vec<usize>,
    /// Whether it is what remained of a part without the groups that may be at fault.
    is_remainder: bool,
    /// Whether its groups may be at fault.
    is_suspect: bool,
}

/// The parts of a batch that are still to be committed, and the results of the others.
///
/// Where the database tells which groups may be at fault, the others are tried without them; otherwise the part is split in
/// half. A group that is alone in its transaction is the one at fault.
#[derive(Debug)]
pub struct Parts {
    waiting: Vec<Part>,
    results: Vec<Option<GroupResult>>,
    changes: Vec<Arc<Change>>,
    /// The transactions that ended with [`Attempt::Ended`].
    ended: usize,
}

impl Parts {
    /// The whole batch as one part.
    #[must_use]
    pub fn of(batch: Batch) -> Self {
        let groups: Vec<usize> = (0..batch.len()).collect();
        let results = vec![None; batch.len()];
        let whole = Part {
            batch,
            may_share_statements: true,
            groups,
            is_remainder: false,
            is_suspect: false,
        };
        let waiting = if results.is_empty() {
            Vec::new()
        } else {
            vec![whole]
        };
        Self {
            waiting,
            results,
            changes: Vec::new(),
            ended: 0,
        }
    }

    /// The part to try next.
    pub fn next_part(&mut self) -> Option<Part> {
        self.waiting.pop()
    }

    /// Takes the result of a part's transaction. Returns the part if a lock stopped it.
    ///
    /// # Errors
    /// If the store is unavailable. Parts may have been committed before.
    pub fn record(
        &mut self,
        part: Part,
        attempt: Result<Attempt, StoreError>,
    ) -> Result<Option<(Part, Lock)>, StoreError> {
        let error = match attempt {
            Ok(Attempt::Committed(committed)) => {
                self.changes.extend(committed.changes);
                self.finish(&part, committed.results);
                return Ok(None);
            }
            Ok(Attempt::Refused(result)) => {
                self.finish(&part, [result]);
                return Ok(None);
            }
            Ok(Attempt::Stopped { suspects }) => {
                self.split_by(part, &suspects);
                return Ok(None);
            }
            Ok(Attempt::Locked(lock)) => return Ok(Some((part, lock))),
            Ok(Attempt::Ended(error)) => {
                self.ended += 1;
                if part.groups.len() > 1 && self.ended <= MAX_ENDED {
                    self.split_in_half(&part);
                } else if self.results.len() > 1 {
                    // The engine retries each alone.
                    self.refuse(&part, &Refusal::Locked);
                } else {
                    return Err(error);
                }
                return Ok(None);
            }
            Err(StoreError::Backend(error)) => text_of(&*error),
            Err(error) => return Err(error),
        };
        if part.groups.len() > 1 {
            self.split_in_half(&part);
        } else {
            self.refuse(&part, &Refusal::DatabaseFailed(error));
        }
        Ok(None)
    }

    /// Refuses all groups of a part.
    pub fn refuse(&mut self, part: &Part, refusal: &Refusal) {
        let refused = || {
            Err(RefusedEdit {
                edit: 0,
                refusal: refusal.clone(),
            })
        };
        self.finish(part, part.groups.iter().map(|_| refused()));
    }

    /// The results of the groups, in their order, and the changes that were logged.
    #[must_use]
    pub fn into_committed(self) -> Committed {
        let results = self.results.into_iter();
        let results = results.map(|result| result.expect("each group is in one part"));
        Committed {
            results: results.collect(),
            changes: self.changes,
        }
    }

    fn finish(&mut self, part: &Part, results: impl IntoIterator<Item = GroupResult>) {
        for (group, result) in part.groups.iter().zip(results) {
            self.results[*group] = Some(result);
        }
    }

    fn split_by(&mut self, part: Part, suspects: &[usize]) {
        if suspects.is_empty() {
            self.split_in_half(&part);
        } else if suspects.len() < part.groups.len() {
            let (suspects, others) = part.split_off(suspects);
            self.waiting.push(Part {
                is_suspect: true,
                ..suspects
            });
            // With many groups at fault, taking out one after the other would write the rest as often.
            if part.is_remainder && others.groups.len() > 1 {
                self.split_in_half(&others);
            } else {
                self.waiting.push(Part {
                    is_remainder: true,
                    ..others
                });
            }
        } else if part.may_share_statements {
            self.waiting.push(Part {
                may_share_statements: false,
                ..part
            });
        } else {
            self.split_in_half(&part);
        }
    }

    fn split_in_half(&mut self, part: &Part) {
        let first: Vec<usize> = (0..part.groups.len() / 2).collect();
        if first.is_empty() {
            // A store returns `Refused` for a single group.
            self.refuse(part, &Refusal::Busy);
            return;
        }
        let (first, second) = part.split_off(&first);
        self.waiting.extend([second, first]);
    }
}

impl Part {
    fn split_off(&self, indexes: &[usize]) -> (Self, Self) {
        let (split_off, others) = self.batch.split_off(indexes);
        let groups = self.groups.iter().copied().enumerate();
        let (first, second): (Vec<_>, Vec<_>) =
            groups.partition(|(index, _)| indexes.contains(index));
        let part = |batch, groups: Vec<(usize, usize)>| Self {
            batch,
            may_share_statements: false,
            groups: groups.into_iter().map(|(_, group)| group).collect(),
            is_remainder: false,
            is_suspect: false,
        };
        (part(split_off, first), part(others, second))
    }
}

/// An error with its causes, for the log.
#[must_use]
pub fn text_of(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Commits a batch with `attempt`, which runs one transaction.
///
/// If the database refuses a transaction, or a lock stops it, the batch is split until the group at fault is alone. A group
/// waits for a lock only if it came alone; otherwise it is refused with [`Refusal::Locked`], and the engine retries
/// it alone. `waiters` limits the transactions that wait for locks, so that connections remain for the others.
///
/// # Errors
/// If the store is unavailable.
pub async fn commit_in_parts<F>(
    batch: Batch,
    waiters: &Semaphore,
    attempt: impl Fn(&Part, LockTimeouts) -> F,
) -> Result<Committed, StoreError>
where
    F: Future<Output = Result<Attempt, StoreError>>,
{
    let Some(deadline) = batch.deadline() else {
        return Ok(Committed::default());
    };
    let (is_alone, begun) = (batch.len() == 1, Instant::now());
    let (mut permit, mut is_first, mut deadlocks) = (None, true, 0);
    let mut parts = Parts::of(batch);
    while let Some(part) = parts.next_part() {
        if part.is_suspect && part.groups.len() == 1 && begun.elapsed() > MAX_SHARED_TIME {
            // The engine retries it alone.
            parts.refuse(&part, &Refusal::Locked);
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeouts = lock_timeouts(left, permit.is_some(), is_alone, is_first);
        is_first = false;
        let attempted = attempt(&part, timeouts).await;
        let Some((part, lock)) = parts.record(part, attempted)? else {
            continue;
        };
        deadlocks += usize::from(lock == Lock::Deadlock);
        let is_deadlock = lock == Lock::Deadlock && (is_alone || deadlocks <= MAX_DEADLOCKS);
        if is_deadlock && !left.is_zero() {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
            parts.waiting.push(part);
        } else if lock != Lock::Head && part.groups.len() > 1 {
            parts.split_in_half(&part);
        } else if lock != Lock::Head && !is_alone {
            // The other groups do not wait for this one. The engine retries it alone.
            parts.refuse(&part, &Refusal::Locked);
        } else if permit.is_none()
            && let Ok(Ok(free)) = timeout(left, waiters.acquire()).await
        {
            // Every part would wait for the lock of a head.
            (permit, is_first) = (Some(free), lock == Lock::Head);
            parts.waiting.push(part);
        } else {
            parts.refuse(&part, &Refusal::Busy);
        }
    }
    Ok(parts.into_committed())
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
