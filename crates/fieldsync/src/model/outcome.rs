//! What became of an edit that was not refused.

use std::sync::Arc;

use crate::model::change::{Action, Change};
use crate::model::cursor::Position;
use crate::model::record::{Fields, Record, RecordId};

/// What became of an edit that was not refused.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// The edit is committed with this change.
    Committed(Arc<Change>),
    /// The record already was as the edit asks for. Nothing was written except the idempotency key.
    Unchanged {
        /// The record.
        record: Record,
        /// The end of the log when the record was read.
        position: Position,
    },
    /// The same edit was applied before with the same idempotency key. This is its outcome.
    Replayed(IdempotencyRecord),
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
    pub(crate) fn id(&self) -> RecordId {
        match self {
            Self::Committed(change) => change.key.id,
            Self::Unchanged { record, .. } => record.id,
            Self::Replayed(remembered) => remembered.id,
        }
    }

    /// The record's fields after the edit; `None` after a delete.
    pub(crate) fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Committed(change) if change.action == Action::Delete => None,
            Self::Committed(change) => Some(&change.after),
            Self::Unchanged { record, .. } => Some(&record.fields),
            Self::Replayed(remembered) => remembered.record.as_ref(),
        }
    }

    /// A position in the log at or after the edit's change: a reader of the log up to here has seen the edit.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Committed(change) => change.position,
            Self::Unchanged { position, .. } => *position,
            Self::Replayed(remembered) => remembered.position,
        }
    }
}

/// What a store keeps of an edit with an idempotency key for 24 hours, even when the log is trimmed.
#[derive(Debug, Clone, PartialEq)]
pub struct IdempotencyRecord {
    /// The key and its owner.
    pub key: IdempotencyKey,
    /// Identifies the edit: another edit has another fingerprint.
    pub fingerprint: String,
    /// The collection.
    pub collection: Arc<str>,
    /// The record's id.
    pub id: RecordId,
    /// The end of the log after the edit.
    pub position: Position,
    /// The record after the edit. `None` after a delete.
    pub record: Option<Fields>,
}

/// An idempotency key. The same text from two principals makes two keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// Its owner: `app`, `anonymous`, or `name:` followed by the principal's name.
    pub principal: String,
    /// The text, of 1 to 255 bytes.
    pub key: String,
}
