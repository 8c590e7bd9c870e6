//! Reads a store's log, adapted to the fields of this version of the app.

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::schema::collection::Collection;
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

/// Reads the changes after a position, adapted to the fields of this version of the app. Another version may have
/// written them.
pub(crate) async fn read_changes(
    store: &dyn Store,
    collection: &Collection,
    since: Position,
    limit: PageLimit,
) -> Result<ChangesSince, StoreError> {
    let mut result = store.changes(collection.name(), since, limit).await?;
    let ChangesSince::Changes { changes, .. } = &mut result else {
        return Ok(result);
    };
    changes
        .iter_mut()
        .for_each(|change| change.adapt_to(collection));
    if changes.iter().any(|change| change.is_partial(collection)) {
        // Boxed since it is rare: the future of every subscriber's read would reserve the space for it.
        Box::pin(complete(store, collection, changes)).await?;
    }
    Ok(result)
}

/// Adds the values that the writer of a change did not know, from the current rows.
async fn complete(
    store: &dyn Store,
    collection: &Collection,
    changes: &mut [Change],
) -> Result<(), StoreError> {
    for change in changes {
        if change.is_partial(collection)
            && let (Some(row), _) = store.get(&change.key).await?
        {
            // A value that is newer than the change is delivered again with its own change, which does no harm.
            let known = std::mem::replace(&mut change.after, row.fields);
            change.after.extend(known);
        }
    }
    Ok(())
}
