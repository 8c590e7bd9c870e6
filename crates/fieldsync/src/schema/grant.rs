//! What an authorizer grants: visible fields, writable fields and records. [`View::project`] is the one projection
//! through which every field leaves.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use serde_json::Value;

use crate::model::canonical::CanonicalHasher;
use crate::model::record::{Fields, Record, RecordId};

/// Which fields are visible. Subscribers with equal views share one encoding of each change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct View {
    /// All fields without it.
    only: Option<Arc<BTreeSet<String>>>,
}

impl View {
    /// Every field.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// Only these fields. The id is always visible.
    pub fn only<N: Into<String>>(fields: impl IntoIterator<Item = N>) -> Self {
        Self {
            only: Some(Arc::new(fields.into_iter().map(Into::into).collect())),
        }
    }

    /// Whether the field is visible.
    #[must_use]
    pub fn shows(&self, field: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(field))
    }

    /// The record as this view shows it: one flat object of the visible fields and the id.
    #[must_use]
    pub fn project(&self, id: RecordId, fields: &Fields) -> Fields {
        let mut visible = self.project_fields(fields);
        visible.insert(
            "id".into(),
            serde_json::to_value(id).expect("an id is a number or a string"),
        );
        visible
    }

    /// The visible fields.
    #[must_use]
    pub fn project_fields(&self, fields: &Fields) -> Fields {
        let Some(only) = &self.only else {
            return fields.clone();
        };
        let visible = fields.iter().filter(|(name, _)| only.contains(*name));
        visible
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// [`View::project`] as a JSON value.
    pub(crate) fn project_record(&self, record: &Record) -> Value {
        Value::Object(self.project(record.id.clone(), &record.fields))
    }
}

/// A condition on records. Records that do not meet it do not exist for the principal.
#[derive(Clone)]
pub(crate) struct RowFilter {
    pub(crate) name: Arc<str>,
    admits: Arc<dyn Fn(&Record) -> bool + Send + Sync>,
}

impl RowFilter {
    fn new(
        name: impl Into<Arc<str>>,
        admits: impl Fn(&Record) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            admits: Arc::new(admits),
        }
    }
}

/// What a principal is granted for one kind of access to one collection.
///
/// A read grant uses the visible fields and the records. A write grant uses the writable fields and the records: what a
/// reply shows is decided by the read grant. A principal may be granted to write a record that it may not read. Replies then
/// show the id alone.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Grant {
    /// The fields that the principal may read. Ignored in write grants.
    pub view: View,
    /// The fields that the principal may set. Ignored in read grants.
    pub writable: View,
    /// The records that the grant is for. All records without it.
    pub(crate) rows: Option<RowFilter>,
    /// For a grant to write: the records that the principal may also read. All records without it.
    pub(crate) readable: Option<RowFilter>,
}

impl Grant {
    /// Every field of every record, for reading and writing.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// Shows nothing: the read grant of a principal that may write but not read.
    pub(crate) fn invisible() -> Self {
        Self::full()
            .with_view(View::only::<String>([]))
            .with_rows("none", |_| false)
    }

    /// Makes only the fields of this view visible.
    #[must_use]
    pub fn with_view(self, view: View) -> Self {
        Self { view, ..self }
    }

    /// Allows only these fields to be set.
    #[must_use]
    pub fn with_writable(self, writable: View) -> Self {
        Self { writable, ..self }
    }

    /// Limits the grant to records that pass this test. An edit must leave its record among them.
    ///
    /// The name identifies the test and must differ from those of other tests, also of other principals: `owner=17`.
    /// A subscriber whose cursor was made under another name starts again with a snapshot. While a record is being
    /// created, its id is 0 where the database gives the ids.
    #[must_use]
    pub fn with_rows(
        self,
        name: impl Into<Arc<str>>,
        admits: impl Fn(&Record) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            rows: Some(RowFilter::new(name, admits)),
            ..self
        }
    }

    /// This grant to write, for a principal that has the other grant to read.
    pub(crate) fn readable_under(self, reads: &Self) -> Self {
        Self {
            view: reads.view.clone(),
            readable: reads.rows.clone(),
            ..self
        }
    }

    /// Whether some records are hidden. Then previous values may not be shown either: the record may have been one of them.
    pub(crate) fn hides_records(&self) -> bool {
        self.rows.is_some() || self.readable.is_some()
    }

    /// Whether the principal that holds this grant to write may read the record.
    pub(crate) fn is_readable(&self, record: &Record) -> bool {
        self.readable
            .as_ref()
            .is_none_or(|rows| (rows.admits)(record))
    }

    /// Whether the principal that holds this grant to read sees the record. A test that panics hides its record, and is logged: one bad
    /// record must not close what shows the others.
    pub(crate) fn shows(&self, record: &Record) -> bool {
        let admits = std::panic::catch_unwind(AssertUnwindSafe(|| self.admits(record)));
        admits.unwrap_or_else(|_| {
            let test = self.rows.as_ref().map(|rows| &*rows.name);
            tracing::error!(id = %record.id, test, "a test of records panicked: the record is hidden");
            false
        })
    }

    /// Whether the grant is for this record.
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
