//! The change log: reading its rows, and deciding where a page of changes ends.

use std::sync::Arc;

use fieldsync::backend::{
    Change, ChangesSince, LogBounds, MAX_BASE_DISTANCE, PageLimit, PageMeter, Position, StoreError,
    from_json,
};
use fieldsync::{Action, RecordKey, ResetReason, Timestamp, to_json};

use crate::dialect::Dialect;
use crate::layout::{TableLayout, decode_id};
use crate::value::{Row, SideTableRow, SqlValue};

/// The history of a record since an edit's base is not read further than this many bytes of JSON.
pub const MAX_HISTORY_BYTES: usize = 1024 * 1024;

const HEAD_COLUMNS: [&str; 7] = [
    "epoch",
    "last",
    "last_tag",
    "trimmed",
    "trimmed_tag",
    "interrupted",
    "interrupted_tag",
];

pub(crate) const CHANGE_COLUMNS: [&str; 9] = [
    "offset",
    "tag",
    "id",
    "action",
    "after",
    "former",
    "at",
    "who",
    "idempotency_key",
];

/// The error for a collection without a row in `fieldsync_heads`.
#[must_use]
pub fn missing_head(collection: &str) -> StoreError {
    let error = format!(
        "collection {collection} has no row in table fieldsync_heads; restart the app to create it"
    );
    StoreError::Backend(error.into())
}

/// SQL integers are signed: an epoch keeps its bits, and an offset never gets that far.
pub(crate) fn position(epoch: i64, offset: i64, tag: i64) -> Position {
    Position {
        epoch: epoch.cast_unsigned(),
        offset: offset.cast_unsigned(),
        tag: tag as u32,
    }
}

/// The head of a log, from the columns `epoch, last, last_tag` that begin at the column `first`.
///
/// # Errors
/// If a column holds something else.
pub fn head<R: Row + ?Sized>(row: &R, first: usize) -> Result<Position, StoreError> {
    let row = SideTableRow::new(row, "fieldsync_heads", &HEAD_COLUMNS, first);
    Ok(position(row.integer(0)?, row.integer(1)?, row.integer(2)?))
}

/// The ends of a log, from the first seven columns: `epoch, last, last_tag, trimmed, trimmed_tag, interrupted,
/// interrupted_tag`.
///
/// # Errors
/// If a column holds something else.
pub fn log_bounds<R: Row + ?Sized>(row: &R) -> Result<LogBounds, StoreError> {
    let row = SideTableRow::new(row, "fieldsync_heads", &HEAD_COLUMNS, 0);
    let epoch = row.integer(0)?;
    Ok(LogBounds {
        head: position(epoch, row.integer(1)?, row.integer(2)?),
        trimmed: position(epoch, row.integer(3)?, row.integer(4)?),
        interrupted: position(epoch, row.integer(5)?, row.integer(6)?),
    })
}

/// The tag of a change, from this column; `None` for null.
///
/// # Errors
/// If the column holds something else.
pub fn tag<R: Row + ?Sized>(row: &R, column: usize) -> Result<Option<u32>, StoreError> {
    let row = SideTableRow::new(row, "fieldsync_changes", &["tag"], column);
    match row.value(0)? {
        SqlValue::Null => Ok(None),
        _ => Ok(Some(row.integer(0)? as u32)),
    }
}

/// A change and the bytes of its JSON, from the columns of `fieldsync_changes` that begin at the column `first`.
///
/// # Errors
/// If a column holds something that fieldsync does not write.
pub fn change<D: Dialect, R: Row + ?Sized>(
    row: &R,
    first: usize,
    table: &TableLayout<D>,
    epoch: u64,
) -> Result<(Change, usize), StoreError> {
    let row = SideTableRow::new(row, "fieldsync_changes", &CHANGE_COLUMNS, first);
    let action = Action::from_name(&row.text(3)?).ok_or_else(|| row.unreadable(3))?;
    let (after, former) = (row.text(4)?, row.text(5)?);
    let fields =
        |column, text: &str| from_json(text).map_err(|_| SideTableRow::unreadable(&row, column));
    let change = Change {
        position: position(epoch.cast_signed(), row.integer(0)?, row.integer(1)?),
        key: RecordKey {
            collection: Arc::clone(&table.collection),
            id: decode_id(table.ids, &row.value(2)?).ok_or_else(|| row.unreadable(2))?,
        },
        action,
        after: fields(4, &after)?,
        previous: fields(5, &former)?,
        at: Timestamp::from_micros(row.integer(6)?).ok_or_else(|| row.unreadable(6))?,
        who: row.optional_text(7)?.map(Into::into),
        idempotency_key: row.optional_text(8)?.map(Into::into),
    };
    Ok((change, after.len() + former.len()))
}

/// The values of a change's row in a log, for [`LogStatements::append`](crate::LogStatements::append).
pub fn change_values<'a, D: Dialect>(change: &'a Change, log: &'a str) -> [SqlValue<'a>; 10] {
    [
        SqlValue::text(log),
        SqlValue::Integer(change.position.offset.cast_signed()),
        SqlValue::Integer(change.position.tag.into()),
        D::encode_id(&change.key.id),
        SqlValue::text(change.action.as_str()),
        SqlValue::text(to_json(&change.after)),
        SqlValue::text(to_json(&change.previous)),
        SqlValue::Integer(change.at.as_micros()),
        SqlValue::optional_text(change.who.as_deref()),
        SqlValue::optional_text(change.idempotency_key.as_deref()),
    ]
}

/// Collects the changes after a position, which the driver reads in their order.
#[derive(Debug)]
pub struct LogPage {
    head: u64,
    last: u64,
    meter: PageMeter,
    changes: Vec<Change>,
    has_gap: bool,
}

impl LogPage {
    /// A page after a position that is in range.
    #[must_use]
    pub fn new(since: Position, bounds: &LogBounds, limit: PageLimit) -> Self {
        Self {
            head: bounds.head.offset,
            last: since.offset,
            meter: PageMeter::new(limit),
            changes: Vec::new(),
            has_gap: false,
        }
    }

    /// Whether the driver should read no further row.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.has_gap || self.meter.is_full()
    }

    /// Adds the next change, unless the page is full.
    pub fn push(&mut self, (change, bytes): (Change, usize)) {
        if !self.meter.take(bytes) {
            return;
        }
        self.last += 1;
        self.has_gap |= change.position.offset != self.last;
        self.changes.push(change);
    }

    /// The result. If someone has deleted rows of the log, the position counts as that of a restored log.
    #[must_use]
    pub fn finish(self) -> ChangesSince {
        if self.has_gap || self.changes.is_empty() && self.last < self.head {
            return ChangesSince::OutOfRange(ResetReason::Restored);
        }
        ChangesSince::Changes {
            changes: self.changes,
            more: self.last < self.head,
        }
    }
}

/// Collects the changes of one record after a position: what a batch needs for [`Batch::bases`](fieldsync::backend::Batch::bases).
#[derive(Debug)]
pub struct RecordHistory {
    is_too_far: bool,
    bytes: usize,
    changes: Vec<Change>,
}

impl RecordHistory {
    /// A history after a position that is in range.
    #[must_use]
    pub fn new(since: Position, bounds: &LogBounds) -> Self {
        Self {
            is_too_far: bounds.head.offset - since.offset > MAX_BASE_DISTANCE,
            bytes: 0,
            changes: Vec::new(),
        }
    }

    /// Whether the driver should read no further row.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_too_far || self.bytes >= MAX_HISTORY_BYTES
    }

    /// Adds the record's next change.
    pub fn push(&mut self, (change, bytes): (Change, usize)) {
        self.bytes += bytes;
        self.changes.push(change);
    }

    /// The result. A position too far back, or with too many bytes after it, counts as trimmed.
    #[must_use]
    pub fn finish(self) -> ChangesSince {
        if self.is_full() {
            return ChangesSince::OutOfRange(ResetReason::Trimmed);
        }
        ChangesSince::Changes {
            changes: self.changes,
            more: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use fieldsync::Fields;

    use super::*;

    const HEAD: u64 = 5;
    const LIMIT: PageLimit = PageLimit {
        rows: 10,
        bytes: 1000,
    };

    fn bounds() -> LogBounds {
        let at = |offset| position(1, offset, 1);
        LogBounds {
            head: at(HEAD as i64),
            trimmed: at(0),
            interrupted: at(0),
        }
    }

    fn change(offset: i64) -> Change {
        Change {
            position: position(1, offset, 1),
            key: RecordKey::new("notes", 1),
            action: Action::Update,
            after: Fields::new(),
            previous: Fields::new(),
            at: Timestamp::now(),
            who: None,
            idempotency_key: None,
        }
    }

    #[track_caller]
    fn check_page(offsets: &[i64], expected: Option<(usize, bool)>) {
        let mut page = LogPage::new(position(1, 2, 1), &bounds(), LIMIT);
        for offset in offsets {
            page.push((change(*offset), 1));
        }
        let found = match page.finish() {
            ChangesSince::Changes { changes, more } => Some((changes.len(), more)),
            ChangesSince::OutOfRange(reason) => {
                assert_eq!(reason, ResetReason::Restored);
                None
            }
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_page_has_no_gap() {
        check_page(&[3, 4, 5], Some((3, false)));
        check_page(&[3, 4], Some((2, true)));
        check_page(&[3, 5], None);
        check_page(&[4, 5], None);
        check_page(&[], None);
    }

    #[test]
    fn a_page_is_full_at_its_bytes() {
        let mut page = LogPage::new(position(1, 2, 1), &bounds(), LIMIT);
        page.push((change(3), LIMIT.bytes));
        assert!(!page.is_full());
        page.push((change(4), 1));
        assert!(page.is_full());
        let ChangesSince::Changes { changes, more } = page.finish() else {
            panic!("the position is in range")
        };
        assert_eq!((changes.len(), more), (1, true));
    }

    #[test]
    fn a_history_that_is_too_long_counts_as_trimmed() {
        let far = LogBounds {
            head: position(1, 20_000, 1),
            ..bounds()
        };
        let trimmed = ChangesSince::OutOfRange(ResetReason::Trimmed);
        let history = RecordHistory::new(position(1, 2, 1), &far);
        assert_eq!(history.finish(), trimmed);
        let mut history = RecordHistory::new(position(1, 2, 1), &bounds());
        history.push((change(3), MAX_HISTORY_BYTES));
        assert_eq!(history.finish(), trimmed);
    }
}
