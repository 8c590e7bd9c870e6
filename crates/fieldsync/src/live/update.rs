//! The updates that a subscription delivers.

use crate::model::change::FoldedChange;
use crate::model::cursor::{Cursor, ResetReason};
use crate::model::record::Record;

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// A piece of a snapshot. Only the last piece has a cursor. The snapshot is then complete, and replaces all records
    /// that the subscriber had before.
    Snapshot {
        /// The records of this piece.
        records: Vec<Record>,
        /// The position of the snapshot. Only the last piece has it.
        cursor: Option<Cursor>,
    },
    /// One live change.
    Change {
        /// The change.
        change: FoldedChange,
        /// The position after the change.
        cursor: Cursor,
    },
    /// Changes that the subscriber has missed, folded into one per record. The subscriber applies all of them before it
    /// stores the cursor.
    Changes {
        /// The changes, at most one per record.
        changes: Vec<FoldedChange>,
        /// The position after the changes. `None` between the pieces of a snapshot.
        cursor: Option<Cursor>,
    },
    /// The subscriber has caught up. Every following change is live.
    Live {
        /// The position up to which the subscriber has received everything.
        cursor: Cursor,
    },
    /// The subscriber can't resume from its cursor, for this reason. A snapshot follows.
    Reset(ResetReason),
}

impl Update {
    /// The position after the update, where it has one.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        match self {
            Self::Change { cursor, .. } | Self::Live { cursor } => Some(*cursor),
            Self::Snapshot { cursor, .. } | Self::Changes { cursor, .. } => *cursor,
            Self::Reset(_) => None,
        }
    }
}
