//! Committed changes, and how several changes of one record fold into one.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

use crate::model::cursor::Position;
use crate::model::record::{Fields, RecordId, RecordKey};
use crate::model::timestamp::Timestamp;

/// What was done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was made, or appeared.
    Create,
    /// Fields of it changed.
    Update,
    /// It was deleted, or disappeared.
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        })
    }
}

/// One committed edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The place in the log right after this change.
    pub position: Position,
    /// Which record.
    pub key: RecordKey,
    /// What was done to it.
    pub action: Action,
    /// The record after, as the database returned it. Empty after a delete.
    pub after: Fields,
    /// The previous values of the fields that changed: after an update those, after a delete all. An update without
    /// any was announced by `touch`: which fields changed is not known, so all count as changed.
    pub previous: Fields,
    /// When it was committed.
    pub at: Timestamp,
    /// The name of who did it.
    pub who: Option<String>,
    /// The idempotency key of the write.
    pub idempotency_key: Option<String>,
}

/// Several changes of one record, folded into one: what a subscriber applies that was away.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoldedChange {
    /// Which record.
    pub id: RecordId,
    /// What became of it.
    pub action: Action,
    /// The fields to set, with their latest values; all of them after a create, none after a delete.
    pub fields: Fields,
    /// The whole record with its latest values, as far as it may be seen; after a delete what was last seen of it, and
    /// nothing where that is not known.
    pub record: Fields,
    /// The idempotency keys of the writes.
    pub idempotency_keys: Vec<String>,
    /// When the last of them was committed.
    pub at: Timestamp,
}

/// Folds changes, in the order in which each record was first changed.
pub(crate) fn fold(changes: impl IntoIterator<Item = FoldedChange>) -> Vec<FoldedChange> {
    let mut places: HashMap<RecordId, usize> = HashMap::new();
    let mut folded: Vec<FoldedChange> = Vec::new();
    for change in changes {
        match places.get(&change.id) {
            Some(place) => folded[*place].fold(change),
            None => {
                places.insert(change.id, folded.len());
                folded.push(change);
            }
        }
    }
    folded
}
