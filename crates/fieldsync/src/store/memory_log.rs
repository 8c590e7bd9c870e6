//! The change logs of the in-memory store.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::{Position, ResetReason};
use crate::model::log_bounds::LogBounds;
use crate::model::record::{RecordId, json_size};
use crate::model::timestamp::Timestamp;
use crate::store::page::{PageLimit, PageMeter};
use crate::store::store::Retention;
use crate::write::batch::MAX_BASE_DISTANCE;

/// The log of one collection: the changes after `trimmed`, up to `head`.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    pub(crate) head: Position,
    pub(crate) trimmed: Position,
    pub(crate) changes: VecDeque<Arc<Change>>,
    /// The size of the changes, as JSON.
    bytes: u64,
}

impl MemoryLog {
    pub(crate) fn new() -> Self {
        let start = Position {
            epoch: fastrand::u64(..) | 1,
            offset: 0,
            tag: 0,
        };
        Self {
            head: start,
            trimmed: start,
            changes: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Appends the change after the last one.
    pub(crate) fn push(&mut self, change: Arc<Change>) {
        self.bytes += size_of(&change);
        self.changes.push_back(change);
    }

    /// Deletes the oldest change.
    pub(crate) fn delete_first(&mut self) {
        if let Some(first) = self.changes.pop_front() {
            self.bytes -= size_of(&first);
            self.trimmed = first.position;
        }
    }

    /// The changes after a position, up to the limit.
    pub(crate) fn changes_after(&self, since: Position, limit: PageLimit) -> ChangesSince {
        let skipped = match self.skipped(since) {
            Ok(skipped) => skipped,
            Err(reason) => return ChangesSince::OutOfRange(reason),
        };
        let mut meter = PageMeter::new(limit);
        let changes: Vec<Change> = self
            .changes
            .range(skipped..)
            .take_while(|change| meter.take(change.size_in_memory()))
            .map(|change| Change::clone(change))
            .collect();
        let more = skipped + changes.len() < self.changes.len();
        ChangesSince::Changes { changes, more }
    }

    /// The changes of one record after a position.
    pub(crate) fn changes_of(&self, id: &RecordId, since: Position) -> ChangesSince {
        let skipped = match self.skipped(since) {
            Ok(skipped) => skipped,
            Err(reason) => return ChangesSince::OutOfRange(reason),
        };
        if self.head.offset - since.offset > MAX_BASE_DISTANCE {
            return ChangesSince::OutOfRange(ResetReason::Trimmed);
        }
        let changes = self.changes.range(skipped..);
        let changes = changes.filter(|change| change.key.id == *id);
        ChangesSince::Changes {
            changes: changes.map(|change| Change::clone(change)).collect(),
            more: false,
        }
    }

    /// How many changes of the log a position has behind it, or why it is out of range.
    fn skipped(&self, since: Position) -> Result<usize, ResetReason> {
        let bounds = LogBounds {
            head: self.head,
            trimmed: self.trimmed,
            interrupted: Position {
                offset: 0,
                ..self.trimmed
            },
        };
        let skipped = || {
            let skipped = since.offset - self.trimmed.offset;
            usize::try_from(skipped).expect("the log fits in memory")
        };
        let tag_at = || Ok::<_, Infallible>(Some(self.changes[skipped() - 1].position.tag));
        let Ok(out_of_range) = bounds.locate(since, tag_at);
        out_of_range.map_or_else(|| Ok(skipped()), Err)
    }

    /// The change with this offset, if the log contains it.
    pub(crate) fn at(&self, offset: u64) -> Option<&Arc<Change>> {
        let index = offset.checked_sub(self.trimmed.offset + 1)?;
        self.changes.get(usize::try_from(index).ok()?)
    }

    /// Whether the first change exceeds the retention.
    pub(crate) fn exceeds(&self, retention: Retention, oldest: Timestamp) -> bool {
        self.changes.front().is_some_and(|first| {
            first.at <= oldest
                || self.changes.len() as u64 > retention.count
                || self.bytes > retention.bytes
        })
    }
}

fn size_of(change: &Change) -> u64 {
    (json_size(&change.after) + json_size(&change.previous)) as u64
}
