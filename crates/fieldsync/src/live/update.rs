//! What a subscriber receives.

use crate::model::change::FoldedChange;
use crate::model::cursor::{Cursor, ResetReason};
use crate::model::record::Record;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// Records of a snapshot. Big ones come in pieces, of which only the last has the cursor; with it the snapshot is
    /// whole and replaces what the subscriber had.
    Snapshot {
        /// The records of this piece.
        records: Vec<Record>,
        /// Where the snapshot was read; on the last piece.
        cursor: Option<Cursor>,
    },
    /// One change.
    Change {
        /// The change.
        change: FoldedChange,
        /// The place after it.
        cursor: Cursor,
    },
    /// Changes that were missed, several of one record folded into one. To be applied whole.
    Changes {
        /// The changes, one per record.
        changes: Vec<FoldedChange>,
        /// The place after them; none between the pieces of a snapshot.
        cursor: Option<Cursor>,
    },
    /// Caught up: what follows is live.
    Live {
        /// The place up to which all is known.
        cursor: Cursor,
    },
    /// The subscriber can't go on from its cursor. A snapshot follows.
    Reset(ResetReason),
}
