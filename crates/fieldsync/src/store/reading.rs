//! Reads a store's log as this version of the app knows its records.

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::store::store::Store;

/// Reads what the log holds after a place, as this version of the app knows its records.
pub(crate) async fn read_changes(
    store: &dyn Store,
    collection: &Collection,
    since: Position,
    limit: usize,
) -> Result<ChangesSince, StoreError> {
    let mut backlog = store.changes(collection.name(), since, limit).await?;
    let ChangesSince::Changes { changes, .. } = &mut backlog else {
        return Ok(backlog);
    };
    changes
        .iter_mut()
        .for_each(|change| change.adapt_to(collection));
    if changes.iter().any(|change| change.is_partial(collection)) {
        // Rare, and not to be room in every subscriber's reading.
        Box::pin(complete(store, collection, changes)).await?;
    }
    Ok(backlog)
}

/// Reads from the rows what whoever wrote the changes did not know.
async fn complete(
    store: &dyn Store,
    collection: &Collection,
    changes: &mut [Change],
) -> Result<(), StoreError> {
    for change in changes {
        if change.is_partial(collection)
            && let (Some(row), _) = store.get(&change.key).await?
        {
            // What is newer than the change comes again with its own.
            let known = std::mem::replace(&mut change.after, row.fields);
            change.after.extend(known);
        }
    }
    Ok(())
}
