//! The write path: [`transact`] is one transaction from its beginning to its COMMIT.

use std::sync::Arc;

use fieldsync::Refusal;
use fieldsync::backend::{Batch, Committed, StoreError};
use fieldsync_sql::{Attempt, BatchWritten, Lock, Parts, run_ready, write_batch};
use rusqlite::TransactionBehavior;

use crate::capture::KnownCapture;
use crate::connection::{Open, Session};
use crate::dialect::Tables;
use crate::error::{Failure, constraint_of, is_busy};
use crate::transaction::Transaction;

/// Commits a batch: in one transaction, or in parts where the database refuses one of several groups.
pub(crate) fn commit(
    session: &mut Session,
    tables: &Arc<Tables>,
    batch: Batch,
) -> Result<Committed, StoreError> {
    let deadline = batch.deadline();
    let mut parts = Parts::of(batch);
    while let Some(part) = parts.next_part() {
        let attempt = session.with(deadline, |open| transact(open, tables, &part.batch));
        if let Some((part, _)) = parts.record(part, attempt)? {
            // Another process holds the lock.
            parts.refuse(&part, &Refusal::Busy);
        }
    }
    Ok(parts.into_committed())
}

/// One transaction. It is rolled back when `transaction` is dropped without COMMIT.
fn transact(open: &mut Open, tables: &Arc<Tables>, batch: &Batch) -> Result<Attempt, Failure> {
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
