//! Error messages per field.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Error messages per field, as they are sent in problem details: `{"quantity": ["must not go down"]}`.
///
/// Messages about a record as a whole stand under the empty name. Only the first 20 fields are kept: a request may name any number.
///
/// ```
/// use fieldsync::FieldErrors;
///
/// let errors = FieldErrors::one("quantity", "must not go down").with("price", "is required");
/// assert_eq!(errors.to_string(), "price is required; quantity must not go down");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FieldErrors(BTreeMap<String, Vec<String>>);

/// The most fields that there are messages about.
const MAX_FIELDS: usize = 20;

impl FieldErrors {
    /// No errors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One message about one field.
    pub fn one(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new().with(field, message)
    }

    /// Adds a message about a field.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.add(field, message);
        self
    }

    /// Adds a message about a field, unless there are messages about 20 others.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let field = field.into();
        if self.0.len() < MAX_FIELDS || self.0.contains_key(&field) {
            self.0.entry(field).or_default().push(message.into());
        }
    }

    /// The messages about a field.
    #[must_use]
    pub fn get(&self, field: &str) -> &[String] {
        self.0.get(field).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether there is a message about a field.
    #[must_use]
    pub fn contains(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// The fields with their messages, in the order of the fields' names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0
            .iter()
            .map(|(field, messages)| (field.as_str(), messages.as_slice()))
    }

    /// Whether there are no errors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` without errors, and otherwise these errors: for checks that collect all errors before they refuse.
    ///
    /// # Errors
    /// When there is any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl<F: Into<String>, M: Into<String>> FromIterator<(F, M)> for FieldErrors {
    fn from_iter<I: IntoIterator<Item = (F, M)>>(errors: I) -> Self {
        let mut collected = Self::new();
        for (field, message) in errors {
            collected.add(field, message);
        }
        collected
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (field, messages)) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            let space = if field.is_empty() { "" } else { " " };
            write!(f, "{separator}{field}{space}{}", messages.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}
