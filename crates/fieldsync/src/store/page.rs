//! Pages: how much one read of a store may return, in rows and in bytes.

use crate::model::cursor::Position;
use crate::model::record::Record;

/// How much one read may return: the page ends before it exceeds either limit, but has at least one row if any is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// The maximum number of rows.
    pub rows: usize,
    /// The maximum size of their values in bytes, about as the database holds them. What a row has besides its values is
    /// not counted.
    pub bytes: usize,
}

/// A page of records.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// The records, in the order of their ids.
    pub records: Vec<Record>,
    /// Whether more records follow.
    pub more: bool,
    /// The end of the collection's log when the records were read.
    pub head: Position,
}

/// Counts the rows of a page, and finds its end.
#[derive(Debug)]
pub struct PageMeter {
    limit: PageLimit,
    rows: usize,
    bytes: usize,
    is_full: bool,
}

impl PageMeter {
    /// The meter of an empty page.
    #[must_use]
    pub fn new(limit: PageLimit) -> Self {
        Self {
            limit,
            rows: 0,
            bytes: 0,
            is_full: false,
        }
    }

    /// Whether a row of this size belongs to the page, which then counts it. After the first that does not, none does.
    pub fn take(&mut self, bytes: usize) -> bool {
        let PageLimit { rows, bytes: limit } = self.limit;
        let total = self.bytes.saturating_add(bytes);
        if self.rows > 0 && (self.rows >= rows || total > limit) {
            self.is_full = true;
        }
        if !self.is_full {
            self.rows += 1;
            self.bytes = total;
        }
        !self.is_full
    }

    /// Whether a row was left out.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sizes: &[usize], expected: usize) {
        let mut meter = PageMeter::new(PageLimit { rows: 3, bytes: 10 });
        let taken = sizes.iter().filter(|size| meter.take(**size)).count();
        assert_eq!(taken, expected, "{sizes:?}");
        assert_eq!(meter.is_full(), taken < sizes.len(), "{sizes:?}");
    }

    #[test]
    fn a_page_ends_before_it_exceeds_a_limit_but_has_a_row() {
        check(&[1, 1, 1], 3);
        check(&[1, 1, 1, 1], 3);
        check(&[5, 5], 2);
        check(&[5, 6, 1], 1);
        check(&[11], 1);
        check(&[11, 0], 1);
        check(&[], 0);
    }
}
