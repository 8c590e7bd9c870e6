//! Creates what is missing and checks what exists: the side tables, and the app's tables against their collections.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use fieldsync::Collection;
use fieldsync::backend::StoreError;
use fieldsync_sql::{check, create_table, missing_columns, new_epoch, side_tables};

use crate::capture;
use crate::catalog;
use crate::dialect::{Postgres, PostgresStatements, Tables};
use crate::error::{Failure, Stopped};

/// The most attempts while other transactions hold locks that this one needs.
const MAX_ATTEMPTS: usize = 10;

/// Creates or checks everything in one transaction. Two nodes may do so at the same time, while others write.
pub(crate) async fn prepare(
    client: &mut Object,
    collections: &[Arc<Collection>],
) -> Result<Tables, Failure> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let failure = match attempt(client, collections).await {
            Ok(tables) => return Ok(tables),
            Err(failure) => failure,
        };
        match &failure {
            Failure::Postgres(error)
                if attempts < MAX_ATTEMPTS && Stopped::while_locking(error).is_some() =>
            {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(50..500))).await;
            }
            _ => return Err(failure),
        }
    }
}

async fn attempt(client: &mut Object, collections: &[Arc<Collection>]) -> Result<Tables, Failure> {
    let transaction = client.transaction().await?;
    // One node at a time: `if not exists` alone does not prevent two from creating the same table.
    transaction
        .batch_execute("select pg_advisory_xact_lock(hashtextextended('fieldsync', 2))")
        .await?;
    // A transaction that waits for the lock of a whole table blocks all that come after it.
    transaction
        .batch_execute("set local lock_timeout = '2s'")
        .await?;
    // If everything exists, no lock is taken that a writer would wait for.
    let missing = "select count(*) from unnest(array['fieldsync_heads', 'fieldsync_tables', 'fieldsync_changes', 'fieldsync_keys', \
                   'fieldsync_keys_at']) as name where to_regclass(name) is null";
    if transaction.query_one(missing, &[]).await?.get::<_, i64>(0) > 0 {
        let quiet = "set local client_min_messages = warning";
        transaction.batch_execute(quiet).await?;
        transaction
            .batch_execute(&side_tables::<Postgres>())
            .await?;
    }
    let (mut tables, mut mismatches) = (Tables::default(), Vec::new());
    for collection in collections {
        let found = catalog::read(&transaction, collection).await?;
        let is_new = found.is_none();
        let statements = match &found {
            None => vec![create_table::<Postgres>(collection)?],
            Some(table) if collection.adds_missing_columns() => {
                missing_columns::<Postgres>(collection, table)?
            }
            Some(_) => Vec::new(),
        };
        for sql in statements {
            transaction.batch_execute(&sql).await?;
        }
        let table = catalog::read(&transaction, collection).await?;
        let log = table.as_ref().map(|table| table.log.clone());
        let is_ours = match &log {
            Some(log) => is_new || is_ours(&transaction, log).await?,
            None => false,
        };
        let has_row_security = catalog::has_row_security(&transaction, collection).await?;
        let statements = |layout: &_| PostgresStatements::of(layout, has_row_security);
        match check(collection, table, is_ours, statements) {
            Ok(table) => mismatches.extend(tables.insert(Arc::new(table)).err()),
            Err(found) => mismatches.extend(found),
        }
        if let Some(log) = log {
            add_rows(&transaction, &log, is_ours).await?;
        }
    }
    if !mismatches.is_empty() {
        return Err(StoreError::Schema(mismatches).into());
    }
    capture::set_up(&*transaction, &tables).await?;
    transaction.commit().await?;
    Ok(tables)
}

/// Whether fieldsync created the table of this log.
async fn is_ours(transaction: &Transaction<'_>, log: &str) -> Result<bool, Failure> {
    let sql = "select is_ours = 1 from fieldsync_tables where log = $1";
    let row = transaction.query_opt(sql, &[&log]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}

/// Adds the rows of a log to the side tables, unless they exist.
async fn add_rows(transaction: &Transaction<'_>, log: &str, is_ours: bool) -> Result<(), Failure> {
    let is_ours = i64::from(is_ours);
    let sql = "insert into fieldsync_tables (log, is_ours) values ($1::text, $2::bigint) on conflict (log) \
               do update set is_ours = excluded.is_ours where excluded.is_ours > fieldsync_tables.is_ours";
    transaction.execute(sql, &[&log, &is_ours]).await?;
    // `on conflict do nothing` would wait for a transaction that is moving the head.
    let sql = "insert into fieldsync_heads (log, epoch) select $1::text, $2::bigint \
               where not exists (select from fieldsync_heads where log = $1)";
    transaction.execute(sql, &[&log, &new_epoch()]).await?;
    Ok(())
}
