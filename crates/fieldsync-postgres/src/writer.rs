//! The write path: [`transact`] is one transaction from its beginning to its COMMIT, in three round trips.

use deadpool_postgres::Pool;
use fieldsync::Denied;
use fieldsync::backend::{
    Batch, CommitOutput, Committed, GroupResult, Mutation, RefusedEdit, StoreError,
};
use fieldsync_sql::{
    Attempt, Constraint, Lock, LockTimeouts, Part, Rejection, commit_in_parts, likeliest,
};
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;

use crate::commit_status::is_committed;
use crate::connection::{ANSWER_TIMEOUT, Connection};
use crate::dialect::Tables;
use crate::error::{Failure, Stopped, is_about_edit, may_pass, text_of};
use crate::read_set::{self, Read};
use crate::row_writes::{Reason, Written, write};
use crate::{blame, left_behind, log};

/// Commits a batch: in one transaction, or in parts where the database or a lock stops that.
pub(crate) async fn commit(
    pool: &Pool,
    tables: &Tables,
    waiters: &Semaphore,
    batch: Batch,
) -> Result<Committed, StoreError> {
    let attempt = |part: &Part, timeouts| {
        let (batch, may_share_statements) = (part.batch.clone(), part.may_share_statements);
        async move { Ok(attempt(pool, tables, &batch, may_share_statements, timeouts).await?) }
    };
    commit_in_parts(batch, waiters, attempt).await
}

/// One transaction. Nothing of it is stored unless the result says so, or is an error of COMMIT.
async fn attempt(
    pool: &Pool,
    tables: &Tables,
    batch: &Batch,
    may_share_statements: bool,
    timeouts: LockTimeouts,
) -> Result<Attempt, Failure> {
    let mut client = Connection::of(pool).await?;
    let transacted = transact(
        &mut client,
        pool,
        tables,
        batch,
        may_share_statements,
        timeouts,
        true,
    );
    let failure = match transacted.await {
        Ok(attempt) => return Ok(attempt),
        Err(failure) => failure,
    };
    if !client.is_lost() && rollback(&client).await.is_err() {
        client.lose();
    }
    let stopped = match &failure {
        Failure::Postgres(error) => {
            if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                client.lose();
            }
            Stopped::while_locking(error)
        }
        Failure::Denied(_) if batch.len() > 1 => return Ok(Attempt::stopped()),
        Failure::Denied(error) => {
            let error = text_of(error);
            tracing::warn!(error, "the database denied an edit");
            return Ok(Attempt::Refused(Err(RefusedEdit {
                edit: 0,
                refusal: Denied::Forbidden.into(),
            })));
        }
        Failure::Store(_) | Failure::NoAnswer => None,
    };
    match stopped {
        Some(Stopped::Locked) => Ok(Attempt::Locked(Lock::Row)),
        Some(Stopped::Deadlock) => Ok(Attempt::Locked(Lock::Deadlock)),
        None => ended(client, pool, failure).await,
    }
}

/// What it means that a transaction failed as if the server were unavailable. If another connection shows that it is available,
/// an edit may be the cause.
async fn ended(mut client: Connection, pool: &Pool, failure: Failure) -> Result<Attempt, Failure> {
    let is_of_server = matches!(&failure, Failure::Postgres(error) if may_pass(error));
    if !is_of_server {
        return Err(failure);
    }
    // The pool may have only this one.
    client.close();
    if is_writable(pool).await.unwrap_or(false) {
        return Ok(Attempt::Ended(failure.into()));
    }
    // Another server may be the primary now.
    client.lose_all();
    Err(failure)
}

/// Whether the server answers, and can be written.
async fn is_writable(pool: &Pool) -> Result<bool, Failure> {
    let client = Connection::of(pool).await?;
    let sql = "select current_setting('transaction_read_only') = 'off'";
    let answer = async { Ok(client.query_one(sql, &[]).await?.try_get(0)?) };
    client.within(ANSWER_TIMEOUT, answer).await
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
    may_share_statements: bool,
    timeouts: LockTimeouts,
    // Whether a sequence that is behind the rows may catch up, and the transaction begin again.
    may_catch_up: bool,
) -> Result<Attempt, Failure> {
    let reading = read_set::read(client, tables, batch, timeouts.rows);
    let Read { set, locked } = client
        .within(timeouts.rows + ANSWER_TIMEOUT, reading)
        .await?;
    let plan = batch.plan(set);
    let is_alone = batch.len() == 1;
    let may_share_statements = may_share_statements && !is_alone;
    let writing = write(
        client,
        tables,
        &plan,
        &locked,
        may_share_statements,
        timeouts,
    );
    let limit = timeouts.rows + timeouts.heads + ANSWER_TIMEOUT;
    let (rows, captured, mut heads, transaction_id) = match client.within(limit, writing).await? {
        Written::All {
            rows,
            captured,
            heads,
            transaction_id,
        } => (rows, captured, heads, transaction_id),
        Written::DeferredError(failure) => {
            let mutations = is_alone.then(|| plan.mutations().to_vec());
            return refused_late(client, tables, mutations.as_deref(), failure).await;
        }
        Written::HeadLocked => {
            rollback(client).await?;
            return Ok(Attempt::Locked(Lock::Head));
        }
        Written::Refused { mutations, reason } => {
            rollback(client).await?;
            let mutation = &plan.mutations()[mutations[0]];
            if is_alone && may_catch_up {
                let table = tables.of(mutation.collection.name())?;
                let catching_up = left_behind::catch_up(client, table, mutation, &reason);
                if client.within(ANSWER_TIMEOUT, catching_up).await? {
                    let again = transact(client, pool, tables, batch, false, timeouts, false);
                    return Box::pin(again).await;
                }
            }
            let mutations = mutations.iter().map(|at| &plan.mutations()[*at]).collect();
            return refuse(client, tables, mutations, reason, is_alone, timeouts).await;
        }
    };
    // COMMIT checks deferred constraints. Kept for them, since `settle` takes the plan.
    let mutations = is_alone.then(|| plan.mutations().to_vec());
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
        CommitError::Refused(_) => {
            refused_late(client, tables, mutations.as_deref(), failure).await
        }
        CommitError::RolledBack => Err(failure),
        CommitError::Unknown => {
            look_up(client, pool, tables, &transaction_id, finished, failure).await
        }
    }
}

/// What it means for a batch that a deferred constraint or trigger has refused it. `mutations`: those of a batch of one group.
async fn refused_late(
    client: &Connection,
    tables: &Tables,
    mutations: Option<&[Mutation]>,
    failure: Failure,
) -> Result<Attempt, Failure> {
    let attempt = match (commit_error(&failure), mutations) {
        (CommitError::Refused(error), Some(mutations)) => {
            refuse_deferred(tables, mutations, error).map(Attempt::Refused)
        }
        (CommitError::Refused(_), None) => Some(Attempt::stopped()),
        (CommitError::RolledBack | CommitError::Unknown, _) => None,
    };
    let Some(attempt) = attempt else {
        return Err(failure);
    };
    rollback(client).await?;
    Ok(attempt)
}

fn committed(finished: CommitOutput) -> Committed {
    Committed {
        results: finished.results,
        changes: finished.changes,
    }
}

/// What an error says about a transaction whose COMMIT was sent.
enum CommitError<'a> {
    /// A deferred constraint or trigger refused it.
    Refused(&'a tokio_postgres::Error),
    /// It is rolled back.
    RolledBack,
    /// It may be committed.
    Unknown,
}

fn commit_error(failure: &Failure) -> CommitError<'_> {
    let error = match failure {
        Failure::Store(_) => return CommitError::RolledBack,
        Failure::Postgres(error) | Failure::Denied(error) => error,
        Failure::NoAnswer => return CommitError::Unknown,
    };
    match error.as_db_error() {
        Some(_) if is_about_edit(error) => CommitError::Refused(error),
        // The server ends the connection: statements sent before may have been executed.
        Some(error) if error.code().code().starts_with("57P") => CommitError::Unknown,
        Some(_) => CommitError::RolledBack,
        None => CommitError::Unknown,
    }
}

/// The attempt when the database has refused one of these mutations.
async fn refuse(
    client: &Connection,
    tables: &Tables,
    mutations: Vec<&Mutation>,
    reason: Reason,
    is_alone: bool,
    timeouts: LockTimeouts,
) -> Result<Attempt, Failure> {
    let Some(mutation) = mutations.first().filter(|_| is_alone) else {
        let suspects = mutations.into_iter().map(Mutation::group).collect();
        return Ok(Attempt::Stopped { suspects });
    };
    let table = tables.of(mutation.collection.name())?;
    let rejection = match reason {
        // The statement timeout may end the wait for the lock of a row that the statement refers to.
        Reason::Error(error)
            if timeouts.is_waiting() && Stopped::while_locking(&error).is_some() =>
        {
            return Err(error.into());
        }
        Reason::Error(error) => {
            let blaming = blame::rejection(client, table, &mutation.write, &error);
            client
                .within(ANSWER_TIMEOUT, async { Ok(blaming.await) })
                .await?
        }
        Reason::OtherId => Rejection::Constraint(Constraint::Check, vec!["id".to_owned()]),
        Reason::Hidden => Rejection::Denied("row-level security hides the row".to_owned()),
        Reason::Skipped => Rejection::Constraint(Constraint::Check, Vec::new()),
    };
    let refused = mutation.refused(rejection.refuse(table, mutation));
    Ok(Attempt::Refused(refused))
}

/// The result of a batch of one group when COMMIT has refused it. `None` if it has no mutation, and it was something else.
fn refuse_deferred(
    tables: &Tables,
    mutations: &[Mutation],
    error: &tokio_postgres::Error,
) -> Option<GroupResult> {
    let fields = |mutation: &Mutation| {
        let table = tables.of(mutation.collection.name());
        table.map_or_else(
            |_| Vec::new(),
            |table| blame::deferred_fields(table, &mutation.write, error),
        )
    };
    let (mutation, _) = likeliest(mutations, fields)?;
    let table = tables.of(mutation.collection.name()).ok()?;
    let rejection = blame::deferred(table, &mutation.write, error);
    Some(mutation.refused(rejection.refuse(table, mutation)))
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
    // Without an answer the transaction may be committed: that must not be retried.
    let is_committed = is_committed(pool, tables, transaction_id, &finished).await;
    if is_committed.map_err(StoreError::from)? {
        tracing::warn!("the answer to a COMMIT was lost; a lookup found the transaction committed");
        Ok(Attempt::Committed(committed(finished)))
    } else {
        tracing::warn!(
            "the answer to a COMMIT was lost; a lookup found the transaction rolled back"
        );
        Err(failure)
    }
}
