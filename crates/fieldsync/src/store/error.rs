//! The errors of stores.

use crate::model::field_errors::FieldErrors;
use crate::model::refusal::Refusal;

/// Why an operation of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database is locked, full or unreachable. The operation may succeed later.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Tables do not fit their collections. Everything that does not fit is listed, one line each.
    #[error("{}", lines(.0))]
    Schema(Vec<SchemaMismatch>),
    /// Something is missing, and this user may not create it. The message contains the SQL that creates it.
    #[error(
        "the database lacks what the engine needs, and its user may not create it; run this SQL as the owner, then start again:\n{sql}"
    )]
    NotPrepared {
        /// The SQL.
        sql: String,
        /// What the database refused.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A list can't be ordered by these fields: the database has another order than their values.
    #[error(
        "can't be ordered by {0}: its column has values in several forms, which the database orders as they are stored"
    )]
    Unordered(String),
    /// The operation failed for another reason.
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// The refusal of a query, where that is at fault.
    pub(crate) fn bad_query(&self) -> Option<Refusal> {
        let Self::Unordered(_) = self else {
            return None;
        };
        let errors = FieldErrors::one("order", self.to_string());
        Some(Refusal::BadQuery(errors))
    }
}

impl From<SchemaMismatch> for StoreError {
    fn from(mismatch: SchemaMismatch) -> Self {
        Self::Schema(vec![mismatch])
    }
}

fn lines(mismatches: &[SchemaMismatch]) -> String {
    let lines: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A way in which a table does not fit its collection. The message names the table and the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}{}: found {found}, expected {expected}", .column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default())]
pub struct SchemaMismatch {
    /// The name of the table.
    pub table: String,
    /// The name of the column. `None` if the table as a whole does not fit.
    pub column: Option<String>,
    /// What the database has.
    pub found: String,
    /// What the collection needs, or what to do.
    pub expected: String,
}
