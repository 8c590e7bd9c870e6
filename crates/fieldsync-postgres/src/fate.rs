//! What became of a COMMIT whose answer was lost.

use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use fieldsync::{Finished, StoreError};
use tokio_postgres::{Client, Row};

use crate::connection::Connection;
use crate::error::Failure;

/// How long the fate is asked for.
const FATE: Duration = Duration::from_secs(5);
/// How long one connection may take to tell it.
const FATE_ANSWER: Duration = Duration::from_secs(1);

/// Whether a transaction was committed of which nobody said so.
pub(crate) async fn is_committed(
    pool: &Pool,
    id: &str,
    finished: &Finished,
) -> Result<bool, Failure> {
    if finished.changes.is_empty() && finished.remembered.is_empty() {
        return Ok(true);
    }
    let deadline = Instant::now() + FATE;
    loop {
        match fate(pool, id, finished).await {
            Ok(Fate::Committed) => return Ok(true),
            Ok(Fate::Undone) => return Ok(false),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Ok(Fate::Open) | Err(_) => {}
        }
        if Instant::now() >= deadline {
            let error = "the answer to a COMMIT was lost, and can't be looked up";
            return Err(StoreError::Unavailable(error.into()).into());
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(10..50))).await;
    }
}

enum Fate {
    Committed,
    Undone,
    /// Its session is not at its end.
    Open,
}

async fn fate(pool: &Pool, id: &str, finished: &Finished) -> Result<Fate, Failure> {
    let client = Connection::of(pool).await?;
    client
        .within(FATE_ANSWER, async {
            let status = "select pg_xact_status($1::text::xid8)";
            match first(&client.query(status, &[&id]).await?)?.as_deref() {
                Some("in progress") => Ok(Fate::Open),
                // A server that crashed gives the id of a transaction that left no trace to another one: what counts is what
                // it wrote. The tag is this change's own.
                Some("committed") if is_written(&client, finished).await? => Ok(Fate::Committed),
                _ => Ok(Fate::Undone),
            }
        })
        .await
}

/// Whether what a transaction wrote is there.
async fn is_written(client: &Client, finished: &Finished) -> Result<bool, Failure> {
    let row = if let Some(change) = finished.changes.first() {
        let sql =
            "select from fieldsync_changes where collection = $1 and \"offset\" = $2 and tag = $3";
        let collection = &*change.key.collection;
        let offset = change.position.offset.cast_signed();
        let tag = i64::from(change.position.tag);
        client.query_opt(sql, &[&collection, &offset, &tag]).await?
    } else if let Some(remembered) = finished.remembered.first() {
        let sql = "select from fieldsync_keys where principal = $1 and key = $2";
        let key = &remembered.key;
        client.query_opt(sql, &[&key.principal, &key.key]).await?
    } else {
        None
    };
    Ok(row.is_some())
}

fn first(rows: &[Row]) -> Result<Option<String>, Failure> {
    let row = rows.first();
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}
