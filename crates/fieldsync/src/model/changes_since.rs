//! What a change log contains after a position.

use crate::model::change::Change;
use crate::model::cursor::ResetReason;

/// The result of reading a change log after a position.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangesSince {
    /// The log contains the position. These changes follow it, in log order and without a gap.
    Changes {
        /// The changes.
        changes: Vec<Change>,
        /// Whether the log contains further changes after these.
        more: bool,
    },
    /// The log does not contain the position, for this reason.
    OutOfRange(ResetReason),
}
