//! What a database can be asked of a predicate: a condition that no record fails which the predicate admits.

use serde_json::Value;

/// A condition that a store can turn into SQL. Every record that a predicate admits meets it; the engine tests the others.
///
/// A store that can't ask for a part of it leaves that part out of an `All`, and asks for nothing where it is a part of an `Any`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Narrowing {
    /// The field, or the `id`, has one of these values, in their canonical form.
    OneOf(String, Vec<Value>),
    /// The field is at least this value.
    AtLeast(String, Value),
    /// The field is at most this value.
    AtMost(String, Value),
    /// The field is null.
    IsNull(String),
    /// The field is not null.
    IsNotNull(String),
    /// All of these hold.
    All(Vec<Self>),
    /// One of these holds. Without any, no record matches.
    Any(Vec<Self>),
}
