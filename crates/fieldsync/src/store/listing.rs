//! What a page of a collection is read of: which records, in which order, and how many.

use std::sync::Arc;
use std::time::Duration;

use crate::model::record::{Record, RecordId};
use crate::schema::grant::Grant;
use crate::schema::narrowing::Narrowing;
use crate::schema::sorting::{SortKey, Sorting};
use crate::store::page::PageLimit;

/// How long a list may look for its records: a store in one statement, and the engine in all that it makes for a page.
pub const MAX_LIST_TIME: Duration = Duration::from_secs(5);

/// A page to be read of a collection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listing {
    /// The page begins after this place. At the first record without it.
    pub after: Option<SortKey>,
    /// How much the page may have.
    pub limit: PageLimit,
    /// Records that do not meet it may be left out.
    pub narrowing: Option<Narrowing>,
    /// The order of the records. Without it they come in the order of their ids that suits the database.
    pub sorting: Option<Arc<Sorting>>,
}

impl Listing {
    /// All records in the order of their ids, after this one.
    #[must_use]
    pub fn by_id(after: Option<RecordId>, limit: PageLimit) -> Self {
        Self {
            after: after.map(SortKey::from),
            limit,
            narrowing: None,
            sorting: None,
        }
    }
}

impl Grant {
    /// What to read of the store for this grant.
    pub(crate) fn listing(&self, after: Option<SortKey>, limit: PageLimit) -> Listing {
        Listing {
            after,
            limit,
            narrowing: self.narrowing(),
            sorting: self.sorting.clone(),
        }
    }

    /// The place of a record in the order of the grant's query.
    pub(crate) fn place_of(&self, record: &Record) -> SortKey {
        match &self.sorting {
            Some(sorting) => sorting.key(record),
            None => record.id.clone().into(),
        }
    }
}
