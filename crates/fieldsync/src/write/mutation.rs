//! What a store writes for a batch: rows, and the new ends of the logs.

use std::sync::Arc;

use crate::model::record::{Fields, Record, RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::write::batch::{GroupResult, RefusedEdit};

/// One write to the app's own table.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Mutation {
    /// The collection.
    pub collection: Arc<Collection>,
    /// What to write.
    pub write: Write,
    pub(crate) group: usize,
    pub(crate) edit: usize,
}

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Insert a row, and return it with all fields.
    Insert {
        /// The id. Without one the database gives it.
        id: Option<RecordId>,
        /// The fields that are set. The others are the defaults of their columns, or null.
        fields: Fields,
    },
    /// Set these columns and no others, and return the row with all fields.
    Update {
        /// The row's id.
        id: RecordId,
        /// The columns that change, with their new values.
        fields: Fields,
    },
    /// Delete the row. Returns no row.
    Delete {
        /// The row's id.
        id: RecordId,
    },
    /// Write nothing, and return the row as it was read, if it exists.
    Refresh {
        /// The row's id.
        id: RecordId,
    },
}

/// How many changes are appended to a collection's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadUpdate {
    /// The collection.
    pub collection: Arc<str>,
    /// The number of changes. With 0 the store only reads the head.
    pub count: u64,
    /// The tag of the last change.
    pub last_tag: u32,
}

impl Mutation {
    /// The index of the mutation's group in its batch.
    #[must_use]
    pub fn group(&self) -> usize {
        self.group
    }

    /// The result of the mutation's group, if it is the only one of its batch, when the database has refused the mutation.
    pub fn refused(&self, refusal: Refusal) -> GroupResult {
        Err(RefusedEdit {
            edit: self.edit,
            refusal,
        })
    }

    /// Whether the row is the one that the mutation writes. A trigger may have given a new row another id than the one that
    /// later edits of the transaction use. The store then refuses the mutation.
    #[must_use]
    pub fn is_for(&self, row: &Record) -> bool {
        match &self.write {
            Write::Insert { id, .. } => id.clone().is_none_or(|id| id == row.id),
            Write::Update { .. } | Write::Delete { .. } | Write::Refresh { .. } => true,
        }
    }

    /// The record that is written. `None` when the database gives its id.
    pub(crate) fn key(&self) -> Option<RecordKey> {
        let id = match &self.write {
            Write::Insert { id, .. } => id.clone()?,
            Write::Update { id, .. } | Write::Delete { id } | Write::Refresh { id } => id.clone(),
        };
        Some(RecordKey {
            collection: Arc::clone(self.collection.name()),
            id,
        })
    }
}

impl Write {
    /// The row after this write, as far as it can be predicted. The database may still change it.
    pub(crate) fn predict(&self, row: Option<&Record>) -> Option<Record> {
        match self {
            Self::Insert { id, fields } => Some(Record {
                id: id.clone()?,
                fields: fields.clone(),
            }),
            Self::Update { fields, .. } => {
                let mut after = row?.clone();
                after.fields.extend(fields.clone());
                Some(after)
            }
            Self::Refresh { .. } => row.cloned(),
            Self::Delete { .. } => None,
        }
    }

    /// The values that this write replaces. `None` when they are unknown.
    pub(crate) fn previous_values(&self, row: Option<&Record>) -> Option<Fields> {
        match self {
            Self::Update { fields, .. } => {
                let replaced = row?.fields.iter();
                let replaced = replaced.filter(|(name, _)| fields.contains_key(*name));
                Some(
                    replaced
                        .map(|(name, value)| (name.clone(), value.clone()))
                        .collect(),
                )
            }
            Self::Delete { .. } => Some(row?.fields.clone()),
            Self::Insert { .. } | Self::Refresh { .. } => None,
        }
    }
}
