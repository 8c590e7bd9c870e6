//! The write path: [`transact`] is one transaction from its beginning to its COMMIT.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldsync::Refusal;
use fieldsync::backend::{Batch, Committed, StoreError};
use fieldsync_sql::{Attempt, BatchWritten, Lock, Parts, run_ready, write_batch};
use rusqlite::TransactionBehavior;

use crate::capture::KnownCapture;
use crate::connection::{Open, Session, interrupted_at};
use crate::dialect::Tables;
use crate::error::{Failure, constraint_of, is_busy, is_interrupted};
use crate::transaction::Transaction;

/// Commits a batch: in one transaction, or in parts where the database refuses one of several groups.
pub(crate) fn commit(
    session: &mut Session,
    tables: &Arc<Tables>,
    batch: Batch,
) -> Result<Committed, StoreError> {
    let (deadline, is_alone) = (batch.deadline(), batch.len() == 1);
    let mut parts = Parts::of(batch);
    while let Some(part) = parts.next_part() {
        let attempt = session.with(deadline, |open| {
            let limit = if is_alone {
                deadline
            } else {
                shared_limit(deadline)
            };
            transact(open, tables, &part.batch, limit)
        });
        match parts.record(part, attempt)? {
            None => {}
            // The engine retries it alone.
            Some((part, Lock::Row)) if !is_alone => parts.refuse(&part, &Refusal::Locked),
            // Another process holds the lock, or the time is over.
            Some((part, _)) => parts.refuse(&part, &Refusal::Busy),
        }
    }
    Ok(parts.into_committed())
}

/// How long the statements of a batch of several groups may take together, so that the others do not wait for one whose trigger
/// takes long.
const MAX_SHARED_TIME: Duration = Duration::from_secs(1);

fn shared_limit(deadline: Option<Instant>) -> Option<Instant> {
    let limit = Instant::now() + MAX_SHARED_TIME;
    Some(deadline.map_or(limit, |deadline| deadline.min(limit)))
}

/// One transaction, whose statements are interrupted at a time. It is rolled back when `transaction` is dropped without COMMIT.
fn transact(
    open: &mut Open,
    tables: &Arc<Tables>,
    batch: &Batch,
    limit: Option<Instant>,
) -> Result<Attempt, Failure> {
    let begun = open
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = match begun {
        Ok(transaction) => transaction,
        // SQLite has one lock for everything.
        Err(error) if is_busy(&error) => return Ok(Attempt::Locked(Lock::Head)),
        Err(error) => return Err(error.into()),
    };
    KnownCapture::refresh(&mut open.capture, &transaction, tables)?;
    let mut written = Transaction::with_capture(&transaction, open.capture.as_ref())?;
    let writing = || run_ready(write_batch(&mut written, tables, batch));
    let (committed, if_refused) = match interrupted_at(limit, writing) {
        Ok(BatchWritten::Complete {
            committed,
            if_refused,
        }) => (committed, if_refused),
        Ok(BatchWritten::Incomplete(attempt)) => return Ok(attempt),
        Err(Failure::Sqlite(error)) if is_interrupted(&error) => {
            return Ok(if batch.len() > 1 {
                Attempt::stopped()
            } else {
                Attempt::Locked(Lock::Row)
            });
        }
        Err(failure) => return Err(failure),
    };
    #[cfg(fieldsync_fault_points)]
    fieldsync::fault::point("before-commit");
    match transaction.commit() {
        Ok(()) => {
            #[cfg(fieldsync_fault_points)]
            fieldsync::fault::point("after-commit");
            Ok(Attempt::Committed(committed))
        }
        Err(error) if constraint_of(&error).is_some() => Ok(if_refused),
        Err(error) => Err(error.into()),
    }
}
