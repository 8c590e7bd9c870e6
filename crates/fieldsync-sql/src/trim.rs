//! Trimming a log: how far one transaction goes.

use std::time::Duration;

use fieldsync::backend::StoreError;
use fieldsync::{Retention, Timestamp};

use crate::value::{Row, SideTableRow};

/// The most changes, and the most idempotency keys, that one transaction deletes.
pub const MAX_TRIMMED: usize = 1000;

/// Decides which changes of a log to delete. The driver reads the oldest changes in their order, at most one more than the
/// limit.
#[derive(Debug)]
pub struct TrimScan {
    /// Changes up to this offset are beyond the retention's count.
    beyond_count: u64,
    /// Changes up to this offset are beyond the retention's bytes.
    beyond_bytes: i64,
    /// Changes from before this time are beyond the retention's age.
    oldest: i64,
    limit: usize,
    trimmed: Trimmed,
}

/// What to delete of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Trimmed {
    /// The number of changes.
    pub count: usize,
    /// The offset and the tag of the last of them.
    pub last: Option<(i64, i64)>,
    /// Whether further changes are beyond the retention.
    pub more: bool,
}

impl TrimScan {
    /// A scan that deletes at most `limit` changes. `head` is the offset of the last change. `beyond_bytes`: see
    /// [`LogSizes::beyond`](crate::LogSizes::beyond).
    #[must_use]
    pub fn new(retention: Retention, head: u64, beyond_bytes: i64, limit: usize) -> Self {
        Self {
            beyond_bytes,
            beyond_count: head.saturating_sub(retention.count),
            oldest: micros_before_now(retention.age),
            limit,
            trimmed: Trimmed::default(),
        }
    }

    /// Looks at the next change: a row of [`LogStatements::trim_candidates`](crate::LogStatements::trim_candidates). `false`
    /// ends the scan.
    ///
    /// # Errors
    /// If a column holds something that fieldsync does not write.
    pub fn push<R: Row + ?Sized>(&mut self, row: &R) -> Result<bool, StoreError> {
        let row = SideTableRow::new(row, "fieldsync_changes", &["offset", "tag", "at"], 0);
        let (offset, tag, at) = (row.integer(0)?, row.integer(1)?, row.integer(2)?);
        let is_kept = offset.cast_unsigned() > self.beyond_count
            && offset > self.beyond_bytes
            && at > self.oldest;
        if is_kept {
            return Ok(false);
        }
        if self.trimmed.count == self.limit {
            self.trimmed.more = true;
            return Ok(false);
        }
        self.trimmed.count += 1;
        self.trimmed.last = Some((offset, tag));
        Ok(true)
    }

    /// The result.
    #[must_use]
    pub fn finish(self) -> Trimmed {
        self.trimmed
    }
}

/// The time that long ago, in microseconds since 1970.
#[must_use]
pub fn micros_before_now(age: Duration) -> i64 {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().as_micros().saturating_sub(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::SqlValue;

    struct Logged(i64, i64);

    impl Row for Logged {
        fn value(
            &self,
            column: usize,
        ) -> Result<SqlValue<'_>, Box<dyn std::error::Error + Send + Sync>> {
            Ok(SqlValue::Integer([self.0, 100, self.1][column]))
        }
    }

    /// Scans a log of changes 1 to 9 of which the first `old` are too old.
    fn scan(retention: Retention, old: i64, limit: usize) -> Trimmed {
        scan_beyond(0, retention, old, limit)
    }

    fn scan_beyond(bytes: i64, retention: Retention, old: i64, limit: usize) -> Trimmed {
        let mut scan = TrimScan::new(retention, 9, bytes, limit);
        let now = Timestamp::now().as_micros();
        for offset in 1..10 {
            let at = if offset <= old { 0 } else { now };
            if !scan.push(&Logged(offset, at)).unwrap() {
                break;
            }
        }
        scan.finish()
    }

    #[test]
    fn changes_beyond_age_count_or_bytes_are_trimmed_up_to_the_limit() {
        let by_age = Retention::default();
        let mut by_count = Retention::default();
        by_count.count = 2;
        let trimmed = |count, more| Trimmed {
            count,
            last: (count > 0).then_some((count as i64, 100)),
            more,
        };
        assert_eq!(scan(by_age, 0, 100), trimmed(0, false));
        assert_eq!(scan(by_age, 4, 100), trimmed(4, false));
        assert_eq!(scan(by_age, 4, 4), trimmed(4, false));
        assert_eq!(scan(by_age, 4, 3), trimmed(3, true));
        assert_eq!(scan(by_count, 0, 100), trimmed(7, false));
        assert_eq!(scan(by_count, 8, 100), trimmed(8, false));
        assert_eq!(scan_beyond(5, by_age, 4, 100), trimmed(5, false));
        assert_eq!(scan_beyond(3, by_age, 4, 100), trimmed(4, false));
    }
}
