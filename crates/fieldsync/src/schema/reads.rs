//! What a rule reads besides the principal: other collections, whose changes may change its answers.

use std::sync::Arc;

/// A collection that a rule reads to decide. A change there asks the rule again for whoever is connected.
///
/// ```
/// use fieldsync::reads;
///
/// // Only the principals that a changed membership names, before or after the change.
/// let memberships = reads("members").principal_by("user_id");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    pub(crate) collection: Arc<str>,
    /// The field that has the name of the principal. Everybody is asked about without it.
    pub(crate) principal_field: Option<Arc<str>>,
}

/// A rule reads this collection.
#[must_use]
pub fn reads(collection: &str) -> Reads {
    Reads {
        collection: collection.into(),
        principal_field: None,
    }
}

impl Reads {
    /// The rule's answers to a principal depend only on the records that have its name in this field.
    #[must_use]
    pub fn principal_by(self, field: &str) -> Self {
        let principal_field = Some(field.into());
        Self {
            principal_field,
            ..self
        }
    }
}
