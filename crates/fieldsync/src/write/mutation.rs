//! What a store writes for a batch: rows, and the new ends of the logs.

use std::sync::Arc;

use crate::model::record::{Fields, RecordId};
use crate::schema::collection::Collection;

/// One write to the app's own table.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// The collection.
    pub collection: Arc<Collection>,
    /// What to write.
    pub write: Write,
    pub(crate) group: usize,
    pub(crate) edit: usize,
    pub(crate) tag: u32,
}

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Insert a row, and return it with all fields.
    Insert {
        /// The id; without one the database gives it.
        id: Option<RecordId>,
        /// Every field.
        fields: Fields,
    },
    /// Set these columns and no others, and return the row with all fields.
    Update {
        /// Which row.
        id: RecordId,
        /// The columns that change, with their new values.
        fields: Fields,
    },
    /// Delete the row. Returns nothing.
    Delete {
        /// Which row.
        id: RecordId,
    },
    /// Write nothing. Returns the row as it was found, if there is one.
    Refresh {
        /// Which row.
        id: RecordId,
    },
}

/// How far a collection's log moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadUpdate {
    /// The collection.
    pub collection: Arc<str>,
    /// How many changes are added; with 0 only the place is asked for.
    pub count: u64,
    /// The tag of the last of them.
    pub last_tag: u32,
}
