//! What a change log contains after a position.

use crate::model::change::Change;
use crate::model::cursor::ResetReason;

/// What the log holds after a place.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangesSince {
    /// These changes follow, in order and without gap.
    Changes {
        /// The changes.
        changes: Vec<Change>,
        /// Whether more follow.
        more: bool,
    },
    /// The place is not in the log.
    OutOfRange(ResetReason),
}
