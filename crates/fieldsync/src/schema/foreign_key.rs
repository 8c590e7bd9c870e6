//! Foreign keys between the tables of collections, as stores tell of them.

use std::sync::Arc;

/// A foreign key of a collection's table that leads to the table of another collection, or to its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The collection whose records refer to others.
    pub collection: Arc<str>,
    /// The fields of its columns. `id` for a key of one column, and `None` for a column that is not a field.
    pub fields: Vec<Option<String>>,
    /// The collection of the records that are referred to.
    pub target: Arc<str>,
    /// The fields of the columns that have the same values, in the order of `fields`, and named as these.
    pub target_fields: Vec<Option<String>>,
}
