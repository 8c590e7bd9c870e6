//! Reads a store's log, adapted to the fields of this version of the app, and what the log has left out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::{Position, ResetReason};
use crate::model::record::{Record, RecordId};
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::store::error::StoreError;
use crate::store::page::PageLimit;
use crate::store::store::Store;

/// How much of the log a hub reads at a time.
pub(crate) const HUB_PAGE: PageLimit = PageLimit {
    rows: 512,
    bytes: 1024 * 1024,
};

/// How much of the log, or of a hub's ring, a subscriber reads at a time. It holds what it has read until its client takes it.
pub(crate) const SUBSCRIBER_PAGE: PageLimit = PageLimit {
    rows: 512,
    bytes: 128 * 1024,
};

/// The most of the current rows that are read to fill the partial changes of a page.
const ROWS_PAGE: PageLimit = PageLimit {
    rows: 512,
    bytes: 64 * 1024,
};

/// A page of a log, which subscribers share, or why there is none.
#[derive(Debug, Clone)]
pub(crate) enum LogPage {
    Changes {
        changes: Vec<Arc<Change>>,
        more: bool,
    },
    OutOfRange(ResetReason),
}

impl Default for LogPage {
    fn default() -> Self {
        Self::Changes {
            changes: Vec::new(),
            more: false,
        }
    }
}

/// Changes of a log, and the current rows that fill the partial ones.
#[derive(Debug, Default)]
pub(crate) struct LogRead {
    pub(crate) page: LogPage,
    /// The current row of each record with a change that is to be filled. `None` if the record does not exist.
    pub(crate) rows: HashMap<RecordId, Option<Record>>,
}

/// Which partial changes are to be filled from the current rows.
#[derive(Debug, Clone)]
pub(crate) enum Fill {
    /// All of them: the subscriber receives whole records.
    All,
    /// Those of which the holder of this grant receives the whole record, or which lack values that decide whether it sees them.
    For(Arc<Grant>),
}

impl Fill {
    pub(crate) fn includes(&self, change: &Change, collection: &Collection) -> bool {
        change.is_partial(collection)
            && match self {
                Self::All => true,
                Self::For(grant) => change.previous.is_empty() || change.lacks_for(grant),
            }
    }
}

/// Reads the changes after a position, adapted to the fields of this version of the app. Another version may have
/// written them. Some may be partial.
pub(crate) async fn read_changes(
    store: &dyn Store,
    collection: &Collection,
    since: Position,
    limit: PageLimit,
) -> Result<ChangesSince, StoreError> {
    let mut result = store.changes(collection.name(), since, limit).await?;
    if let ChangesSince::Changes { changes, .. } = &mut result {
        changes
            .iter_mut()
            .for_each(|change| change.adapt_to(collection));
    }
    Ok(result)
}

/// Reads the rows that fill the changes of a page, in one read of the table. The changes end before the first that lacks a row for which
/// the page has no room.
pub(crate) async fn read_rows(
    store: &dyn Store,
    collection: &Collection,
    page: LogPage,
    fill: &Fill,
    topic: &Topic,
) -> Result<LogRead, StoreError> {
    let mut read = LogRead {
        page,
        rows: HashMap::new(),
    };
    let LogPage::Changes { changes, more } = &mut read.page else {
        return Ok(read);
    };
    let is_filled = |change: &Change| {
        topic.id.clone().is_none_or(|id| change.key.id == id) && fill.includes(change, collection)
    };
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    for change in changes.iter().filter(|change| is_filled(change)) {
        if seen.insert(change.key.id.clone()) {
            ids.push(change.key.id.clone());
        }
    }
    if ids.is_empty() {
        return Ok(read);
    }
    let rows = store.get_many(collection.name(), &ids, ROWS_PAGE).await?;
    read.rows = ids.iter().cloned().zip(rows).collect();
    let lacks_row =
        |change: &Arc<Change>| is_filled(change) && !read.rows.contains_key(&change.key.id);
    if let Some(end) = changes.iter().position(lacks_row) {
        changes.truncate(end);
        *more = true;
    }
    Ok(read)
}
