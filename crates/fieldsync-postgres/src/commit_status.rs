//! Looks up whether a transaction was committed, if the answer to its COMMIT was lost.

use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use fieldsync::backend::{CommitOutput, StoreError};
use tokio_postgres::Client;

use crate::connection::Connection;
use crate::dialect::Tables;
use crate::error::Failure;

/// How long the status is looked up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one connection may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the transaction with this id was committed.
pub(crate) async fn is_committed(
    pool: &Pool,
    tables: &Tables,
    transaction_id: &str,
    finished: &CommitOutput,
) -> Result<bool, Failure> {
    if finished.changes.is_empty() && finished.idempotency_records.is_empty() {
        return Ok(true);
    }
    let deadline = Instant::now() + LOOKUP_TIMEOUT;
    loop {
        match status(pool, tables, transaction_id, finished).await {
            Ok(Status::Committed) => return Ok(true),
            Ok(Status::RolledBack) => return Ok(false),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Ok(Status::InProgress) | Err(_) => {}
        }
        if Instant::now() >= deadline {
            let error = "the answer to a COMMIT was lost, and its status can't be looked up";
            return Err(StoreError::Unavailable(error.into()).into());
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(10..50))).await;
    }
}

enum Status {
    Committed,
    RolledBack,
    /// The transaction's session has not ended.
    InProgress,
}

async fn status(
    pool: &Pool,
    tables: &Tables,
    transaction_id: &str,
    finished: &CommitOutput,
) -> Result<Status, Failure> {
    let client = Connection::of(pool).await?;
    client
        .within(ANSWER_TIMEOUT, async {
            let sql = "select pg_xact_status($1::text::xid8)";
            let row = client.query_one(sql, &[&transaction_id]).await?;
            match row.try_get(0)? {
                Some("in progress") => Ok(Status::InProgress),
                // A server that crashed may give the id of a transaction that left no trace to another one. What counts is
                // what it wrote: the tag is unique to this change.
                Some("committed") if has_written(&client, tables, finished).await? => {
                    Ok(Status::Committed)
                }
                _ => Ok(Status::RolledBack),
            }
        })
        .await
}

/// Whether the database has what the transaction wrote.
async fn has_written(
    client: &Client,
    tables: &Tables,
    finished: &CommitOutput,
) -> Result<bool, Failure> {
    let row = if let Some(change) = finished.changes.first() {
        let log = &**tables.log_of(&change.key.collection)?;
        let offset = change.position.offset.cast_signed();
        let tag = i64::from(change.position.tag);
        client
            .query_opt(&tables.own.has_change, &[&log, &offset, &tag])
            .await?
    } else if let Some(remembered) = finished.idempotency_records.first() {
        let key = &remembered.key;
        client
            .query_opt(&tables.own.has_key, &[&key.principal, &key.key])
            .await?
    } else {
        None
    };
    Ok(row.is_some())
}
