//! The write path: [`transact`] is one transaction from its beginning to its COMMIT, in three round trips.

use std::collections::HashSet;

use deadpool_postgres::Pool;
use fieldsync::RecordKey;
use fieldsync::backend::{Batch, CommitOutput, Committed, Plan, StoreError};
use fieldsync_sql::{Attempt, LockTimeouts, commit_in_parts, deferred_refusal};
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;

use crate::commit_status::is_committed;
use crate::connection::{ANSWER_TIMEOUT, Connection};
use crate::dialect::Tables;
use crate::error::{Failure, Stopped, constraint_of};
use crate::row_writes::{Written, write};
use crate::{log, read_set};

/// Commits a batch: in one transaction, or in parts where a constraint or a lock stops that.
pub(crate) async fn commit(
    pool: &Pool,
    tables: &Tables,
    waiters: &Semaphore,
    batch: Batch,
) -> Result<Committed, StoreError> {
    let attempt =
        |batch, timeouts| async move { Ok(attempt(pool, tables, &batch, timeouts).await?) };
    commit_in_parts(batch, waiters, attempt).await
}

/// One transaction. Nothing of it is stored unless the result says so, or is an error of COMMIT.
async fn attempt(
    pool: &Pool,
    tables: &Tables,
    batch: &Batch,
    timeouts: LockTimeouts,
) -> Result<Attempt, Failure> {
    let mut client = Connection::of(pool).await?;
    let failure = match transact(&mut client, pool, tables, batch, timeouts).await {
        Ok(attempt) => return Ok(attempt),
        Err(failure) => failure,
    };
    if !client.is_lost() && rollback(&client).await.is_err() {
        client.lose();
    }
    let stopped = match &failure {
        Failure::Postgres(error) => {
            // Another server may be the primary now.
            if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                client.lose_all();
            }
            Stopped::of(error)
        }
        Failure::Store(_) | Failure::NoAnswer => None,
    };
    match stopped {
        Some(Stopped::Locked) => Ok(Attempt::Stopped),
        Some(Stopped::Deadlock) => Ok(Attempt::Deadlock),
        None => Err(failure),
    }
}

async fn rollback(client: &Connection) -> Result<(), Failure> {
    let rollback = async { Ok(client.batch_execute("rollback").await?) };
    client.within(ANSWER_TIMEOUT, rollback).await
}

async fn transact(
    client: &mut Connection,
    pool: &Pool,
    tables: &Tables,
    batch: &Batch,
    timeouts: LockTimeouts,
) -> Result<Attempt, Failure> {
    let reading = read_set::read(client, tables, batch, timeouts.rows);
    let found = client
        .within(timeouts.rows + ANSWER_TIMEOUT, reading)
        .await?;
    let locked: HashSet<RecordKey> = found.records.keys().cloned().collect();
    let plan = batch.plan(found);
    let is_alone = batch.len() == 1;
    let writing = write(client, tables, &plan, &locked, is_alone, timeouts);
    let limit = timeouts.rows + timeouts.heads + ANSWER_TIMEOUT;
    let (rows, captured, mut heads, transaction_id) = match client.within(limit, writing).await? {
        Written::All {
            rows,
            captured,
            heads,
            transaction_id,
        } => (rows, captured, heads, transaction_id),
        Written::DeferredError(failure) => {
            let failed = match commit_error(&failure) {
                CommitError::Constraint => deferred_failure(&plan, tables, is_alone),
                CommitError::RolledBack | CommitError::Unknown => return Err(failure),
            };
            rollback(client).await?;
            return Ok(failed);
        }
        Written::HeadLocked => {
            rollback(client).await?;
            return Ok(Attempt::HeadLocked);
        }
        Written::Refused { mutation, refusal } => {
            rollback(client).await?;
            return Ok(if is_alone {
                Attempt::Refused(plan.refused_by_database(mutation, refusal))
            } else {
                Attempt::Stopped
            });
        }
    };
    // COMMIT checks deferred constraints. The refusal is made now, since `finish` takes the plan.
    let deferred = deferred_failure(&plan, tables, is_alone);
    let settled = plan.settle(rows, &captured);
    log::advance(&mut heads, &settled.head_updates())?;
    let finished = settled.finish(&heads);
    // The next batch runs up to the heads' locks while this one waits for the disk.
    batch.let_next_begin();
    let finishing = log::finish(client, tables, &finished);
    let failure = match client.within(ANSWER_TIMEOUT, finishing).await {
        Ok(()) => return Ok(Attempt::Committed(committed(finished))),
        Err(failure) => failure,
    };
    match commit_error(&failure) {
        CommitError::Constraint => {
            rollback(client).await?;
            Ok(deferred)
        }
        CommitError::RolledBack => Err(failure),
        CommitError::Unknown => {
            look_up(client, pool, tables, &transaction_id, finished, failure).await
        }
    }
}

/// What a deferred constraint that failed means for the batch.
fn deferred_failure(plan: &Plan, tables: &Tables, is_alone: bool) -> Attempt {
    let refused = is_alone.then(|| deferred_refusal(plan, tables)).flatten();
    refused.map_or(Attempt::Stopped, Attempt::Refused)
}

fn committed(finished: CommitOutput) -> Committed {
    Committed {
        results: finished.results,
        changes: finished.changes,
    }
}

/// What an error says about a transaction whose COMMIT was sent.
enum CommitError {
    /// A deferred constraint refused it.
    Constraint,
    /// It is rolled back.
    RolledBack,
    /// It may be committed.
    Unknown,
}

fn commit_error(failure: &Failure) -> CommitError {
    let error = match failure {
        Failure::Store(_) => return CommitError::RolledBack,
        Failure::Postgres(error) => error.as_db_error(),
        Failure::NoAnswer => None,
    };
    match error {
        Some(error) if constraint_of(error).is_some() => CommitError::Constraint,
        // The server ends the connection: statements sent before may have been executed.
        Some(error) if error.code().code().starts_with("57P") => CommitError::Unknown,
        Some(_) => CommitError::RolledBack,
        None => CommitError::Unknown,
    }
}

/// Looks up whether a transaction was committed whose answer was lost.
async fn look_up(
    client: &mut Connection,
    pool: &Pool,
    tables: &Tables,
    transaction_id: &str,
    finished: CommitOutput,
    failure: Failure,
) -> Result<Attempt, Failure> {
    // The lookup takes another connection, and the pool may have only this one.
    client.close();
    if is_committed(pool, tables, transaction_id, &finished).await? {
        tracing::warn!("the answer to a COMMIT was lost; a lookup found the transaction committed");
        Ok(Attempt::Committed(committed(finished)))
    } else {
        tracing::warn!(
            "the answer to a COMMIT was lost; a lookup found the transaction rolled back"
        );
        Err(failure)
    }
}
