//! How large a message is: 64 KiB, or one record.

use crate::model::change::FoldedChange;
use crate::model::record::{Record, json_size};
use crate::store::page::PageLimit;

/// How much a message may have: 64 KiB with its topic and its place, which may have an id each.
pub(crate) const MESSAGE: PageLimit = PageLimit {
    rows: usize::MAX,
    bytes: 60 * 1024,
};

/// The bytes that a record takes in a message besides its id and its fields.
const RECORD_BYTES: usize = 8;

/// The bytes that a change takes in a message besides its id, its fields and its idempotency keys.
const CHANGE_BYTES: usize = 120;

/// The bytes that a record takes in a message.
pub(crate) fn size_of_record(record: &Record) -> usize {
    json_size(&record.id) + json_size(&record.fields) + RECORD_BYTES
}

/// The bytes that a change takes in a message, alone or folded with others of its record.
pub(crate) fn size_of_change(change: &FoldedChange) -> usize {
    let key = change.idempotency_keys.first().map_or(0, String::len);
    json_size(&change.id) + json_size(&change.fields) + key + CHANGE_BYTES
}
