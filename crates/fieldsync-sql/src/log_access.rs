//! Reads, extends and trims the change logs and the idempotency keys, one statement after the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fieldsync::backend::{
    Change, ChangesSince, HeadUpdate, IdempotencyKey, IdempotencyRecord, LogBounds, PageLimit,
    Position, Settled, StoreError,
};
use fieldsync::{RecordKey, ResetReason, Retention, Timestamp};

use crate::dialect::Dialect;
use crate::idempotency::{idempotency_record, idempotency_values, oldest_idempotency_key};
use crate::log::{
    LogPage, RecordHistory, change, change_values, head, log_bounds, missing_head, tag,
};
use crate::log_sizes::MAX_MEASURED;
use crate::tables::Tables;
use crate::transaction::{Transaction, first};
use crate::trim::{MAX_TRIMMED, TrimScan, Trimmed};
use crate::value::{Row, SqlValue};

async fn read_bounds<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    sql: &str,
    collection: &str,
) -> Result<LogBounds, T::Error> {
    let parameters = [SqlValue::text(&**tables.log_of(collection)?)];
    let bounds = first(transaction, sql, &parameters, |row| log_bounds(row)).await?;
    Ok(bounds.ok_or_else(|| missing_head(collection))?)
}

/// Reads the head of a log.
///
/// # Errors
/// The driver's.
pub async fn read_head<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    collection: &str,
) -> Result<Position, T::Error> {
    let bounds = read_bounds(transaction, tables, &tables.log.bounds, collection).await?;
    Ok(bounds.head)
}

/// Reads the heads of the app's logs.
///
/// # Errors
/// The driver's.
pub async fn read_heads<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
) -> Result<Vec<(Arc<str>, Position)>, T::Error> {
    let mut heads = Vec::with_capacity(tables.collections().len());
    let mut read = |row: &dyn Row| {
        if let SqlValue::Text(name) = row.value(0).map_err(StoreError::Backend)?
            && let Some(name) = tables.collection_of(&name)
        {
            heads.push((Arc::clone(name), head(row, 1)?));
        }
        Ok(true)
    };
    transaction.query(&tables.log.heads, &[], &mut read).await?;
    Ok(heads)
}

/// Reads the changes after a position, or why it is out of range. The transaction must see one state of the database.
///
/// # Errors
/// The driver's.
pub async fn read_changes<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    collection: &Arc<str>,
    since: Position,
    limit: PageLimit,
) -> Result<ChangesSince, T::Error> {
    let bounds = match in_range(transaction, tables, collection, since).await? {
        Ok(bounds) => bounds,
        Err(reason) => return Ok(ChangesSince::OutOfRange(reason)),
    };
    let table = tables.of(collection)?;
    let mut page = LogPage::new(since, &bounds, limit);
    let parameters = [
        SqlValue::text(&**tables.log_of(collection)?),
        SqlValue::Integer(since.offset.cast_signed()),
        SqlValue::Integer(i64::try_from(limit.rows.max(1)).unwrap_or(i64::MAX)),
    ];
    let mut read = |row: &dyn Row| {
        page.push(change(row, 0, table, since.epoch)?);
        Ok(!page.is_full())
    };
    transaction
        .query(&tables.log.changes, &parameters, &mut read)
        .await?;
    Ok(page.finish())
}

/// The ends of the log if the position is in range, or why it is not.
async fn in_range<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    collection: &str,
    since: Position,
) -> Result<Result<LogBounds, ResetReason>, T::Error> {
    let bounds = read_bounds(transaction, tables, &tables.log.bounds, collection).await?;
    let locate = |tag| bounds.locate(since, || Ok::<_, T::Error>(tag));
    // Without a tag, only a position at an end of the log is in range. Most are.
    if locate(None)?.is_none() {
        return Ok(Ok(bounds));
    }
    let parameters = [
        SqlValue::text(&**tables.log_of(collection)?),
        SqlValue::Integer(since.offset.cast_signed()),
    ];
    let sql = &tables.log.tag_at;
    let tag = first(transaction, sql, &parameters, |row| tag(row, 0)).await?;
    Ok(locate(tag.flatten())?.map_or(Ok(bounds), Err))
}

/// Reads the changes of one record after a position, or why they cannot be read. The transaction must see one state of the database.
///
/// # Errors
/// The driver's.
pub async fn read_changes_of<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    key: &RecordKey,
    since: Position,
) -> Result<ChangesSince, T::Error> {
    let collection = &key.collection;
    let table = tables.of(collection)?;
    let bounds = match in_range(transaction, tables, collection, since).await? {
        Ok(bounds) => bounds,
        Err(reason) => return Ok(ChangesSince::OutOfRange(reason)),
    };
    let mut history = RecordHistory::new(since, &bounds);
    if history.is_full() {
        return Ok(history.finish());
    }
    let parameters = [
        SqlValue::text(&**tables.log_of(collection)?),
        SqlValue::Integer(since.offset.cast_signed()),
        T::Dialect::encode_id(&key.id),
    ];
    let mut read = |row: &dyn Row| {
        history.push(change(row, 0, table, since.epoch)?);
        Ok(!history.is_full())
    };
    transaction
        .query(&tables.log.record_changes, &parameters, &mut read)
        .await?;
    Ok(history.finish())
}

/// The heads that the changes of a transaction move, in the order in which every node locks them.
///
/// # Errors
/// If a collection was not prepared.
pub fn head_updates<D: Dialect>(
    settled: &Settled,
    tables: &Tables<D>,
) -> Result<Vec<HeadUpdate>, StoreError> {
    let mut updates = settled.head_updates();
    for update in &updates {
        tables.of(&update.collection)?;
    }
    // Another app may have other names for the collections.
    updates.sort_by_key(|update| tables.log_of(&update.collection).ok());
    Ok(updates)
}

/// Reads the change with an offset, if the log contains it.
pub(crate) async fn read_change_at<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    collection: &Arc<str>,
    offset: u64,
) -> Result<Option<Change>, T::Error> {
    let table = tables.of(collection)?;
    let epoch = read_head(transaction, tables, collection).await?.epoch;
    let parameters = [
        SqlValue::text(&**tables.log_of(collection)?),
        SqlValue::Integer(offset.cast_signed()),
    ];
    let read = |row: &dyn Row| change(row, 0, table, epoch);
    let found = first(transaction, &tables.log.change_at, &parameters, read).await?;
    Ok(found.map(|(change, _)| change))
}

/// Moves a head, or only reads it if no change is added.
pub(crate) async fn advance<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    advance: &HeadUpdate,
) -> Result<Position, T::Error> {
    let collection = &advance.collection;
    if advance.count == 0 {
        return read_head(transaction, tables, collection).await;
    }
    let parameters = [
        SqlValue::Integer(advance.count.cast_signed()),
        SqlValue::Integer(advance.last_tag.into()),
        SqlValue::text(&**tables.log_of(collection)?),
    ];
    let sql = &tables.log.advance;
    if T::Dialect::LAST_INSERT_ID.is_some() {
        transaction.execute(sql, &parameters).await?;
        return read_head(transaction, tables, collection).await;
    }
    let head = first(transaction, sql, &parameters, |row| head(row, 0)).await?;
    Ok(head.ok_or_else(|| missing_head(collection))?)
}

pub(crate) async fn append<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    changes: &[Arc<Change>],
) -> Result<(), T::Error> {
    for change in changes {
        let values = change_values::<T::Dialect>(change, tables.log_of(&change.key.collection)?);
        transaction.execute(&tables.log.append, &values).await?;
    }
    Ok(())
}

/// Finds the idempotency keys that were used in the last 24 hours.
pub(crate) async fn find_keys<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    keys: &BTreeSet<IdempotencyKey>,
) -> Result<HashMap<IdempotencyKey, IdempotencyRecord>, T::Error> {
    let mut found = HashMap::new();
    for key in keys {
        let parameters = [
            SqlValue::text(&key.principal),
            SqlValue::text(&key.key),
            SqlValue::Integer(oldest_idempotency_key()),
        ];
        let read = |row: &dyn Row| idempotency_record(row, |log| tables.with_log(log));
        let record = first(transaction, &tables.log.find_key, &parameters, read).await?;
        found.extend(record.map(|record| (key.clone(), record)));
    }
    Ok(found)
}

pub(crate) async fn remember<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    records: &[IdempotencyRecord],
) -> Result<(), T::Error> {
    let now = Timestamp::now();
    for record in records {
        let log = tables.log_of(&record.collection)?;
        let values = idempotency_values::<T::Dialect>(record, log, now);
        transaction.execute(&tables.log.remember, &values).await?;
    }
    Ok(())
}

/// Deletes what is beyond the retention, at most [`MAX_TRIMMED`] changes and as many keys. `true` if more remains.
///
/// # Errors
/// The driver's.
pub async fn trim<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    retention: Retention,
) -> Result<bool, T::Error> {
    let (mut left, mut more) = (MAX_TRIMMED, false);
    // Every node locks the heads in the same order.
    let mut collections: Vec<_> = tables.collections().collect();
    collections.sort_unstable_by_key(|collection| tables.log_of(collection).ok());
    for collection in collections {
        let trimmed = trim_log(transaction, tables, collection, retention, left).await?;
        left -= trimmed.count;
        more |= trimmed.more;
    }
    let parameters = [
        SqlValue::Integer(oldest_idempotency_key()),
        SqlValue::Integer(MAX_TRIMMED as i64),
    ];
    let sql = &tables.log.forget;
    let keys = transaction.execute(sql, &parameters).await?;
    Ok(more || keys == MAX_TRIMMED)
}

/// The lock of the head keeps other nodes from trimming the same log, and holds the deleted rows and the mark together.
async fn trim_log<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    collection: &str,
    retention: Retention,
    limit: usize,
) -> Result<Trimmed, T::Error> {
    let bounds = read_bounds(transaction, tables, &tables.log.lock_bounds, collection).await?;
    let log = tables.log_of(collection)?;
    let name = || SqlValue::text(&**log);
    let is_behind = measure(transaction, tables, log, &bounds).await?;
    let beyond = tables.sizes.beyond(log, retention.bytes);
    let mut scan = TrimScan::new(retention, bounds.head.offset, beyond, limit);
    let trimmed = SqlValue::Integer(bounds.trimmed.offset.cast_signed());
    let parameters = [name(), trimmed, SqlValue::Integer(limit as i64 + 1)];
    transaction
        .query(&tables.log.trim_candidates, &parameters, &mut |row| {
            scan.push(row)
        })
        .await?;
    let mut trimmed = scan.finish();
    trimmed.more |= is_behind;
    if let Some((offset, tag)) = trimmed.last {
        let (offset, tag) = (SqlValue::Integer(offset), SqlValue::Integer(tag));
        let parameters = [name(), offset.clone()];
        transaction.execute(&tables.log.trim, &parameters).await?;
        let parameters = [offset, tag, name()];
        transaction
            .execute(&tables.log.mark_trimmed, &parameters)
            .await?;
    }
    Ok(trimmed)
}

/// Reads the sizes of changes that are not known yet. Whether there are more.
async fn measure<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    log: &Arc<str>,
    bounds: &LogBounds,
) -> Result<bool, T::Error> {
    let [trimmed, head] = [bounds.trimmed, bounds.head].map(|end| end.offset.cast_signed());
    let epoch = bounds.head.epoch.cast_signed();
    let known = tables.sizes.known_up_to(log, epoch, trimmed, head);
    if known == head {
        return Ok(false);
    }
    let parameters = [
        SqlValue::text(&**log),
        SqlValue::Integer(known),
        SqlValue::Integer(MAX_MEASURED as i64),
    ];
    let mut read = 0;
    let mut add = |row: &dyn Row| {
        read += 1;
        tables.sizes.add(log, row)?;
        Ok(true)
    };
    transaction
        .query(&tables.log.sizes, &parameters, &mut add)
        .await?;
    Ok(read == MAX_MEASURED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dialect::{Recorder, TestDialect};

    fn is_send<T: Send>(future: T) -> T {
        future
    }

    #[tokio::test]
    async fn a_driver_whose_futures_wait_can_be_spawned() {
        let mut tables = Tables::<TestDialect>::default();
        let notes = crate::check::tests::notes_table(&[]);
        tables.insert(Arc::new(notes)).unwrap();
        let mut recorder = Recorder::default();
        let collection = "notes".into();
        let since = crate::log::position(1, 0, 0);
        let limit = PageLimit {
            rows: 10,
            bytes: 1000,
        };
        let reading = is_send(read_changes(
            &mut recorder,
            &tables,
            &collection,
            since,
            limit,
        ));
        let error = reading.await.unwrap_err();
        assert!(matches!(error, fieldsync::backend::StoreError::Backend(_)));
        assert_eq!(recorder.0, [tables.log.bounds.as_str()]);
        let no_tables = Tables::<TestDialect>::default();
        let more = is_send(trim(&mut recorder, &no_tables, Retention::default())).await;
        assert!(!more.unwrap());
        assert_eq!(recorder.0[1], tables.log.forget);
    }
}
