//! What an authorizer grants: visible fields, writable fields and records. [`View::project`] is the one projection
//! through which every field leaves.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::model::canonical::CanonicalHasher;
use crate::model::record::{Fields, Record, RecordId};

/// Which fields one may see. Plain data: those with equal views share one encoding of each change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct View {
    only: Option<Arc<BTreeSet<String>>>,
}

impl View {
    /// Every field.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// These fields alone. The id is always seen.
    pub fn only<N: Into<String>>(fields: impl IntoIterator<Item = N>) -> Self {
        Self {
            only: Some(Arc::new(fields.into_iter().map(Into::into).collect())),
        }
    }

    /// Whether the field is seen.
    #[must_use]
    pub fn shows(&self, field: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(field))
    }

    /// The record as this view shows it: one flat object, the id among its fields.
    #[must_use]
    pub fn project(&self, id: RecordId, fields: &Fields) -> Fields {
        let mut seen = self.project_fields(fields);
        seen.insert(
            "id".into(),
            serde_json::to_value(id).expect("an id is a number or a string"),
        );
        seen
    }

    /// Those of the fields that this view shows.
    #[must_use]
    pub fn project_fields(&self, fields: &Fields) -> Fields {
        let Some(only) = &self.only else {
            return fields.clone();
        };
        let seen = fields.iter().filter(|(name, _)| only.contains(*name));
        seen.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// [`View::project`] as a JSON value.
    pub(crate) fn project_record(&self, record: &Record) -> Value {
        Value::Object(self.project(record.id, &record.fields))
    }
}

/// A test on records: those that fail it do not exist for the principal.
#[derive(Clone)]
pub struct RowFilter {
    name: Arc<str>,
    admits: Arc<dyn Fn(&Record) -> bool + Send + Sync>,
}

/// What was granted to somebody for one kind of access to one collection.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Grant {
    /// The fields that one sees.
    pub view: View,
    /// The fields that one may set.
    pub writable: View,
    /// The records that exist for one; all without it.
    pub rows: Option<RowFilter>,
    /// Of a grant to write: the records that one may also see.
    pub(crate) readable: Option<RowFilter>,
}

impl Grant {
    /// Every field of every record, to see and to set.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// Shows only what the view shows.
    #[must_use]
    pub fn with_view(self, view: View) -> Self {
        Self { view, ..self }
    }

    /// Lets only these fields be set.
    #[must_use]
    pub fn with_writable(self, writable: View) -> Self {
        Self { writable, ..self }
    }

    /// Grants only records that pass the test, before an edit and after it; a record that is being created has the id 0
    /// where the database gives the ids. The name tells the test from others, those of other principals included
    /// (`owner=17`): a subscriber whose cursor was made under another name begins again with a snapshot.
    #[must_use]
    pub fn with_rows(
        self,
        name: impl Into<Arc<str>>,
        admits: impl Fn(&Record) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            rows: Some(RowFilter {
                name: name.into(),
                admits: Arc::new(admits),
            }),
            ..self
        }
    }

    /// As a grant to write of one who may read so.
    pub(crate) fn shown_by(self, reads: Self) -> Self {
        Self {
            view: reads.view,
            readable: reads.rows,
            ..self
        }
    }

    /// Whether what a record was before may be shown: not where there are records that are not for one.
    pub(crate) fn shows_previous(&self) -> bool {
        self.rows.is_none() && self.readable.is_none()
    }

    /// Whether one who may write the record may also see it.
    pub(crate) fn is_readable(&self, record: &Record) -> bool {
        self.readable
            .as_ref()
            .is_none_or(|rows| (rows.admits)(record))
    }

    /// Whether the record exists for the one who holds this grant.
    #[must_use]
    pub fn admits(&self, record: &Record) -> bool {
        self.rows.as_ref().is_none_or(|rows| (rows.admits)(record))
    }

    /// The identity of what this grant shows: its visible fields and its records.
    pub(crate) fn identity(&self) -> u32 {
        let mut hasher = CanonicalHasher::new("view/1");
        if let Some(only) = hasher.option(self.view.only.as_ref()) {
            hasher.list(only.len());
            only.iter().for_each(|name| hasher.text(name));
        }
        if let Some(rows) = hasher.option(self.rows.as_ref()) {
            hasher.text(&rows.name);
        }
        hasher.bits()
    }
}

impl fmt::Debug for RowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RowFilter").field(&self.name).finish()
    }
}
