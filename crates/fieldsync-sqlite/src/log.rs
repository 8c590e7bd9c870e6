//! The change log, its heads, and what is remembered of idempotency keys.

use std::sync::Arc;

use fieldsync::{
    Action, Advance, Backlog, Change, Fields, IDEMPOTENCY_KEY_AGE, IdempotencyKey, Position,
    RecordKey, Remembered, ResetReason, Retention, StoreError, Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use crate::error::sort;
use crate::rows;

/// At most so many changes, and so many keys, are forgotten in one transaction.
pub(crate) const TRIM_STEP: usize = 1000;
/// A page of changes ends after so many bytes of JSON.
const PAGE_BYTES: usize = 1024 * 1024;

/// Makes the log of a collection if there is none.
pub(crate) fn begin(connection: &Connection, collection: &str) -> rusqlite::Result<()> {
    let sql =
        "insert into fieldsync_heads (collection, epoch, last, last_tag, trimmed, trimmed_tag)
               values (?, ?, 0, 0, 0, 0) on conflict do nothing";
    connection
        .execute(sql, params![collection, fastrand::i64(..)])
        .map(drop)
}

pub(crate) fn head(connection: &Connection, collection: &str) -> rusqlite::Result<Position> {
    let sql = "select epoch, last, last_tag from fieldsync_heads where collection = ?";
    connection
        .prepare_cached(sql)?
        .query_row([collection], |row| position(row, 0))
}

pub(crate) fn heads(connection: &Connection) -> rusqlite::Result<Vec<(Arc<str>, Position)>> {
    let sql = "select collection, epoch, last, last_tag from fieldsync_heads";
    let mut statement = connection.prepare_cached(sql)?;
    let heads = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?.into(), position(row, 1)?))
    })?;
    heads.collect()
}

/// Moves the end of a log on.
pub(crate) fn advance(connection: &Connection, advance: &Advance) -> rusqlite::Result<Position> {
    if advance.count == 0 {
        return head(connection, &advance.collection);
    }
    let sql = "update fieldsync_heads set last = last + ?, last_tag = ? where collection = ?
               returning epoch, last, last_tag";
    let values = params![advance.count as i64, advance.last_tag, &*advance.collection];
    connection
        .prepare_cached(sql)?
        .query_row(values, |row| position(row, 0))
}

pub(crate) fn append(connection: &Connection, changes: &[Arc<Change>]) -> rusqlite::Result<()> {
    let sql = "insert into fieldsync_changes
                   (collection, offset, tag, id, action, after, former, at, who, idempotency_key)
               values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let mut statement = connection.prepare_cached(sql)?;
    for change in changes {
        statement.execute(params![
            &*change.key.collection,
            change.position.offset as i64,
            change.position.tag,
            rows::key(change.key.id),
            action_text(change.action),
            json(&change.after),
            json(&change.former),
            change.at.as_micros(),
            change.who,
            change.idempotency_key,
        ])?;
    }
    Ok(())
}

pub(crate) fn changes(
    connection: &Connection,
    collection: &Arc<str>,
    since: Position,
    limit: usize,
) -> Result<Backlog, StoreError> {
    if let Some(reason) = lost(connection, collection, since).map_err(sort)? {
        return Ok(Backlog::Lost(reason));
    }
    let sql = "select offset, tag, id, action, after, former, at, who, idempotency_key
               from fieldsync_changes where collection = ? and offset > ? order by offset";
    let mut statement = connection.prepare_cached(sql).map_err(sort)?;
    let mut found = statement
        .query(params![&**collection, since.offset as i64])
        .map_err(sort)?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(sort)? {
        if changes.len() >= limit.max(1) || bytes >= PAGE_BYTES {
            return Ok(Backlog::Changes {
                changes,
                more: true,
            });
        }
        let (change, size) = change(row, collection, since.epoch)?;
        bytes += size;
        changes.push(change);
    }
    Ok(Backlog::Changes {
        changes,
        more: false,
    })
}

/// Why a place is not in the log, if it is not.
fn lost(
    connection: &Connection,
    collection: &str,
    since: Position,
) -> rusqlite::Result<Option<ResetReason>> {
    let sql = "select epoch, last, last_tag, trimmed, trimmed_tag from fieldsync_heads where collection = ?";
    let mut statement = connection.prepare_cached(sql)?;
    let head = |row: &Row<'_>| {
        Ok((
            position(row, 0)?,
            row.get::<_, i64>(3)? as u64,
            row.get::<_, u32>(4)?,
        ))
    };
    let (last, trimmed, trimmed_tag) = statement.query_row([collection], head)?;
    if since.epoch != last.epoch {
        return Ok(Some(ResetReason::Epoch));
    }
    if since.offset > last.offset {
        return Ok(Some(ResetReason::Restored));
    }
    if since.offset < trimmed {
        return Ok(Some(ResetReason::Trimmed));
    }
    let tag = if since.offset == last.offset {
        Some(last.tag)
    } else if since.offset == trimmed {
        Some(trimmed_tag)
    } else {
        let sql = "select tag from fieldsync_changes where collection = ? and offset = ?";
        let mut statement = connection.prepare_cached(sql)?;
        statement
            .query_row(params![collection, since.offset as i64], |row| row.get(0))
            .optional()?
    };
    Ok((tag != Some(since.tag)).then_some(ResetReason::Restored))
}

/// A change, and how many bytes of JSON it was.
fn change(row: &Row<'_>, collection: &Arc<str>, epoch: u64) -> Result<(Change, usize), StoreError> {
    let (after, former): (String, String) = (row.get(4).map_err(sort)?, row.get(5).map_err(sort)?);
    let size = after.len() + former.len();
    let offset = row.get::<_, i64>(0).map_err(sort)? as u64;
    let corrupt = |what: &str| {
        StoreError::Backend(format!("change {offset} of {collection} has no valid {what}").into())
    };
    let action = match row.get_ref(3).map_err(sort)?.as_str() {
        Ok("create") => Action::Create,
        Ok("update") => Action::Update,
        Ok("delete") => Action::Delete,
        _ => return Err(corrupt("action")),
    };
    let change = Change {
        position: Position {
            epoch,
            offset,
            tag: row.get(1).map_err(sort)?,
        },
        key: RecordKey {
            collection: Arc::clone(collection),
            id: rows::read_id(row, 2).map_err(sort)?,
        },
        action,
        after: serde_json::from_str(&after).map_err(|_| corrupt("record"))?,
        former: serde_json::from_str(&former).map_err(|_| corrupt("former values"))?,
        at: Timestamp::from_micros(row.get(6).map_err(sort)?).ok_or_else(|| corrupt("time"))?,
        who: row.get(7).map_err(sort)?,
        idempotency_key: row.get(8).map_err(sort)?,
    };
    Ok((change, size))
}

/// What is remembered of a key that was used in the last 24 hours.
pub(crate) fn remembered(
    connection: &Connection,
    key: &IdempotencyKey,
) -> rusqlite::Result<Option<Remembered>> {
    let sql = "select fingerprint, collection, id, epoch, offset, tag, record
               from fieldsync_keys where principal = ? and key = ? and at > ?";
    let mut statement = connection.prepare_cached(sql)?;
    let remembered = |row: &Row<'_>| {
        Ok(Remembered {
            key: key.clone(),
            fingerprint: row.get(0)?,
            collection: row.get::<_, String>(1)?.into(),
            id: rows::read_id(row, 2)?,
            position: position(row, 3)?,
            record: row
                .get::<_, Option<String>>(6)?
                .and_then(|record| serde_json::from_str(&record).ok()),
        })
    };
    statement
        .query_row(
            params![key.principal, key.key, before_now(IDEMPOTENCY_KEY_AGE)],
            remembered,
        )
        .optional()
}

pub(crate) fn remember(connection: &Connection, remembered: &[Remembered]) -> rusqlite::Result<()> {
    let sql = "insert or replace into fieldsync_keys
                   (principal, key, fingerprint, collection, id, epoch, offset, tag, record, at)
               values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let mut statement = connection.prepare_cached(sql)?;
    let now = Timestamp::now().as_micros();
    for one in remembered {
        statement.execute(params![
            one.key.principal,
            one.key.key,
            one.fingerprint,
            &*one.collection,
            rows::key(one.id),
            one.position.epoch as i64,
            one.position.offset as i64,
            one.position.tag,
            one.record.as_ref().map(json),
            now,
        ])?;
    }
    Ok(())
}

/// Forgets a bounded number of changes and keys; true when there may be more.
pub(crate) fn trim(connection: &mut Connection, retention: Retention) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut left = TRIM_STEP;
    for (collection, head) in heads(&transaction)? {
        left -= trim_log(&transaction, &collection, head, retention, left)?;
    }
    let sql = "delete from fieldsync_keys where (principal, key) in
                   (select principal, key from fieldsync_keys where at <= ? limit ?)";
    let keys = transaction.execute(
        sql,
        params![before_now(IDEMPOTENCY_KEY_AGE), TRIM_STEP as i64],
    )?;
    transaction.commit()?;
    Ok(left == 0 || keys == TRIM_STEP)
}

/// Forgets the beginning of a log, at most `most` changes, and says how many.
fn trim_log(
    connection: &Connection,
    collection: &str,
    head: Position,
    retention: Retention,
    most: usize,
) -> rusqlite::Result<usize> {
    let (keep_after, old) = (
        head.offset.saturating_sub(retention.count),
        before_now(retention.age),
    );
    let sql = "select offset, tag, at from fieldsync_changes where collection = ? order by offset limit ?";
    let mut statement = connection.prepare_cached(sql)?;
    let first = statement.query_map(params![collection, most as i64], |row| {
        Ok((
            row.get::<_, i64>(0)? as u64,
            row.get::<_, u32>(1)?,
            row.get::<_, i64>(2)?,
        ))
    })?;
    let (mut count, mut trimmed) = (0, None);
    for change in first {
        let (offset, tag, at) = change?;
        if offset > keep_after && at > old {
            break;
        }
        trimmed = Some((offset, tag));
        count += 1;
    }
    if let Some((offset, tag)) = trimmed {
        let sql = "delete from fieldsync_changes where collection = ? and offset <= ?";
        connection.execute(sql, params![collection, offset as i64])?;
        let sql = "update fieldsync_heads set trimmed = ?, trimmed_tag = ? where collection = ?";
        connection.execute(sql, params![offset as i64, tag, collection])?;
    }
    Ok(count)
}

/// The time so long ago, in microseconds since 1970.
fn before_now(age: std::time::Duration) -> i64 {
    Timestamp::now()
        .as_micros()
        .saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

fn position(row: &Row<'_>, first: usize) -> rusqlite::Result<Position> {
    Ok(Position {
        epoch: row.get::<_, i64>(first)? as u64,
        offset: row.get::<_, i64>(first + 1)? as u64,
        tag: row.get(first + 2)?,
    })
}

fn action_text(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
    }
}

fn json(fields: &Fields) -> String {
    serde_json::to_string(fields).expect("JSON values can be written")
}
