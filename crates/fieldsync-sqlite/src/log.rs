//! The change logs: appending, reading, forgetting.

use std::sync::Arc;
use std::time::Duration;

use fieldsync::{
    Action, Advance, BASE_REACH, Backlog, Change, Position, RecordKey, ResetReason, Retention,
    StoreError, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::columns::Form;
use crate::connection::{KnownHeads, Open};
use crate::error::Failure;
use crate::keys;
use crate::rows::{id_from_sql, id_to_sql};
use crate::table::Tables;

/// The most changes, and the most idempotency keys, that one transaction forgets.
pub(crate) const TRIM_STEP: usize = 1000;

/// A page of changes ends when it has so many bytes of JSON.
const PAGE_BYTES: usize = 1024 * 1024;

/// One collection's ends: the head, and the last change that was forgotten.
struct Ends {
    head: Position,
    trimmed: Position,
}

fn ends(connection: &Connection, collection: &str) -> Result<Ends, Failure> {
    let sql = "select epoch, last, last_tag, trimmed, trimmed_tag from fieldsync_heads where collection = ?1";
    let read = |row: &Row<'_>| {
        let head = position(row.get(0)?, row.get(1)?, row.get(2)?);
        let trimmed = position(row.get(0)?, row.get(3)?, row.get(4)?);
        Ok(Ends { head, trimmed })
    };
    let ends = connection
        .prepare_cached(sql)?
        .query_row([collection], read)
        .optional()?;
    Ok(ends.ok_or_else(|| no_log(collection))?)
}

fn no_log(collection: &str) -> StoreError {
    StoreError::Backend(
        format!("collection {collection} has no row in fieldsync_heads; restart to make it").into(),
    )
}

/// SQLite's integers are signed: an epoch has the same bits, an offset never gets that far.
pub(crate) fn position(epoch: i64, offset: i64, tag: i64) -> Position {
    Position {
        epoch: epoch.cast_unsigned(),
        offset: offset.cast_unsigned(),
        tag: tag as u32,
    }
}

pub(crate) fn head(connection: &Connection, collection: &str) -> Result<Position, Failure> {
    Ok(ends(connection, collection)?.head)
}

/// The ends of all logs. Where nothing was written since the last look, that look's answer.
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
    if let Some(known) = &open.heads
        && known.version == version
        && known.heads.len() == tables.0.len()
    {
        return Ok(known.heads.clone());
    }
    let mut heads = Vec::with_capacity(tables.0.len());
    {
        let sql =
            "select collection, epoch, last, last_tag from fieldsync_heads order by collection";
        let mut statement = transaction.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // The logs of collections that the app no longer has are left alone.
            if let Some((name, _)) = tables
                .0
                .get_key_value(row.get_ref(0)?.as_str().unwrap_or_default())
            {
                heads.push((
                    Arc::clone(name),
                    position(row.get(1)?, row.get(2)?, row.get(3)?),
                ));
            }
        }
    }
    transaction.commit()?;
    open.heads = Some(KnownHeads {
        version,
        heads: heads.clone(),
    });
    Ok(heads)
}

/// Moves a log's end, or just reads it where nothing is added.
pub(crate) fn advance(connection: &Connection, advance: &Advance) -> Result<Position, Failure> {
    if advance.count == 0 {
        return head(connection, &advance.collection);
    }
    let sql = "update fieldsync_heads set last = last + ?2, last_tag = ?3 where collection = ?1 \
               returning epoch, last, last_tag";
    let count = advance.count.cast_signed();
    let head = connection
        .prepare_cached(sql)?
        .query_row(
            params![advance.collection, count, advance.last_tag],
            |row| Ok(position(row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    Ok(head.ok_or_else(|| no_log(&advance.collection))?)
}

pub(crate) fn append(connection: &Connection, changes: &[Arc<Change>]) -> Result<(), Failure> {
    let sql = "insert into fieldsync_changes \
               (collection, \"offset\", tag, id, action, after, former, at, who, idempotency_key) \
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let mut statement = connection.prepare_cached(sql)?;
    for change in changes {
        statement.execute(params![
            change.key.collection,
            change.position.offset.cast_signed(),
            change.position.tag,
            id_to_sql(change.key.id, Form::Text),
            name_of(change.action),
            serde_json::to_string(&change.after)?,
            serde_json::to_string(&change.former)?,
            change.at.as_micros(),
            change.who,
            change.idempotency_key,
        ])?;
    }
    Ok(())
}

fn name_of(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
    }
}

/// The next changes after a place, or why it is not in the log, in one consistent read.
pub(crate) fn changes(
    connection: &mut Connection,
    collection: &Arc<str>,
    since: Position,
    limit: usize,
) -> Result<Backlog, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    if let Some(reason) = lost(&transaction, collection, since)? {
        return Ok(Backlog::Lost(reason));
    }
    let head = head(&transaction, collection)?;
    let sql = "select \"offset\", tag, id, action, after, former, at, who, idempotency_key from fieldsync_changes \
               where collection = ?1 and \"offset\" > ?2 order by \"offset\" limit ?3";
    let mut statement = transaction.prepare_cached(sql)?;
    let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![collection, since.offset.cast_signed(), limit])?;
    let (mut changes, mut bytes, mut last) = (Vec::new(), 0, since.offset);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let (change, size) = change(row, collection, since.epoch)?;
        last += 1;
        if change.position.offset != last {
            // Somebody deleted rows of the log.
            return Ok(Backlog::Lost(ResetReason::Restored));
        }
        bytes += size;
        changes.push(change);
    }
    if changes.is_empty() && last < head.offset {
        return Ok(Backlog::Lost(ResetReason::Restored));
    }
    Ok(Backlog::Changes {
        changes,
        more: last < head.offset,
    })
}

/// Why a place is not in the log, if it is not.
fn lost(
    connection: &Connection,
    collection: &str,
    since: Position,
) -> Result<Option<ResetReason>, Failure> {
    let Ends { head, trimmed } = ends(connection, collection)?;
    if since.epoch != head.epoch {
        return Ok(Some(ResetReason::Epoch));
    }
    if since.offset > head.offset {
        return Ok(Some(ResetReason::Restored));
    }
    if since.offset < trimmed.offset {
        return Ok(Some(ResetReason::Trimmed));
    }
    let tag = if since.offset == head.offset {
        Some(head.tag)
    } else if since.offset == trimmed.offset {
        Some(trimmed.tag)
    } else {
        let sql = "select tag from fieldsync_changes where collection = ?1 and \"offset\" = ?2";
        let mut statement = connection.prepare_cached(sql)?;
        statement
            .query_row(params![collection, since.offset.cast_signed()], |row| {
                row.get::<_, u32>(0)
            })
            .optional()?
    };
    if tag != Some(since.tag) {
        return Ok(Some(ResetReason::Restored));
    }
    Ok(None)
}

/// The changes of one record after a place, or why they can't be told.
pub(crate) fn changes_of(
    connection: &Connection,
    key: &RecordKey,
    since: Position,
) -> Result<Backlog, Failure> {
    if let Some(reason) = lost(connection, &key.collection, since)? {
        return Ok(Backlog::Lost(reason));
    }
    if head(connection, &key.collection)?.offset - since.offset > BASE_REACH {
        return Ok(Backlog::Lost(ResetReason::Trimmed));
    }
    let sql = "select \"offset\", tag, id, action, after, former, at, who, idempotency_key from fieldsync_changes \
               where collection = ?1 and \"offset\" > ?2 and id = ?3 order by \"offset\"";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        key.collection,
        since.offset.cast_signed(),
        id_to_sql(key.id, Form::Text)
    ])?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (change, size) = change(row, &key.collection, since.epoch)?;
        bytes += size;
        if bytes >= PAGE_BYTES {
            return Ok(Backlog::Lost(ResetReason::Trimmed));
        }
        changes.push(change);
    }
    Ok(Backlog::Changes {
        changes,
        more: false,
    })
}

/// One row of the log, and how many bytes of JSON it has.
fn change(row: &Row<'_>, collection: &Arc<str>, epoch: u64) -> Result<(Change, usize), Failure> {
    let unreadable = |column: &str| {
        StoreError::Backend(
            format!("table fieldsync_changes, column {column}: not as fieldsync wrote it").into(),
        )
    };
    let action = match row.get_ref(3)?.as_str() {
        Ok("create") => Action::Create,
        Ok("update") => Action::Update,
        Ok("delete") => Action::Delete,
        _ => return Err(unreadable("action").into()),
    };
    let json = |at| {
        row.get_ref(at)?
            .as_str()
            .map_err(|_| Failure::from(unreadable("after")))
    };
    let (after, former) = (json(4)?, json(5)?);
    let change = Change {
        position: position(epoch.cast_signed(), row.get(0)?, row.get(1)?),
        key: RecordKey {
            collection: Arc::clone(collection),
            id: id_from_sql(row.get_ref(2)?).ok_or_else(|| unreadable("id"))?,
        },
        action,
        after: serde_json::from_str(after)?,
        former: serde_json::from_str(former)?,
        at: Timestamp::from_micros(row.get(6)?).ok_or_else(|| unreadable("at"))?,
        who: row.get(7)?,
        idempotency_key: row.get(8)?,
    };
    Ok((change, after.len() + former.len()))
}

/// Forgets what is beyond the retention, at most [`TRIM_STEP`] changes and as many keys; true when more is.
pub(crate) fn trim(
    connection: &mut Connection,
    tables: &Tables,
    retention: Retention,
) -> Result<bool, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut left, mut more) = (TRIM_STEP, false);
    for collection in tables.0.keys() {
        let (forgotten, is_more) = trim_log(&transaction, collection, retention, left)?;
        left -= forgotten;
        more |= is_more;
    }
    let keys = keys::forget(&transaction, TRIM_STEP)?;
    transaction.commit()?;
    Ok(more || keys == TRIM_STEP)
}

fn trim_log(
    connection: &Connection,
    collection: &Arc<str>,
    retention: Retention,
    most: usize,
) -> Result<(usize, bool), Failure> {
    let Ends { head, trimmed } = ends(connection, collection)?;
    let beyond_count = head.offset.saturating_sub(retention.count);
    let oldest = ago(retention.age);
    let sql = "select \"offset\", tag, at from fieldsync_changes \
               where collection = ?1 and \"offset\" > ?2 order by \"offset\" limit ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        collection,
        trimmed.offset.cast_signed(),
        most as i64 + 1
    ])?;
    let (mut last, mut forgotten, mut more) = (None, 0, false);
    while let Some(row) = rows.next()? {
        let place = position(head.epoch.cast_signed(), row.get(0)?, row.get(1)?);
        if place.offset > beyond_count && row.get::<_, i64>(2)? > oldest {
            break;
        }
        if forgotten == most {
            more = true;
            break;
        }
        forgotten += 1;
        last = Some(place);
    }
    if let Some(place) = last {
        let offset = place.offset.cast_signed();
        let sql = "delete from fieldsync_changes where collection = ?1 and \"offset\" <= ?2";
        connection
            .prepare_cached(sql)?
            .execute(params![collection, offset])?;
        let sql = "update fieldsync_heads set trimmed = ?2, trimmed_tag = ?3 where collection = ?1";
        connection
            .prepare_cached(sql)?
            .execute(params![collection, offset, place.tag])?;
    }
    Ok((forgotten, more))
}

/// The time that long ago, in microseconds since 1970.
pub(crate) fn ago(age: Duration) -> i64 {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().as_micros().saturating_sub(micros)
}
