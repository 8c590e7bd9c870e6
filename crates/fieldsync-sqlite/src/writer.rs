//! The write path: [`transact`] is one transaction from its beginning to its COMMIT.

use std::sync::Arc;

use fieldsync::Refusal;
use fieldsync::backend::{Batch, Committed, GroupResult, RefusedEdit, StoreError};
use fieldsync_sql::{Attempt, BatchWritten, run_ready, write_batch};
use rusqlite::TransactionBehavior;

use crate::capture::KnownCapture;
use crate::connection::{Open, Session};
use crate::dialect::Tables;
use crate::error::{Failure, constraint_of, is_busy};
use crate::transaction::Transaction;

/// Commits a batch: in one transaction, or group by group if a constraint refuses one of several groups.
pub(crate) fn commit(
    session: &mut Session,
    tables: &Arc<Tables>,
    batch: &Batch,
) -> Result<Committed, StoreError> {
    if batch.is_empty() {
        return Ok(Committed::default());
    }
    let mut attempt =
        |batch: &Batch| session.with(batch.deadline(), |open| transact(open, tables, batch));
    match attempt(batch)? {
        Attempt::Committed(committed) => return Ok(committed),
        Attempt::Refused(result) => return Ok(Committed::nothing(vec![result])),
        Attempt::HeadLocked | Attempt::Deadlock => {
            return Ok(Committed::nothing(vec![busy(); batch.len()]));
        }
        Attempt::Stopped => {}
    }
    let (mut results, mut changes) = (Vec::with_capacity(batch.len()), Vec::new());
    for single in batch.split_into_groups() {
        match attempt(&single)? {
            Attempt::Committed(committed) => {
                results.extend(committed.results);
                changes.extend(committed.changes);
            }
            Attempt::Refused(result) => results.push(result),
            Attempt::HeadLocked | Attempt::Deadlock | Attempt::Stopped => results.push(busy()),
        }
    }
    Ok(Committed { results, changes })
}

/// The answer if another process holds the lock: nothing of the group is stored.
fn busy() -> GroupResult {
    Err(RefusedEdit {
        edit: 0,
        refusal: Refusal::Busy,
    })
}

/// One transaction. It is rolled back when `transaction` is dropped without COMMIT.
fn transact(open: &mut Open, tables: &Arc<Tables>, batch: &Batch) -> Result<Attempt, Failure> {
    let begun = open
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = match begun {
        Ok(transaction) => transaction,
        // SQLite has one lock for everything.
        Err(error) if is_busy(&error) => return Ok(Attempt::HeadLocked),
        Err(error) => return Err(error.into()),
    };
    KnownCapture::refresh(&mut open.capture, &transaction, tables)?;
    let mut written = Transaction::with_capture(&transaction, open.capture.as_ref())?;
    let (committed, if_refused) = match run_ready(write_batch(&mut written, tables, batch))? {
        BatchWritten::Complete {
            committed,
            if_refused,
        } => (committed, if_refused),
        BatchWritten::Incomplete(attempt) => return Ok(attempt),
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
