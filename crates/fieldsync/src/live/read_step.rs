//! The steps in which a subscription reads the store: pages of the log, and pieces of a snapshot.

use std::sync::Arc;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::record::{Record, RecordId, RecordKey};
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::store::page::{PageLimit, RecordPage};
use crate::store::read_changes::{SUBSCRIBER_PAGE, read_changes};
use crate::store::store::Store;

/// How much of a table is read into a piece of a snapshot.
const PIECE: PageLimit = PageLimit {
    rows: 256,
    bytes: 64 * 1024,
};

/// What to read next from the store.
///
/// The pieces of a snapshot are read at different positions. Between two pieces the subscriber receives what has
/// changed in the records of the earlier pieces, so that all pieces together are a snapshot at the position of the last
/// one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReadStep {
    /// The changes after the subscriber's position.
    CatchUp,
    /// The piece of a snapshot after this id.
    SnapshotPiece { after: Option<RecordId> },
    /// The changes since the piece that ends with this id, when they are too many to read with the next piece.
    ChangesBetweenPieces { after: Option<RecordId> },
}

/// The result of a [`ReadStep`].
pub(crate) enum StepResult {
    CatchUp(ChangesSince),
    ChangesBetweenPieces {
        changes: ChangesSince,
        after: Option<RecordId>,
    },
    SnapshotPiece {
        /// The changes since the piece before.
        changes: ChangesSince,
        records: Vec<Record>,
        /// The position at which the records were read.
        position: Position,
        after: Option<RecordId>,
        is_last: bool,
    },
}

/// Executes one step of a subscriber at this position.
pub(crate) async fn execute(
    step: ReadStep,
    store: &dyn Store,
    collection: &Collection,
    topic: &Topic,
    position: Position,
) -> Result<StepResult, StoreError> {
    match step {
        ReadStep::CatchUp => read_changes(store, collection, position, SUBSCRIBER_PAGE)
            .await
            .map(StepResult::CatchUp),
        ReadStep::ChangesBetweenPieces { after } => {
            let changes = read_changes(store, collection, position, SUBSCRIBER_PAGE).await?;
            Ok(StepResult::ChangesBetweenPieces { changes, after })
        }
        ReadStep::SnapshotPiece { after } => {
            read_piece(store, collection, topic, after, position).await
        }
    }
}

async fn read_piece(
    store: &dyn Store,
    collection: &Collection,
    topic: &Topic,
    after: Option<RecordId>,
    since: Position,
) -> Result<StepResult, StoreError> {
    let no_changes = ChangesSince::Changes {
        changes: Vec::new(),
        more: false,
    };
    if let Some(id) = topic.id {
        let key = RecordKey {
            collection: Arc::clone(&topic.collection),
            id,
        };
        let (record, position) = store.get(&key).await?;
        return Ok(StepResult::SnapshotPiece {
            changes: no_changes,
            records: Vec::from_iter(record),
            position,
            after,
            is_last: true,
        });
    }
    let RecordPage {
        records,
        more,
        head: position,
    } = store.list(&topic.collection, after, PIECE).await?;
    let is_last = !more;
    let reaches_piece = |change: &Change| change.position.offset >= position.offset;
    let changes = if after.is_none() || position == since {
        no_changes
    } else {
        match read_changes(store, collection, since, SUBSCRIBER_PAGE).await? {
            // There are more changes than one read returns. They are read first, then this piece again.
            ChangesSince::Changes { changes, more }
                if more && !changes.last().is_some_and(reaches_piece) =>
            {
                let changes = ChangesSince::Changes { changes, more };
                return Ok(StepResult::ChangesBetweenPieces { changes, after });
            }
            ChangesSince::Changes { mut changes, .. } => {
                changes.retain(|change| change.position.offset <= position.offset);
                let more = false;
                ChangesSince::Changes { changes, more }
            }
            out_of_range @ ChangesSince::OutOfRange(_) => out_of_range,
        }
    };
    Ok(StepResult::SnapshotPiece {
        changes,
        records,
        position,
        after,
        is_last,
    })
}

/// Whether the record of a change is in the pieces up to this id.
pub(crate) fn is_in_pieces_up_to(after: Option<RecordId>) -> impl Fn(&Change) -> bool {
    move |change| after.is_some_and(|after| change.key.id <= after)
}
