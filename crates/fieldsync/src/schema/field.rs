//! Fields of collections, and the kinds of record ids.

use serde_json::Value;

use crate::schema::field_type::Schema;

/// The kind of a collection's record ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ids {
    /// Integers.
    Integer,
    /// UUIDs (RFC 9562). If the creator of a record gives none, the engine creates a version 7 UUID.
    UuidV7,
    /// Text: slugs, ULIDs, or the values of several key columns.
    Text,
}

/// What gives a new record its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdsGivenBy {
    /// The database. The creator may give text, but no integer.
    Database,
    /// The engine, unless the creator does.
    Engine,
    /// The creator.
    Creator,
}

/// A field of a collection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// The name of the field on the wire.
    pub name: String,
    /// The column that stores the field. It has the field's name, unless the collection was made of a table with a column
    /// `id` that is not its key.
    pub column: String,
    /// The type of the field, and whether null is allowed.
    pub schema: Schema,
    /// The value in a new record whose creator does not set the field. Without a default the creator must set the
    /// field.
    pub default: Option<Value>,
    /// What sets the field.
    pub set_by: SetBy,
    /// Whether the database has a default of its own for the column. A new record whose creator does not set the field, and
    /// which has no other default, leaves the column to the database.
    pub has_database_default: bool,
    /// Whether the field is the app's own, and not a timestamp that the engine adds.
    pub(crate) is_own: bool,
}

/// What sets a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetBy {
    /// Whoever may write the record.
    Writer,
    /// The creator of the record, and nobody afterwards: a column of the key.
    Creator,
    /// The engine, with the time at which the record is created.
    CreatedAt,
    /// The engine, with the time of each change.
    UpdatedAt,
    /// The database: the column is generated, or a trigger fills it.
    Database,
}

impl Field {
    /// A field that must be set when a record is created.
    pub(crate) fn new(name: &str, schema: Schema) -> Self {
        Self {
            name: name.into(),
            column: name.into(),
            schema,
            default: None,
            set_by: SetBy::Writer,
            has_database_default: false,
            is_own: true,
        }
    }

    /// Whether the engine sets the field.
    #[must_use]
    pub fn is_timestamp(&self) -> bool {
        matches!(self.set_by, SetBy::CreatedAt | SetBy::UpdatedAt)
    }

    /// Whether the database gives a new record's value, unless the creator sets it: null, where the column has no default.
    pub(crate) fn is_left_to_the_database(&self) -> bool {
        match &self.default {
            _ if self.set_by == SetBy::Database => true,
            Some(default) => default.is_null(),
            None => self.has_database_default,
        }
    }

    /// Whether writers may set the field when they create a record.
    #[must_use]
    pub fn is_settable(&self) -> bool {
        matches!(self.set_by, SetBy::Writer | SetBy::Creator)
    }
}
