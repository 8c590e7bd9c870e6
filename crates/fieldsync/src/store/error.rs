//! The errors of stores.

/// Why an operation of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database is locked, full or unreachable. The operation may succeed later.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A table does not fit its collection.
    #[error(transparent)]
    Schema(#[from] SchemaMismatch),
    /// The operation failed for another reason.
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A table that does not fit its collection. The message names the table and the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, column {column}: found {found}, expected {expected}")]
pub struct SchemaMismatch {
    /// The name of the table.
    pub table: String,
    /// The name of the column.
    pub column: String,
    /// What the database has.
    pub found: String,
    /// What the collection needs, or what to do.
    pub expected: String,
}
