//! The idempotency keys: what was done under them in the last 24 hours.

use std::collections::HashMap;

use fieldsync::{Fields, IDEMPOTENCY_KEY_AGE, IdempotencyKey, Remembered, StoreError, Timestamp};
use rusqlite::{Connection, params};

use crate::columns::Form;
use crate::error::Failure;
use crate::log::{ago, position};
use crate::rows::{id_from_sql, id_to_sql};

/// Looks up those of the keys that were used in the last 24 hours.
pub(crate) fn find(
    connection: &Connection,
    keys: impl IntoIterator<Item = IdempotencyKey>,
) -> Result<HashMap<IdempotencyKey, Remembered>, Failure> {
    let sql = "select fingerprint, collection, id, epoch, \"offset\", tag, record from fieldsync_keys \
               where principal = ?1 and key = ?2 and at > ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let oldest = ago(IDEMPOTENCY_KEY_AGE);
    let mut found = HashMap::new();
    for key in keys {
        let mut rows = statement.query(params![key.principal, key.key, oldest])?;
        let Some(row) = rows.next()? else { continue };
        let no_id = || {
            StoreError::Backend("table fieldsync_keys, column id: not as fieldsync wrote it".into())
        };
        let record: Option<String> = row.get(6)?;
        let remembered = Remembered {
            key: key.clone(),
            fingerprint: row.get(0)?,
            collection: row.get(1)?,
            id: id_from_sql(row.get_ref(2)?).ok_or_else(no_id)?,
            position: position(row.get(3)?, row.get(4)?, row.get(5)?),
            record: record
                .map(|record| serde_json::from_str::<Fields>(&record))
                .transpose()?,
        };
        found.insert(key, remembered);
    }
    Ok(found)
}

pub(crate) fn remember(connection: &Connection, all: &[Remembered]) -> Result<(), Failure> {
    // A key that was used more than 24 hours ago gives way.
    let sql = "insert or replace into fieldsync_keys \
               (principal, key, fingerprint, collection, id, epoch, \"offset\", tag, record, at) \
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let mut statement = connection.prepare_cached(sql)?;
    let now = Timestamp::now().as_micros();
    for one in all {
        statement.execute(params![
            one.key.principal,
            one.key.key,
            one.fingerprint,
            one.collection,
            id_to_sql(one.id, Form::Text),
            one.position.epoch.cast_signed(),
            one.position.offset.cast_signed(),
            one.position.tag,
            one.record.as_ref().map(serde_json::to_string).transpose()?,
            now,
        ])?;
    }
    Ok(())
}

/// Forgets at most so many keys that are too old, and says how many it were.
pub(crate) fn forget(connection: &Connection, most: usize) -> Result<usize, Failure> {
    let sql = "delete from fieldsync_keys where (principal, key) in \
               (select principal, key from fieldsync_keys where at <= ?1 order by at limit ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.execute(params![ago(IDEMPOTENCY_KEY_AGE), most as i64])?)
}
