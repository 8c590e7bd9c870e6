//! Foreign keys between the tables of collections, as stores tell of them.

use std::sync::Arc;

/// A foreign key of a collection's table that leads to the table of another collection, or to its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The collection whose records refer to others.
    pub collection: Arc<str>,
    /// The fields of its columns. `id` for a key of one column.
    pub fields: Vec<String>,
    /// The collection of the records that are referred to.
    pub target: Arc<str>,
    /// The fields of the columns that have the same values, in the order of `fields`. `id` for a key of one column.
    pub target_fields: Vec<String>,
}
