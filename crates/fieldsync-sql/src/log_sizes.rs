//! The sizes of logs. A store learns them bit by bit as it trims, so that no table needs a counter.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fieldsync::backend::StoreError;

use crate::value::{Row, SideTableRow};

/// The most changes whose sizes are read in one transaction.
pub const MAX_MEASURED: usize = 5000;

/// A block of changes is deleted as a whole. It ends at this size, or at this number of changes.
const BLOCK_BYTES: u64 = 64 * 1024;
const BLOCK_CHANGES: usize = 1000;

/// The sizes of the logs, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct LogSizes(Arc<Mutex<HashMap<Arc<str>, LogSize>>>);

#[derive(Debug, Default)]
struct LogSize {
    epoch: i64,
    /// The offset up to which the log is known.
    known: i64,
    bytes: u64,
    blocks: VecDeque<Block>,
}

/// Changes that follow each other.
#[derive(Debug)]
struct Block {
    /// The offset of the last of them.
    last: i64,
    changes: usize,
    bytes: u64,
}

impl LogSizes {
    /// The offset after which the sizes of a log are still to be read, with [`LogStatements::sizes`](crate::LogStatements::sizes). The log
    /// contains the changes after `trimmed`, up to `head`.
    #[must_use]
    pub fn known_up_to(&self, log: &Arc<str>, epoch: i64, trimmed: i64, head: i64) -> i64 {
        let mut sizes = self.lock();
        let size = sizes.entry(Arc::clone(log)).or_default();
        if size.epoch != epoch || size.known > head || size.known < trimmed {
            *size = LogSize {
                epoch,
                known: trimmed,
                ..LogSize::default()
            };
        }
        while let Some(block) = size.blocks.front()
            && block.last <= trimmed
        {
            size.bytes -= block.bytes;
            size.blocks.pop_front();
        }
        size.known
    }

    /// Adds the size of the next change: a row of [`LogStatements::sizes`](crate::LogStatements::sizes).
    ///
    /// # Errors
    /// If a column holds something else.
    pub fn add<R: Row + ?Sized>(&self, log: &str, row: &R) -> Result<(), StoreError> {
        let row = SideTableRow::new(row, "fieldsync_changes", &["offset", "bytes"], 0);
        let (offset, bytes) = (row.integer(0)?, row.integer(1)?.cast_unsigned());
        let mut sizes = self.lock();
        let Some(size) = sizes.get_mut(log) else {
            return Ok(());
        };
        (size.known, size.bytes) = (offset, size.bytes + bytes);
        match size.blocks.back_mut() {
            Some(block) if block.bytes < BLOCK_BYTES && block.changes < BLOCK_CHANGES => {
                block.last = offset;
                block.changes += 1;
                block.bytes += bytes;
            }
            _ => size.blocks.push_back(Block {
                last: offset,
                changes: 1,
                bytes,
            }),
        }
        Ok(())
    }

    /// The offset of the last change that a log of this many bytes has no room for, or 0.
    #[must_use]
    pub fn beyond(&self, log: &str, max_bytes: u64) -> i64 {
        let sizes = self.lock();
        let Some(size) = sizes.get(log) else { return 0 };
        let (mut left, mut beyond) = (size.bytes, 0);
        for block in &size.blocks {
            if left <= max_bytes {
                break;
            }
            left -= block.bytes;
            beyond = block.last;
        }
        beyond
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, LogSize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::SqlValue;

    struct Sized(i64, i64);

    impl Row for Sized {
        fn value(
            &self,
            column: usize,
        ) -> Result<SqlValue<'_>, Box<dyn std::error::Error + Send + Sync>> {
            Ok(SqlValue::Integer([self.0, self.1][column]))
        }
    }

    fn measure(sizes: &LogSizes, log: &Arc<str>, offsets: std::ops::RangeInclusive<i64>) {
        for offset in offsets {
            sizes.add(log, &Sized(offset, 100_000)).unwrap();
        }
    }

    #[test]
    fn what_is_beyond_a_size_is_known_as_far_as_the_log_was_read() {
        let (sizes, log): (LogSizes, Arc<str>) = (LogSizes::default(), "notes".into());
        assert_eq!(sizes.known_up_to(&log, 1, 0, 10), 0);
        measure(&sizes, &log, 1..=10);
        assert_eq!(sizes.known_up_to(&log, 1, 0, 10), 10);
        assert_eq!(sizes.beyond(&log, 1_000_000), 0);
        assert_eq!(sizes.beyond(&log, 450_000), 6);
        assert_eq!(sizes.beyond(&log, 1), 10);
        // What another node has trimmed does not count.
        assert_eq!(sizes.known_up_to(&log, 1, 6, 11), 10);
        assert_eq!(sizes.beyond(&log, 450_000), 0);
        measure(&sizes, &log, 11..=11);
        assert_eq!(sizes.beyond(&log, 450_000), 7);
    }

    #[test]
    fn another_log_is_read_from_its_start() {
        let (sizes, log): (LogSizes, Arc<str>) = (LogSizes::default(), "notes".into());
        for (epoch, trimmed, head) in [(1, 0, 10), (2, 3, 10), (2, 3, 5), (2, 90, 99)] {
            assert_eq!(sizes.known_up_to(&log, epoch, trimmed, head), trimmed);
            assert_eq!(sizes.beyond(&log, 1), 0);
            measure(&sizes, &log, trimmed + 1..=head);
        }
    }

    #[test]
    fn small_changes_share_a_block() {
        let (sizes, log): (LogSizes, Arc<str>) = (LogSizes::default(), "notes".into());
        assert_eq!(sizes.known_up_to(&log, 1, 0, 5000), 0);
        for offset in 1..=5000 {
            sizes.add(&log, &Sized(offset, 10)).unwrap();
        }
        assert_eq!(sizes.lock()[&log].blocks.len(), 5);
        assert_eq!(sizes.beyond(&log, 45_000), 1000);
    }
}
