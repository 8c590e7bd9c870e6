//! Why a store failed.

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It can't now and may later: locked, full, out of reach.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A table does not fit its collection.
    #[error(transparent)]
    Schema(#[from] SchemaMismatch),
    /// Anything else.
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A table that does not fit its collection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, column {column}: found {found}, expected {expected}")]
pub struct SchemaMismatch {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// What is there.
    pub found: String,
    /// What would fit, or what to do.
    pub expected: String,
}
