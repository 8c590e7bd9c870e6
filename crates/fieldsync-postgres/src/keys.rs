//! The idempotency keys: what was done under them in the last 24 hours.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Object;
use fieldsync::{Fields, IDEMPOTENCY_KEY_AGE, IdempotencyKey, Remembered, StoreError, Timestamp};
use tokio_postgres::Row;

use crate::columns::{id_from_text, id_to_text};
use crate::error::Failure;
use crate::log::{ago, position};

/// Locks keys until the end of the transaction, in their order, so that of two nodes with the same key one waits.
pub(crate) const LOCK: &str =
    "select pg_advisory_xact_lock(hashtextextended(key, 1)) from unnest($1::text[]) key";

/// Finds those that were used.
pub(crate) const FIND: &str = "select k.principal, k.key, k.fingerprint, k.collection, k.id, k.epoch, k.\"offset\", k.tag, k.record \
     from fieldsync_keys k join unnest($1::text[], $2::text[]) as wanted (principal, key) \
     on k.principal = wanted.principal and k.key = wanted.key where k.at > $3";

/// What [`LOCK`] and [`FIND`] are asked with.
pub(crate) struct Wanted {
    pub(crate) locks: Vec<String>,
    pub(crate) principals: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) oldest: i64,
}

pub(crate) fn wanted(keys: &BTreeSet<IdempotencyKey>) -> Wanted {
    let locks = keys
        .iter()
        .map(|key| format!("{}\u{1f}{}", key.principal, key.key));
    Wanted {
        locks: locks.collect(),
        principals: keys.iter().map(|key| key.principal.clone()).collect(),
        keys: keys.iter().map(|key| key.key.clone()).collect(),
        oldest: ago(IDEMPOTENCY_KEY_AGE),
    }
}

pub(crate) fn found(rows: &[Row]) -> Result<HashMap<IdempotencyKey, Remembered>, Failure> {
    let mut found = HashMap::new();
    for row in rows {
        let key = IdempotencyKey {
            principal: row.try_get(0)?,
            key: row.try_get(1)?,
        };
        let no_id = || {
            StoreError::Backend("table fieldsync_keys, column id: not as fieldsync wrote it".into())
        };
        let record: Option<String> = row.try_get(8)?;
        let remembered = Remembered {
            key: key.clone(),
            fingerprint: row.try_get(2)?,
            collection: row.try_get::<_, String>(3)?.into(),
            id: id_from_text(row.try_get(4)?).ok_or_else(no_id)?,
            position: position(row.try_get(5)?, row.try_get(6)?, row.try_get(7)?),
            record: record
                .map(|record| serde_json::from_str::<Fields>(&record))
                .transpose()?,
        };
        found.insert(key, remembered);
    }
    Ok(found)
}

/// Remembers keys. One that was used more than 24 hours ago gives way.
pub(crate) const REMEMBER: &str = "insert into fieldsync_keys \
     (principal, key, fingerprint, collection, id, epoch, \"offset\", tag, record, at) \
     select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], \
                          $8::bigint[], $9::text[], $10::bigint[]) \
     on conflict (principal, key) do update set fingerprint = excluded.fingerprint, collection = excluded.collection, \
     id = excluded.id, epoch = excluded.epoch, \"offset\" = excluded.\"offset\", tag = excluded.tag, \
     record = excluded.record, at = excluded.at";

/// The columns of [`REMEMBER`].
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) principals: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) fingerprints: Vec<String>,
    pub(crate) collections: Vec<String>,
    pub(crate) ids: Vec<String>,
    pub(crate) epochs: Vec<i64>,
    pub(crate) offsets: Vec<i64>,
    pub(crate) tags: Vec<i64>,
    pub(crate) records: Vec<Option<String>>,
    pub(crate) at: Vec<i64>,
}

pub(crate) fn columns(all: &[Remembered]) -> Result<Columns, Failure> {
    let (mut columns, now) = (Columns::default(), Timestamp::now().as_micros());
    for one in all {
        columns.principals.push(one.key.principal.clone());
        columns.keys.push(one.key.key.clone());
        columns.fingerprints.push(one.fingerprint.clone());
        columns.collections.push(one.collection.to_string());
        columns.ids.push(id_to_text(one.id));
        columns.epochs.push(one.position.epoch.cast_signed());
        columns.offsets.push(one.position.offset.cast_signed());
        columns.tags.push(one.position.tag.into());
        let record = one.record.as_ref().map(serde_json::to_string);
        columns.records.push(record.transpose()?);
        columns.at.push(now);
    }
    Ok(columns)
}

/// Forgets at most so many keys that are too old, and says how many it were.
pub(crate) async fn forget(client: &Object, most: usize) -> Result<usize, Failure> {
    let sql = "delete from fieldsync_keys where (principal, key) in \
               (select principal, key from fieldsync_keys where at <= $1 order by at limit $2)";
    let statement = client.prepare_cached(sql).await?;
    let (oldest, most) = (ago(IDEMPOTENCY_KEY_AGE), most as i64);
    let forgotten = client.execute(&statement, &[&oldest, &most]).await?;
    Ok(forgotten as usize)
}
