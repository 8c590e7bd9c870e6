//! Committed changes, and the folding of several changes of one record into one. `schema::change_view` projects a
//! change for a principal.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::cursor::Position;
use crate::model::record::{Fields, RecordId, RecordKey};
use crate::model::timestamp::Timestamp;

/// What a change does to a record, or to the records that a subscriber sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// The record was created, or it has become visible to the subscriber.
    Create,
    /// Fields of the record changed.
    Update,
    /// The record was deleted, or it is no longer visible to the subscriber.
    Delete,
    /// The record has changed, and now matches the subscriber's query. Only subscribers receive this.
    Enter,
    /// The record no longer matches the subscriber's query. Only subscribers receive this.
    Leave,
}

impl Action {
    /// The name: `create`, `update`, `delete`, `enter` or `leave`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Enter => "enter",
            Self::Leave => "leave",
        }
    }

    /// The action of a log with this name: `create`, `update` or `delete`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let actions = [Self::Create, Self::Update, Self::Delete];
        actions.into_iter().find(|action| action.as_str() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One committed edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The position in the log right after this change.
    pub position: Position,
    /// The record that changed.
    pub key: RecordKey,
    /// What the change does to the record.
    pub action: Action,
    /// Every field of the record after the change, as the database returned it. Empty after a delete. An update that was read
    /// from a log may lack values of more than 1 KiB that it did not change.
    pub after: Fields,
    /// The previous values. For an update: the fields that changed. For a delete: every field. For a create: empty.
    ///
    /// An update without previous values was logged by [`Edit::refresh`](crate::Edit::refresh). Which fields changed is
    /// unknown, so that all fields count as changed.
    pub previous: Fields,
    /// The time of the commit.
    pub at: Timestamp,
    /// The name of the principal that made the edit. `None` for an anonymous principal and for the app itself.
    pub who: Option<String>,
    /// The idempotency key of the edit.
    pub idempotency_key: Option<String>,
}

/// One or more changes of one record, folded into one and projected for one subscriber.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoldedChange {
    /// The id of the record.
    pub id: RecordId,
    /// What the changes do to the record as a whole.
    pub action: Action,
    /// The fields to set, with their latest values: every visible field for a create or an enter, the visible fields that changed
    /// for an update, none for a delete or a leave.
    pub fields: Fields,
    /// The visible fields of the record, with their latest values. For a delete: their last values before it, or none
    /// if these are unknown.
    pub record: Fields,
    /// The idempotency keys of the edits, in log order.
    pub idempotency_keys: Vec<String>,
    /// The time of the last commit.
    pub at: Timestamp,
}

/// Changes folded into one per record, in the order of each record's first change.
#[derive(Debug, Default)]
pub(crate) struct FoldedChanges {
    indexes: HashMap<RecordId, usize>,
    pub(crate) changes: Vec<FoldedChange>,
}

impl FoldedChanges {
    pub(crate) fn push(&mut self, change: FoldedChange) {
        match self.indexes.get(&change.id) {
            Some(index) => self.changes[*index].fold(change),
            None => {
                self.indexes.insert(change.id.clone(), self.changes.len());
                self.changes.push(change);
            }
        }
    }
}
