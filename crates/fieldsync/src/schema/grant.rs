//! What an authorizer grants: visible fields, writable fields and records.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::model::canonical::CanonicalHasher;
use crate::model::filter::Filter;
use crate::model::record::{Fields, Record, RecordKey};
use crate::schema::index_key::IndexKey;
use crate::schema::member_rows::{Members, RowsOfRule};
use crate::schema::narrowing::Narrowing;
use crate::schema::predicate::Predicate;
use crate::schema::row_filter::RowFilter;
use crate::schema::sorting::Sorting;
use crate::schema::values::Values;
use crate::schema::view::View;

/// The most keys by which the hub finds a subscription. One with more is asked about every change.
const MAX_KEYS: usize = 100;

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
    /// The records that a query asks for, of those that the grant is for. All of them without it.
    pub(crate) asked: Option<Arc<Predicate>>,
    /// The order in which a query asks for them. That of the ids without it.
    pub(crate) sorting: Option<Arc<Sorting>>,
    /// How many of the first records a query asks for. All of them without it.
    pub(crate) window: Option<usize>,
    /// For a grant to create: the fields that the record has, whatever its creator sends.
    pub(crate) set: Vec<(String, Value)>,
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
            .with_rows(Filter::is_in::<Value>("id", []))
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

    /// Limits the grant to records that match this filter. An edit must leave its record among them.
    ///
    /// The filter may ask about every field of the collection, also about those that the principal can't see.
    ///
    /// ```
    /// use fieldsync::{Filter, Grant};
    ///
    /// let own = Grant::full().with_rows(Filter::eq("owner", "ada"));
    /// ```
    #[must_use]
    pub fn with_rows(self, filter: Filter) -> Self {
        Self {
            rows: Some(RowFilter::Unchecked(Arc::new(filter))),
            ..self
        }
    }

    /// Limits the grant to records that pass this test, for what a [`Filter`] can't say. An edit must leave its record among them.
    ///
    /// No index serves a closure: each record is read and tested.
    ///
    /// The name identifies the test and must differ from those of other tests, also of other principals: `owner=17`.
    /// A subscriber whose cursor was made under another name starts again with a snapshot. While a record is being
    /// created, its id is 0 where the database gives the ids.
    #[must_use]
    pub fn with_rows_fn(
        self,
        name: impl Into<Arc<str>>,
        admits: impl Fn(&Record) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            rows: Some(RowFilter::test(name, admits)),
            ..self
        }
    }

    /// Limits the grant to the records that these rules admit.
    pub(crate) fn with_rows_of_rules(self, rules: Vec<RowsOfRule>) -> Self {
        let rows = Some(RowFilter::OfRules(rules.into()));
        Self { rows, ..self }
    }

    /// What the grant relies on other records for, to write or to read.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Members> {
        let rows = self.rows.iter().chain(&self.readable);
        rows.filter_map(RowFilter::member_rows)
            .flat_map(|rows| rows.members())
    }

    /// This grant for reading, which does not ask again about the records that it relies on.
    pub(crate) fn for_reading(self) -> Self {
        let rows = self.rows.map(RowFilter::for_reading);
        Self { rows, ..self }
    }

    /// This grant without what it relied on records for that are no longer as they were.
    pub(crate) fn as_of<'a>(
        &self,
        row: impl Fn(&RecordKey) -> Option<&'a Record> + Copy,
    ) -> Cow<'_, Self> {
        if self.members().next().is_none() {
            return Cow::Borrowed(self);
        }
        let as_of = |rows: &Option<RowFilter>| rows.as_ref().map(|rows| rows.as_of(row));
        Cow::Owned(Self {
            rows: as_of(&self.rows),
            readable: as_of(&self.readable),
            ..self.clone()
        })
    }

    /// This grant to write, for a principal that has the other grant to read.
    pub(crate) fn readable_under(self, reads: &Self) -> Self {
        Self {
            view: reads.view.clone(),
            readable: reads.rows.clone(),
            ..self
        }
    }

    /// Whether the principal that holds this grant to write knows of a field: it can see it or set it.
    pub(crate) fn knows(&self, field: &str) -> bool {
        self.view.shows(field) || self.writable.shows(field)
    }

    /// Whether some records are hidden. Then previous values may not be shown either: the record may have been one of them.
    pub(crate) fn hides_records(&self) -> bool {
        self.rows.is_some() || self.readable.is_some()
    }

    /// Whether the grant shows every record of the collection.
    pub(crate) fn is_for_all(&self) -> bool {
        self.rows.is_none() && self.asked.is_none()
    }

    /// Whether the principal that holds this grant to write may read the record.
    pub(crate) fn is_readable(&self, record: &Record) -> bool {
        let readable = self.readable.as_ref();
        readable.is_none_or(|rows| rows.admits(&record.into()))
    }

    /// Whether the grant is for this record. The app's test may panic.
    #[must_use]
    pub fn admits(&self, record: &Record) -> bool {
        let rows = self.rows.as_ref();
        rows.is_none_or(|rows| rows.admits(&record.into()))
    }

    /// Whether the record exists for the principal that holds this grant to read.
    pub(crate) fn reveals(&self, values: &Values<'_>) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.shows(values))
    }

    /// Whether the record is one of those that the query asks for.
    pub(crate) fn is_asked(&self, values: &Values<'_>) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.admits(values))
    }

    /// Whether the principal that holds this grant to read sees the record, and has asked for it.
    pub(crate) fn shows(&self, record: &Record) -> bool {
        self.is_asked(&record.into()) && self.reveals(&record.into())
    }

    /// The keys of which a record must have one to be shown, if there are such.
    pub(crate) fn keys(&self) -> Option<Vec<IndexKey>> {
        let rows = self.rows.as_ref().and_then(RowFilter::predicate);
        let predicates = rows.into_iter().chain(&self.asked);
        let keys = predicates.filter_map(|predicate| predicate.keys());
        let keys = keys.min_by_key(Vec::len);
        keys.filter(|keys| keys.len() <= MAX_KEYS)
    }

    /// Whether values are missing that decide which records this shows.
    pub(crate) fn lacks(&self, fields: &Fields) -> bool {
        let rows = self.rows.as_ref();
        rows.is_some_and(|rows| rows.lacks(fields))
            || self.asked.as_ref().is_some_and(|asked| asked.lacks(fields))
            || self
                .window
                .and(self.sorting.as_ref())
                .is_some_and(|sorting| sorting.reads(|field| !fields.contains_key(field)))
    }

    /// What a store can be asked: it excludes no record that this shows.
    pub(crate) fn narrowing(&self) -> Option<Narrowing> {
        let rows = self.rows.as_ref().and_then(RowFilter::predicate);
        let predicates = rows.into_iter().chain(&self.asked);
        let mut all: Vec<_> = predicates.filter_map(|one| one.narrowing()).collect();
        match all.len() {
            0 | 1 => all.pop(),
            _ => Some(Narrowing::All(all)),
        }
    }

    /// The identity of what this grant shows: its visible fields and its records.
    pub(crate) fn identity(&self) -> u32 {
        let mut hasher = CanonicalHasher::new("view/1");
        self.view.hash(&mut hasher);
        if let Some(rows) = hasher.option(self.rows.as_ref()) {
            rows.hash(&mut hasher);
        }
        if let Some(asked) = &self.asked {
            asked.hash(&mut hasher);
        }
        if let Some(window) = self.window {
            hasher.text("window");
            hasher.list(window);
            if let Some(sorting) = &self.sorting {
                sorting.hash(&mut hasher);
            }
        }
        hasher.bits()
    }
}
