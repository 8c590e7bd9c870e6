//! What a subscription reads from the store: pages of the log and pieces of a snapshot.

use std::sync::Arc;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::record::{Record, RecordId, RecordKey};
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::store::reading::read_changes;
use crate::store::store::Store;

/// How many changes are read from the store, or taken from the ring, at a time.
pub(crate) const READ_CHANGES: usize = 512;

/// How many records a piece of a snapshot has.
const SNAPSHOT_RECORDS: usize = 256;

/// What to read next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    /// The changes after the place.
    CatchUp,
    /// The piece of a snapshot after this id.
    Piece { after: Option<RecordId> },
    /// What changed since that piece's forerunner, where that is much.
    Between { after: Option<RecordId> },
}

/// What was read.
pub(crate) enum Reading {
    CaughtUp(ChangesSince),
    Between {
        backlog: ChangesSince,
        after: Option<RecordId>,
    },
    Piece {
        /// What changed since the piece before, among the records already sent.
        between: ChangesSince,
        records: Vec<Record>,
        position: Position,
        after: Option<RecordId>,
        last: bool,
    },
}

pub(crate) async fn read_piece(
    store: &dyn Store,
    collection: &Collection,
    topic: &Topic,
    after: Option<RecordId>,
    at: Position,
) -> Result<Reading, StoreError> {
    let nothing = ChangesSince::Changes {
        changes: Vec::new(),
        more: false,
    };
    if let Some(id) = topic.id {
        let key = RecordKey {
            collection: Arc::clone(&topic.collection),
            id,
        };
        let (record, position) = store.get(&key).await?;
        return Ok(Reading::Piece {
            between: nothing,
            records: Vec::from_iter(record),
            position,
            after,
            last: true,
        });
    }
    let (records, position) = store
        .list(&topic.collection, after, SNAPSHOT_RECORDS)
        .await?;
    let last = records.len() < SNAPSHOT_RECORDS;
    let reaches = |change: &Change| change.position.offset >= position.offset;
    let between = if after.is_none() || position == at {
        nothing
    } else {
        match read_changes(store, collection, at, READ_CHANGES).await? {
            // So much changed meanwhile that it is read first, step by step, and this piece anew.
            ChangesSince::Changes { changes, more }
                if more && !changes.last().is_some_and(reaches) =>
            {
                let backlog = ChangesSince::Changes { changes, more };
                return Ok(Reading::Between { backlog, after });
            }
            ChangesSince::Changes { mut changes, .. } => {
                changes.retain(|change| change.position.offset <= position.offset);
                let more = false;
                ChangesSince::Changes { changes, more }
            }
            lost @ ChangesSince::OutOfRange(_) => lost,
        }
    };
    Ok(Reading::Piece {
        between,
        records,
        position,
        after,
        last,
    })
}

/// Whether a change is of a record in the pieces up to this id.
pub(crate) fn sent_before(after: Option<RecordId>) -> impl Fn(&Change) -> bool {
    move |change| after.is_some_and(|after| change.key.id <= after)
}
