//! What the rules of a collection read: other collections, whose changes ask the rules again.

use crate::schema::collection::{CaptureChoice, Collection};
use crate::schema::field_type::FieldType;
use crate::schema::reads::Reads;

impl Collection {
    /// Says that the rule of this collection reads another one, or this one itself, to decide. A change there asks the rule again
    /// for whoever has subscribed, and the answer holds from then on; meanwhile they receive nothing. An [`Authorizer`] of the
    /// app's own says so itself, by [`Authorizer::reads`].
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use std::sync::{Arc, RwLock};
    /// # use fieldsync::{Collection, Denied, Filter, Grant, reads};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Task { project_id: i64, title: String }
    /// # let projects_of = |user: &str| -> Vec<i64> { Vec::new() };
    /// let tasks = Collection::of::<Task>("tasks")
    ///     .authorize_fn(move |principal, _| {
    ///         let user = principal.name().ok_or(Denied::Unauthenticated)?;
    ///         Ok(Grant::full().with_rows(Filter::is_in("project_id", projects_of(user))))
    ///     })
    ///     .reads(reads("members").principal_by("user_id"));
    /// ```
    ///
    /// [`Authorizer`]: crate::Authorizer
    /// [`Authorizer::reads`]: crate::Authorizer::reads
    #[must_use]
    pub fn reads(mut self, reads: Reads) -> Self {
        self.reads.push(reads);
        self
    }

    /// Adds what the authorizer itself says that it reads.
    pub(crate) fn with_reads_of_authorizer(mut self) -> Self {
        let authorizer = self.authorizer.clone();
        for reads in authorizer.iter().flat_map(|one| one.reads()) {
            if !self.reads.contains(&reads) {
                self.reads.push(reads);
            }
        }
        self
    }

    /// What the rules read besides the principal.
    pub(crate) fn what_rules_read(&self) -> &[Reads] {
        &self.reads
    }

    /// Whether a change of another record may change what the rules answer.
    pub(crate) fn is_dependent(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Whether others may write to the table, so that what they wrote has to be logged first.
    pub(crate) fn may_be_captured(&self) -> bool {
        self.capture != Some(CaptureChoice::Off)
    }

    /// Whether this field, or the id, can have the name of a principal.
    pub(crate) fn can_name_principals(&self, field: &str) -> bool {
        let kind = self.field(field).map(|field| &field.schema.kind);
        let names = |kind: &FieldType| {
            matches!(
                kind,
                FieldType::Text { .. } | FieldType::Uuid | FieldType::Integer { .. }
            )
        };
        field == "id" || kind.is_some_and(names)
    }
}
