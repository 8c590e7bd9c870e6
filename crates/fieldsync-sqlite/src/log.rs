//! The change logs and the idempotency keys: reading, appending, trimming.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::{
    Advance, Backlog, Change, IdempotencyKey, LogBounds, Position, RecordKey, Remembered,
    ResetReason, Retention, Timestamp,
};
use fieldsync_sql::{
    Dialect as _, LogPage, MAX_TRIMMED, RecordHistory, Row as _, SqlValue, TrimScan, Trimmed,
};
use rusqlite::{Connection, TransactionBehavior};

use crate::connection::{KnownHeads, Open};
use crate::dialect::{Sqlite, Tables};
use crate::error::Failure;
use crate::query::{each, execute, first};

fn bounds(
    connection: &Connection,
    tables: &Tables,
    collection: &str,
) -> Result<LogBounds, Failure> {
    let collection_value = [SqlValue::text(collection)];
    let bounds = first(connection, &tables.log.bounds, &collection_value, |row| {
        fieldsync_sql::log_bounds(row)
    })?;
    Ok(bounds.ok_or_else(|| fieldsync_sql::missing_head(collection))?)
}

pub(crate) fn head(
    connection: &Connection,
    tables: &Tables,
    collection: &str,
) -> Result<Position, Failure> {
    Ok(bounds(connection, tables, collection)?.head)
}

/// The heads of all logs. If nothing was written since they were last read, that answer.
pub(crate) fn heads(
    open: &mut Open,
    tables: &Tables,
) -> Result<Vec<(Arc<str>, Position)>, Failure> {
    let transaction = open
        .connection
        .transaction_with_behavior(TransactionBehavior::Deferred)?;
    let version = transaction
        .prepare_cached("pragma data_version")?
        .query_row([], |row| row.get::<_, i64>(0))?;
    let count = tables.collections().len();
    if let Some(known) = &open.heads
        && known.version == version
        && known.heads.len() == count
    {
        return Ok(known.heads.clone());
    }
    let mut heads = Vec::with_capacity(count);
    each(&transaction, &tables.log.heads, &[], |row| {
        // The logs of collections that the app no longer has are skipped.
        if let SqlValue::Text(name) = row.value(0)?
            && let Some(name) = tables.collection(&name)
        {
            heads.push((Arc::clone(name), fieldsync_sql::head(row, 1)?));
        }
        Ok(true)
    })?;
    transaction.commit()?;
    open.heads = Some(KnownHeads {
        version,
        heads: heads.clone(),
    });
    Ok(heads)
}

/// Moves a log's head, or only reads it if no change is added.
pub(crate) fn advance(
    connection: &Connection,
    tables: &Tables,
    advance: &Advance,
) -> Result<Position, Failure> {
    if advance.count == 0 {
        return head(connection, tables, &advance.collection);
    }
    let parameters = [
        SqlValue::Integer(advance.count.cast_signed()),
        SqlValue::Integer(advance.last_tag.into()),
        SqlValue::text(&*advance.collection),
    ];
    let sql = &tables.log.advance;
    let head = first(connection, sql, &parameters, |row| {
        fieldsync_sql::head(row, 0)
    })?;
    Ok(head.ok_or_else(|| fieldsync_sql::missing_head(&advance.collection))?)
}

pub(crate) fn append(
    connection: &Connection,
    tables: &Tables,
    changes: &[Arc<Change>],
) -> Result<(), Failure> {
    for change in changes {
        let values = fieldsync_sql::change_values::<Sqlite>(change)?;
        execute(connection, &tables.log.append, &values)?;
    }
    Ok(())
}

/// The changes after a position, or why it is out of range, in one consistent read.
pub(crate) fn changes(
    connection: &mut Connection,
    tables: &Tables,
    collection: &Arc<str>,
    since: Position,
    limit: usize,
) -> Result<Backlog, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let bounds = bounds(&transaction, tables, collection)?;
    if let Some(reason) = locate(&transaction, tables, collection, &bounds, since)? {
        return Ok(Backlog::Lost(reason));
    }
    let mut page = LogPage::new(since, &bounds);
    let parameters = [
        SqlValue::text(&**collection),
        SqlValue::Integer(since.offset.cast_signed()),
        SqlValue::Integer(i64::try_from(limit.max(1)).unwrap_or(i64::MAX)),
    ];
    each(&transaction, &tables.log.changes, &parameters, |row| {
        page.push(fieldsync_sql::change::<Sqlite, _>(
            row,
            0,
            collection,
            since.epoch,
        )?);
        Ok(!page.is_full())
    })?;
    Ok(page.finish())
}

/// Why a position is out of range, if it is.
fn locate(
    connection: &Connection,
    tables: &Tables,
    collection: &str,
    bounds: &LogBounds,
    since: Position,
) -> Result<Option<ResetReason>, Failure> {
    bounds.locate(since, || {
        let parameters = [
            SqlValue::text(collection),
            SqlValue::Integer(since.offset.cast_signed()),
        ];
        let tag = first(connection, &tables.log.tag_at, &parameters, |row| {
            fieldsync_sql::tag(row, 0)
        })?;
        Ok(tag.flatten())
    })
}

/// The changes of one record after a position, or why they cannot be read.
pub(crate) fn changes_of(
    connection: &Connection,
    tables: &Tables,
    key: &RecordKey,
    since: Position,
) -> Result<Backlog, Failure> {
    let collection = &key.collection;
    let bounds = bounds(connection, tables, collection)?;
    if let Some(reason) = locate(connection, tables, collection, &bounds, since)? {
        return Ok(Backlog::Lost(reason));
    }
    let mut history = RecordHistory::new(since, &bounds);
    if history.is_full() {
        return Ok(history.finish());
    }
    let parameters = [
        SqlValue::text(&**collection),
        SqlValue::Integer(since.offset.cast_signed()),
        Sqlite::encode_id(key.id),
    ];
    let sql = &tables.log.record_changes;
    each(connection, sql, &parameters, |row| {
        history.push(fieldsync_sql::change::<Sqlite, _>(
            row,
            0,
            collection,
            since.epoch,
        )?);
        Ok(!history.is_full())
    })?;
    Ok(history.finish())
}

/// Looks up the idempotency keys that were used in the last 24 hours.
pub(crate) fn find_keys(
    connection: &Connection,
    tables: &Tables,
    keys: impl IntoIterator<Item = IdempotencyKey>,
) -> Result<HashMap<IdempotencyKey, Remembered>, Failure> {
    let mut found = HashMap::new();
    for key in keys {
        let parameters = [
            SqlValue::text(&key.principal),
            SqlValue::text(&key.key),
            SqlValue::Integer(fieldsync_sql::oldest_idempotency_key()),
        ];
        let record = first(connection, &tables.log.find_key, &parameters, |row| {
            fieldsync_sql::idempotency_record::<Sqlite, _>(row)
        })?;
        if let Some(record) = record {
            found.insert(key, record);
        }
    }
    Ok(found)
}

pub(crate) fn remember(
    connection: &Connection,
    tables: &Tables,
    records: &[Remembered],
) -> Result<(), Failure> {
    let now = Timestamp::now();
    for record in records {
        let values = fieldsync_sql::idempotency_values::<Sqlite>(record, now)?;
        execute(connection, &tables.log.remember, &values)?;
    }
    Ok(())
}

/// Deletes what is beyond the retention, at most [`MAX_TRIMMED`] changes and as many keys. `true` if more remains.
pub(crate) fn trim(
    connection: &mut Connection,
    tables: &Tables,
    retention: Retention,
) -> Result<bool, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut left, mut more) = (MAX_TRIMMED, false);
    for collection in tables.collections() {
        let trimmed = trim_log(&transaction, tables, collection, retention, left)?;
        left -= trimmed.count;
        more |= trimmed.more;
    }
    let parameters = [
        SqlValue::Integer(fieldsync_sql::oldest_idempotency_key()),
        SqlValue::Integer(MAX_TRIMMED as i64),
    ];
    let keys = execute(&transaction, &tables.log.forget, &parameters)?;
    transaction.commit()?;
    Ok(more || keys == MAX_TRIMMED)
}

fn trim_log(
    connection: &Connection,
    tables: &Tables,
    collection: &str,
    retention: Retention,
    limit: usize,
) -> Result<Trimmed, Failure> {
    let bounds = bounds(connection, tables, collection)?;
    let mut scan = TrimScan::new(retention, bounds.head.offset, limit);
    let parameters = [
        SqlValue::text(collection),
        SqlValue::Integer(bounds.trimmed.offset.cast_signed()),
        SqlValue::Integer(limit as i64 + 1),
    ];
    let sql = &tables.log.trim_candidates;
    each(connection, sql, &parameters, |row| scan.push(row))?;
    let trimmed = scan.finish();
    if let Some((offset, tag)) = trimmed.last {
        let name = || SqlValue::text(collection);
        let (offset, tag) = (SqlValue::Integer(offset), SqlValue::Integer(tag));
        execute(connection, &tables.log.trim, &[name(), offset.clone()])?;
        execute(connection, &tables.log.mark_trimmed, &[offset, tag, name()])?;
    }
    Ok(trimmed)
}
