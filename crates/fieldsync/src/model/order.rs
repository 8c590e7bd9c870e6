//! The order of records in a list or a window.

/// An order by one field, from [`asc`] or [`desc`].
///
/// Null counts as the largest value: it is last where the order ascends, and first where it descends.
///
/// ```
/// use fieldsync::{Topic, asc, desc};
///
/// let newest = Topic::of("messages").order_by(desc("sent_at")).window(50);
/// assert_eq!(newest.to_string(), "messages?order=sent_at.desc&limit=50");
/// let board = Topic::of("tasks").order_by(asc("column")).order_by(asc("position").nulls_first());
/// assert_eq!(board.to_string(), "tasks?order=column,position.nullsfirst");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    pub(crate) field: String,
    pub(crate) is_descending: bool,
    pub(crate) nulls_first: bool,
}

/// The records with the smallest values come first.
pub fn asc(field: impl Into<String>) -> Order {
    Order {
        field: field.into(),
        is_descending: false,
        nulls_first: false,
    }
}

/// The records with the largest values come first.
pub fn desc(field: impl Into<String>) -> Order {
    Order {
        field: field.into(),
        is_descending: true,
        nulls_first: true,
    }
}

impl Order {
    /// The records without a value come first.
    #[must_use]
    pub fn nulls_first(self) -> Self {
        Self {
            nulls_first: true,
            ..self
        }
    }

    /// The records without a value come last.
    #[must_use]
    pub fn nulls_last(self) -> Self {
        Self {
            nulls_first: false,
            ..self
        }
    }

    /// The name of the field, or `id`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Whether the largest values come first.
    #[must_use]
    pub fn is_descending(&self) -> bool {
        self.is_descending
    }

    /// Whether the records without a value come first.
    #[must_use]
    pub fn has_nulls_first(&self) -> bool {
        self.nulls_first
    }
}
