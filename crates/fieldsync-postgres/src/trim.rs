//! Trims the logs and the idempotency keys, in short transactions.

use deadpool_postgres::{Object, Pool};
use fieldsync::Retention;
use fieldsync::backend::StoreError;
use fieldsync_sql::{MAX_MEASURED, MAX_TRIMMED, TrimScan, Trimmed};

use crate::connection::{ANSWER_TIMEOUT, Connection};
use crate::dialect::Tables;
use crate::error::{Failure, is_not_allowed};
use crate::pipeline::run;
use crate::value::{Parameter, PostgresRow};

/// Trims unless the role may only read, or the server is a standby: then others do.
pub(crate) async fn trim(
    pool: &Pool,
    tables: &Tables,
    retention: Retention,
) -> Result<bool, StoreError> {
    match try_trim(pool, tables, retention).await {
        Err(Failure::Postgres(error)) if is_not_allowed(&error) => Ok(false),
        trimmed => Ok(trimmed?),
    }
}

async fn try_trim(pool: &Pool, tables: &Tables, retention: Retention) -> Result<bool, Failure> {
    let client = Connection::of(pool).await?;
    let (mut left, mut more) = (MAX_TRIMMED, false);
    for collection in tables.collections() {
        let trimming = trim_log(&client, tables, collection, retention, left);
        let trimmed = client.within(ANSWER_TIMEOUT, trimming).await?;
        left -= trimmed.count;
        more |= trimmed.more;
    }
    let forgetting = forget(&client, tables);
    let keys = client.within(ANSWER_TIMEOUT, forgetting).await?;
    Ok(more || keys == MAX_TRIMMED)
}

async fn trim_log(
    client: &Connection,
    tables: &Tables,
    collection: &str,
    retention: Retention,
    limit: usize,
) -> Result<Trimmed, Failure> {
    client.batch_execute("begin").await?;
    match trim_in_transaction(client, tables, collection, retention, limit).await {
        Ok(trimmed) => {
            client.batch_execute("commit").await?;
            Ok(trimmed)
        }
        Err(failure) => {
            if client.batch_execute("rollback").await.is_err() {
                client.lose();
            }
            Err(failure)
        }
    }
}

/// Deletes what is beyond the retention from one log, at most `limit` changes.
async fn trim_in_transaction(
    client: &Object,
    tables: &Tables,
    collection: &str,
    retention: Retention,
    limit: usize,
) -> Result<Trimmed, Failure> {
    let log = tables.log_of(collection)?;
    let name = || Parameter::text(&**log);
    let limit_parameter = Parameter::Integer(limit as i64 + 1);
    let rows = run(
        client,
        &tables.own.trim_candidates,
        [name(), limit_parameter],
    )
    .await?;
    let Some(row) = rows.first() else {
        return Ok(Trimmed::default());
    };
    let (first, head, epoch): (i64, i64, i64) = (row.try_get(0)?, row.try_get(3)?, row.try_get(4)?);
    let log = tables.log_of(collection)?;
    let known = tables.sizes.known_up_to(log, epoch, first - 1, head);
    let mut is_behind = false;
    if known < head {
        let parameters = [
            name(),
            Parameter::Integer(known),
            Parameter::Integer(MAX_MEASURED as i64),
        ];
        let sizes = run(client, &tables.log.sizes, parameters).await?;
        for row in &sizes {
            tables.sizes.add(log, &PostgresRow(row))?;
        }
        is_behind = sizes.len() == MAX_MEASURED;
    }
    let beyond = tables.sizes.beyond(log, retention.bytes);
    let mut scan = TrimScan::new(retention, head.cast_unsigned(), beyond, limit);
    for row in &rows {
        if !scan.push(&PostgresRow(row))? {
            break;
        }
    }
    let mut trimmed = scan.finish();
    trimmed.more |= is_behind;
    if let Some((offset, tag)) = trimmed.last {
        let (offset, tag) = (Parameter::Integer(offset), Parameter::Integer(tag));
        run(client, &tables.log.trim, [name(), offset.clone()]).await?;
        run(client, &tables.log.mark_trimmed, [offset, tag, name()]).await?;
    }
    Ok(trimmed)
}

/// Deletes idempotency keys that are too old, at most [`MAX_TRIMMED`]. Returns how many.
async fn forget(client: &Object, tables: &Tables) -> Result<usize, Failure> {
    let statement = client.prepare_cached(&tables.log.forget).await?;
    let oldest = fieldsync_sql::oldest_idempotency_key();
    let limit = MAX_TRIMMED as i64;
    let deleted = client.execute(&statement, &[&oldest, &limit]).await?;
    Ok(deleted as usize)
}
