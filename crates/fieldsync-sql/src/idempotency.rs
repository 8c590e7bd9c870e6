//! The idempotency keys: the edits that were committed under them in the last 24 hours.

use std::sync::Arc;

use fieldsync::Timestamp;
use fieldsync::backend::{
    IDEMPOTENCY_KEY_RETENTION, IdempotencyKey, IdempotencyRecord, Ids, StoreError,
};

use crate::dialect::Dialect;
use crate::layout::decode_id;
use crate::log::position;
use crate::table::Table;
use crate::trim::micros_before_now;
use crate::value::{Row, SideTableRow, SqlValue};

pub(crate) const COLUMNS: [&str; 9] = [
    "principal",
    "key",
    "fingerprint",
    "log",
    "id",
    "epoch",
    "offset",
    "tag",
    "at",
];

/// No collection has this name.
const NO_COLLECTION: &str = "";

/// A record from the columns of `fieldsync_keys`: all but `at`, in the order of the table. `table_of`: the app's
/// table with a log.
///
/// # Errors
/// If a column holds something that fieldsync does not write.
pub fn idempotency_record<'t, D: Dialect, R: Row + ?Sized>(
    row: &R,
    table_of: impl FnOnce(&str) -> Option<&'t Arc<Table<D>>>,
) -> Result<IdempotencyRecord, StoreError> {
    let row = SideTableRow::new(row, "fieldsync_keys", &COLUMNS, 0);
    let table = table_of(&row.text(3)?);
    Ok(IdempotencyRecord {
        key: IdempotencyKey {
            principal: row.text(0)?.into(),
            key: row.text(1)?.into(),
        },
        fingerprint: row.text(2)?.into(),
        collection: table.map_or_else(
            || NO_COLLECTION.into(),
            |table| Arc::clone(&table.collection),
        ),
        id: decode_id(table.map_or(Ids::Text, |table| table.ids), &row.value(4)?)
            .ok_or_else(|| row.unreadable(4))?,
        position: position(row.integer(5)?, row.integer(6)?, row.integer(7)?),
    })
}

/// The values of a record's row, for [`LogStatements::remember`](crate::LogStatements::remember).
#[must_use]
pub fn idempotency_values<'a, D: Dialect>(
    record: &'a IdempotencyRecord,
    log: &'a str,
    now: Timestamp,
) -> [SqlValue<'a>; 9] {
    [
        SqlValue::text(&record.key.principal),
        SqlValue::text(&record.key.key),
        SqlValue::text(&record.fingerprint),
        SqlValue::text(log),
        D::encode_id(&record.id),
        SqlValue::Integer(record.position.epoch.cast_signed()),
        SqlValue::Integer(record.position.offset.cast_signed()),
        SqlValue::Integer(record.position.tag.into()),
        SqlValue::Integer(now.as_micros()),
    ]
}

/// Keys used at this time or before count no longer, in microseconds since 1970.
#[must_use]
pub fn oldest_idempotency_key() -> i64 {
    micros_before_now(IDEMPOTENCY_KEY_RETENTION)
}
