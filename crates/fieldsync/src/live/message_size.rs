//! How large a message is: 64 KiB, or one record.

use crate::model::change::FoldedChange;
use crate::model::record::{Record, json_size};
use crate::store::page::{PageLimit, PageMeter};

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

/// Splits what is sent into parts that fit a message each. Returns those that are full, and the last one, which may be empty.
pub(crate) fn split<T>(
    items: impl IntoIterator<Item = T>,
    size: impl Fn(&T) -> usize,
) -> (Vec<Vec<T>>, Vec<T>) {
    let (mut full, mut part, mut meter) = (Vec::new(), Vec::new(), PageMeter::new(MESSAGE));
    for item in items {
        let bytes = size(&item);
        if !meter.take(bytes) {
            full.push(std::mem::take(&mut part));
            meter = PageMeter::new(MESSAGE);
            meter.take(bytes);
        }
        part.push(item);
    }
    (full, part)
}
