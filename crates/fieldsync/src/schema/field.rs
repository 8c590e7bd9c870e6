//! Fields of collections, and the kinds of record ids.

use serde_json::Value;

use crate::schema::field_type::Schema;

/// The kind of a collection's record ids, and what assigns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ids {
    /// Integers, assigned by the database.
    Integer,
    /// UUIDs (RFC 9562). If the creator of a record gives none, the engine creates a version 7 UUID.
    UuidV7,
}

/// A field of a collection. It is stored in the column with the same name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// The name of the field on the wire, and of its column.
    pub name: String,
    /// The type of the field, and whether null is allowed.
    pub schema: Schema,
    /// The value in a new record whose creator does not set the field. Without a default the creator must set the
    /// field.
    pub default: Option<Value>,
    /// Whether only the server sets the field, as for `created_at` and `updated_at`.
    pub set_by_server: bool,
}
