//! A field of a collection, and where record ids come from.

use serde_json::Value;

use crate::schema::field_type::Schema;

/// Where the ids of new records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ids {
    /// Integers that the database gives.
    Integer,
    /// UUIDs version 7 (RFC 9562) that the engine gives.
    UuidV7,
}

/// One field of a collection, and the column of the same name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// The name, on the wire and in the table.
    pub name: String,
    /// The type, and whether null is allowed.
    pub schema: Schema,
    /// What a new record gets when nothing is said; without one the field is required on creation.
    pub default: Option<Value>,
    /// Set by the server alone: `created_at`, `updated_at`.
    pub set_by_server: bool,
}
