//! The steps in which a subscription reads the store: pages of the log, and pieces of a snapshot.

use std::sync::Arc;

use crate::live::log_pages::LogPages;
use crate::live::window::{Phase, Window};
use crate::model::change::Change;
use crate::model::cursor::Position;
use crate::model::record::{Record, RecordId, RecordKey};
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::sorting::SortKey;
use crate::store::error::StoreError;
use crate::store::page::PageLimit;
use crate::store::read_changes::{Fill, LogPage, LogRead, read_rows};
use crate::store::store::Store;

/// How much of a table is read into a piece of a snapshot.
const PIECE: PageLimit = PageLimit {
    rows: 256,
    bytes: 64 * 1024,
};

/// The fewest rows that are read for a window.
const MIN_PIECE_ROWS: usize = 8;

/// What to read next from the store.
///
/// The pieces of a snapshot are read at different positions. Between two pieces the subscriber receives what has
/// changed in the records of the earlier pieces, so that all pieces together are a snapshot at the position of the last
/// one.
#[derive(Debug, Clone)]
pub(crate) enum ReadStep {
    /// The changes after the subscriber's position.
    CatchUp,
    /// The piece of a snapshot after this record.
    SnapshotPiece { after: Option<SortKey> },
    /// The changes since the piece that ends with this record, when they are too many to read with the next piece.
    ChangesBetweenPieces { after: Option<SortKey> },
}

impl ReadStep {
    /// Reads the records that a window lacks.
    pub(crate) fn of_window(window: &Window) -> Self {
        let after = window.reach().cloned();
        Self::SnapshotPiece { after }
    }
}

/// The piece that a window needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// The number of records that are missing.
    missing: usize,
    /// Whether the subscriber has records of before, so that it must learn what has changed since.
    goes_on: bool,
    /// Whether the piece before had nothing for it: records are hidden, or match only in part what the store is asked for.
    is_wide: bool,
}

impl Piece {
    pub(crate) fn of(window: &Window) -> Self {
        Self {
            missing: window.missing(),
            goes_on: window.phase != Phase::Snapshot || !window.is_blank(),
            is_wide: window.is_sparse,
        }
    }
}

/// The result of a [`ReadStep`].
#[derive(Debug)]
pub(crate) struct StepResult {
    /// The changes since the subscriber's position.
    pub(crate) log: LogRead,
    /// What follows them.
    pub(crate) then: Then,
}

/// What follows the changes that a step has read.
#[derive(Debug)]
pub(crate) enum Then {
    /// Live changes, or further missed ones.
    CatchUp,
    /// The piece of a snapshot after this id, or further changes before it.
    ChangesBetweenPieces { after: Option<SortKey> },
    /// This piece of a snapshot.
    SnapshotPiece {
        records: Vec<Record>,
        /// The position at which the records were read.
        position: Position,
        after: Option<SortKey>,
        is_last: bool,
    },
}

/// A subscriber's place: what it reads, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) collection: Arc<Collection>,
    pub(crate) topic: Topic,
    pub(crate) grant: Arc<Grant>,
    pub(crate) position: Position,
    /// The end of the log, as far as it is known.
    pub(crate) head: Position,
    /// Which partial changes it needs whole.
    pub(crate) fill: Fill,
    /// What its window needs, if it has one.
    pub(crate) window: Option<Piece>,
}

impl Reader {
    /// Executes one step.
    pub(crate) async fn execute(
        &self,
        step: ReadStep,
        store: &dyn Store,
        pages: &LogPages,
    ) -> Result<StepResult, StoreError> {
        let then = match step {
            ReadStep::SnapshotPiece { after } => return self.read_piece(store, pages, after).await,
            ReadStep::CatchUp => Then::CatchUp,
            ReadStep::ChangesBetweenPieces { after } => Then::ChangesBetweenPieces { after },
        };
        let log = self.read_log(store, pages, self.head).await?;
        Ok(StepResult { log, then })
    }

    /// Reads the changes since the position: at least those up to this one, or a full page.
    async fn read_log(
        &self,
        store: &dyn Store,
        pages: &LogPages,
        up_to: Position,
    ) -> Result<LogRead, StoreError> {
        let collection = &self.collection;
        let page = pages.read(store, collection, self.position, up_to).await?;
        read_rows(store, collection, page, &self.fill, &self.topic).await
    }

    async fn read_piece(
        &self,
        store: &dyn Store,
        pages: &LogPages,
        after: Option<SortKey>,
    ) -> Result<StepResult, StoreError> {
        let topic = &self.topic;
        if let Some(id) = topic.id.clone() {
            let key = RecordKey {
                collection: Arc::clone(&topic.collection),
                id,
            };
            pages.count_read(&topic.collection);
            let (record, position) = store.get(&key).await?;
            let then = Then::SnapshotPiece {
                records: Vec::from_iter(record),
                position,
                after,
                is_last: true,
            };
            let log = LogRead::default();
            return Ok(StepResult { log, then });
        }
        let rows = match self.window {
            // Some more, since records may be hidden.
            Some(piece) if piece.is_wide => PIECE.rows,
            Some(piece) => piece.missing.clamp(MIN_PIECE_ROWS, PIECE.rows),
            None => PIECE.rows,
        };
        let listing = self
            .grant
            .listing(after.clone(), PageLimit { rows, ..PIECE });
        pages.count_read(&topic.collection);
        let page = store.list(&topic.collection, &listing).await?;
        let position = page.head;
        let mut log = LogRead::default();
        let goes_on = self.window.map_or(after.is_some(), |piece| piece.goes_on);
        if goes_on && position != self.position {
            log = self.read_log(store, pages, position).await?;
        }
        if let LogPage::Changes { changes, more } = &mut log.page {
            let reaches_piece = |change: &Arc<Change>| change.position.offset >= position.offset;
            if *more && !changes.last().is_some_and(reaches_piece) {
                // There are more changes than one read returns. They are read first, then this piece again.
                let then = Then::ChangesBetweenPieces { after };
                return Ok(StepResult { log, then });
            }
            changes.retain(|change| change.position.offset <= position.offset);
        }
        let then = Then::SnapshotPiece {
            records: page.records,
            position,
            after,
            is_last: !page.more,
        };
        Ok(StepResult { log, then })
    }
}

/// Whether the record of a change may be in the pieces up to this id. Only integers have the same order everywhere. A subscriber
/// may receive changes of other records before their pieces, which then have these records as they are.
pub(crate) fn is_in_pieces_up_to(after: Option<RecordId>) -> impl Fn(&Change) -> bool {
    move |change| match (&after, &change.key.id) {
        (Some(RecordId::Integer(after)), RecordId::Integer(id)) => id <= after,
        (after, _) => after.is_some(),
    }
}
