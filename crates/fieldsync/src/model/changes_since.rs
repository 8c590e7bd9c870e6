//! What a change log contains after a position.

use crate::model::change::Change;
use crate::model::cursor::{Position, ResetReason};

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

/// What has changed in an edit's record since the edit's base, as it was read before the edit's transaction.
#[derive(Debug, Clone)]
pub(crate) enum History {
    /// It can't be known: the log does not contain the base, or it is too far back.
    Lost,
    /// The changes up to this position. There may be some that follow it.
    UpTo(Position, Vec<Change>),
}
