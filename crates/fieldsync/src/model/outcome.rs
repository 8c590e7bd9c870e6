//! The outcomes of edits, what a store keeps of an edit with an idempotency key, and what it reads for a repetition.

use std::sync::Arc;

use crate::model::change::{Action, Change};
use crate::model::cursor::Position;
use crate::model::record::{Fields, Record, RecordId};

/// The outcome of an edit that was not refused.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// The edit was committed as this change.
    Committed(Arc<Change>),
    /// The record already has the values that the edit sets. Nothing was written except the idempotency key.
    Unchanged {
        /// The record's id.
        id: RecordId,
        /// The record. `None` if none exists.
        record: Option<Record>,
        /// The end of the collection's log when the record was read.
        position: Position,
    },
    /// The same edit was applied earlier with the same idempotency key.
    Replayed {
        /// The id of the record.
        id: RecordId,
        /// The end of the collection's log after the edit.
        position: Position,
        /// The record's fields as the edit left them, while the log contains its change with all of them. Otherwise its
        /// current fields. `None` after a delete.
        record: Option<Fields>,
    },
}

impl Outcome {
    /// The record after the edit. `None` after a delete.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        let fields = self.fields()?.clone();
        Some(Record {
            id: self.id(),
            fields,
        })
    }

    /// The record's id.
    #[must_use]
    pub fn id(&self) -> RecordId {
        match self {
            Self::Committed(change) => change.key.id.clone(),
            Self::Unchanged { id, .. } | Self::Replayed { id, .. } => id.clone(),
        }
    }

    /// The record's fields after the edit. `None` after a delete.
    pub(crate) fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Committed(change) if change.action == Action::Delete => None,
            Self::Committed(change) => Some(&change.after),
            Self::Unchanged { record, .. } => record.as_ref().map(|record| &record.fields),
            Self::Replayed { record, .. } => record.as_ref(),
        }
    }

    /// A position in the collection's log at or after the edit's change. A reader of the log up to it has read the
    /// edit.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Committed(change) => change.position,
            Self::Unchanged { position, .. } | Self::Replayed { position, .. } => *position,
        }
    }
}

/// What a store keeps of an edit with an idempotency key. It is kept for 24 hours, also when the log is trimmed.
#[derive(Debug, Clone, PartialEq)]
pub struct IdempotencyRecord {
    /// The key and the principal that it belongs to.
    pub key: IdempotencyKey,
    /// Identifies what the edit asked for. Different edits have different fingerprints.
    pub fingerprint: String,
    /// The name of the collection whose log the edit extended. If no collection of this app has that log, any text that is
    /// not the name of a collection.
    pub collection: Arc<str>,
    /// The id of the record.
    pub id: RecordId,
    /// The end of the collection's log after the edit.
    pub position: Position,
}

/// What a store has read for an idempotency key that was used before.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The edit that used the key.
    pub edit: IdempotencyRecord,
    /// The change at the edit's offset, if the collection's log contains one. It may belong to another edit: an edit that
    /// changes nothing has no change of its own, and the log may have been replaced.
    pub change: Option<Change>,
    /// The current row of the edit's record, if it exists.
    pub row: Option<Record>,
}

/// An idempotency key. Each principal has its own keys: the same text from two principals is two keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// The owner: `app`, `anonymous`, or `name:` followed by the principal's name.
    pub principal: String,
    /// The text of the key, 1 to 255 bytes long.
    pub key: String,
}
