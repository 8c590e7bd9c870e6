//! Which records a grant is for: a filter as data, or a test of the app's own.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::model::canonical::CanonicalHasher;
use crate::model::filter::Filter;
use crate::model::record::{Fields, Record, RecordKey};
use crate::schema::member_rows::{MemberRows, RowsOfRule};
use crate::schema::predicate::Predicate;
use crate::schema::values::Values;

/// A condition on records. Records that do not meet it do not exist for the principal.
#[derive(Clone)]
pub(crate) enum RowFilter {
    /// As the app's rule wrote it, for a collection that is not known yet.
    Unchecked(Arc<Filter>),
    /// Before the store was asked what these rules depend on.
    OfRules(Arc<[RowsOfRule]>),
    Members(Arc<MemberRows>),
    Predicate(Arc<Predicate>),
    Test(Test),
}

type Admits = dyn Fn(&Record) -> bool + Send + Sync;

/// A closure of the app.
#[derive(Clone)]
pub(crate) struct Test {
    name: Arc<str>,
    admits: Arc<Admits>,
    /// The fields that it receives. All without it.
    fields: Option<Arc<BTreeSet<String>>>,
}

impl RowFilter {
    pub(crate) fn test(
        name: impl Into<Arc<str>>,
        admits: impl Fn(&Record) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::Test(Test {
            name: name.into(),
            admits: Arc::new(admits),
            fields: None,
        })
    }

    /// The condition, of which a test receives only these fields.
    pub(crate) fn limited_to(self, fields: &Arc<BTreeSet<String>>) -> Self {
        match self {
            Self::Test(test) => Self::Test(Test {
                fields: Some(Arc::clone(fields)),
                ..test
            }),
            other => other,
        }
    }

    /// Whether the record meets the condition. The app's test may panic.
    pub(crate) fn admits(&self, values: &Values<'_>) -> bool {
        match self {
            Self::Unchecked(_) | Self::OfRules(_) => false,
            Self::Members(rows) => rows.all().admits(values),
            Self::Predicate(predicate) => predicate.admits(values),
            Self::Test(test) => (test.admits)(&values.to_record(test.fields.as_deref())),
        }
    }

    /// Whether the record meets the condition. A test that panics hides its record, and is logged: one bad record must not close what
    /// shows the others.
    pub(crate) fn shows(&self, values: &Values<'_>) -> bool {
        let admits = std::panic::catch_unwind(AssertUnwindSafe(|| self.admits(values)));
        admits.unwrap_or_else(|_| {
            tracing::error!(id = %values.id(), test = ?self, "a test of records panicked: the record is hidden");
            false
        })
    }

    /// The condition as data.
    pub(crate) fn predicate(&self) -> Option<&Arc<Predicate>> {
        match self {
            Self::Predicate(predicate) => Some(predicate),
            Self::Members(rows) => Some(rows.all()),
            Self::Unchecked(_) | Self::OfRules(_) | Self::Test(_) => None,
        }
    }

    /// Whether a value that this may read is missing.
    pub(crate) fn lacks(&self, fields: &Fields) -> bool {
        match self {
            Self::Test(test) => test
                .fields
                .as_ref()
                .is_none_or(|read| read.iter().any(|name| !fields.contains_key(name))),
            _ => self.predicate().is_none_or(|rows| rows.lacks(fields)),
        }
    }

    pub(crate) fn member_rows(&self) -> Option<&MemberRows> {
        match self {
            Self::Members(rows) => Some(rows),
            _ => None,
        }
    }

    /// The condition as it was when the rule was asked, without the records that it relied on.
    pub(crate) fn for_reading(self) -> Self {
        match self {
            Self::Members(rows) => Self::Predicate(Arc::clone(rows.all())),
            other => other,
        }
    }

    /// The condition without what it relied on records for that are no longer as they were.
    pub(crate) fn as_of<'a>(&self, row: impl Fn(&RecordKey) -> Option<&'a Record>) -> Self {
        match self {
            Self::Members(rows) => Self::Predicate(Arc::new(rows.as_of(row))),
            other => other.clone(),
        }
    }

    pub(crate) fn hash(&self, hasher: &mut CanonicalHasher) {
        match self {
            Self::Unchecked(filter) => hasher.text(&filter.to_string()),
            Self::OfRules(_) => hasher.text("rules"),
            Self::Predicate(predicate) => predicate.hash(hasher),
            Self::Members(rows) => rows.all().hash(hasher),
            Self::Test(test) => hasher.text(&test.name),
        }
    }
}

impl fmt::Debug for RowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // None shows values that a rule compares with.
            Self::Unchecked(_) | Self::OfRules(_) | Self::Members(_) | Self::Predicate(_) => {
                f.write_str("Filter")
            }
            Self::Test(test) => f.debug_tuple("Test").field(&test.name).finish(),
        }
    }
}
