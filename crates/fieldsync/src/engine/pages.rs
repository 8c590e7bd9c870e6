//! Reads the records that a grant shows from the store, page by page.

use std::time::Instant;

use crate::engine::engine::Engine;
use crate::engine::slow_lists::SLOW;
use crate::error::EngineError;
use crate::metrics::Limit;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::sorting::SortKey;
use crate::store::listing::{Listing, MAX_LIST_TIME};
use crate::store::page::{PageLimit, RecordPage};

/// The least number of records that the store is asked for after its first page: where most are hidden, one at a time would take long.
const MIN_RECORDS: usize = 256;

/// The pages of a collection, as the store reads them. They may have records that the grant does not show.
pub(crate) struct Pages<'a> {
    engine: &'a Engine,
    collection: &'a Collection,
    grant: &'a Grant,
    listing: Listing,
    is_last: bool,
    begun: Instant,
    /// How many more records may be read.
    left: usize,
}

impl<'a> Pages<'a> {
    /// The pages after a place, in the order of the grant's query.
    pub(crate) fn of(
        engine: &'a Engine,
        collection: &'a Collection,
        grant: &'a Grant,
        after: Option<SortKey>,
        limit: PageLimit,
    ) -> Self {
        Self {
            engine,
            collection,
            grant,
            listing: grant.listing(after, limit),
            is_last: false,
            begun: Instant::now(),
            left: usize::MAX,
        }
    }

    /// The same, until this many records were read.
    pub(crate) fn up_to(mut self, records: usize) -> Self {
        let rows = &mut self.listing.limit.rows;
        *rows = (*rows).min(records);
        self.left = records;
        self
    }

    /// The next page. `None` after the last one.
    ///
    /// # Errors
    /// When the store fails. An order that its database does not have is a bad query.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordPage>, EngineError> {
        if self.is_last {
            return Ok(None);
        }
        let store = self.engine.store();
        let read = store.list(self.collection.name(), &self.listing).await;
        if self.begun.elapsed() > SLOW {
            self.engine.slow_lists().name(self.collection, self.grant);
        }
        let page = read.map_err(|error| match error.bad_query() {
            Some(refusal) => refusal.into(),
            None => EngineError::from(error),
        })?;
        self.is_last = !page.more;
        self.left = self.left.saturating_sub(page.records.len());
        let limit = &mut self.listing.limit;
        limit.rows = limit.rows.max(MIN_RECORDS).min(self.left.max(1));
        let last = page.records.last().map(|last| self.grant.place_of(last));
        self.listing.after = last.or(self.listing.after.take());
        Ok(Some(page))
    }

    /// Whether the store has more.
    pub(crate) fn has_more(&self) -> bool {
        !self.is_last
    }

    /// The place up to which the store was read.
    pub(crate) fn place(&self) -> Option<&SortKey> {
        self.listing.after.as_ref()
    }

    /// Whether this must end: it has taken long, or has read as many records as it may.
    pub(crate) fn is_spent(&self) -> bool {
        let is_spent = self.left == 0 || self.is_out_of_time();
        if is_spent && self.has_more() {
            Limit::ListRecords.reached();
        }
        is_spent
    }

    /// Whether this has taken so long that it must end.
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.begun.elapsed() > MAX_LIST_TIME
    }
}
