//! Where a subscription starts.

use crate::model::cursor::{Cursor, Place, Position, ResetReason, Resume};
use crate::model::cursor_seal::{CursorError, CursorKeys};
use crate::model::record::RecordId;
use crate::schema::collection::Collection;

/// Where a subscription starts.
#[derive(Debug, Clone)]
pub(crate) enum Since {
    /// With a snapshot.
    Snapshot,
    /// With a reset for this reason, and then a snapshot: what the subscriber has can't be continued.
    Lost(ResetReason),
    /// With the live changes after this position, which was the head of the hub a moment ago.
    Position(Position),
    /// With the changes after this cursor.
    Cursor(Cursor),
    /// With the rest of a snapshot, after this record and this cursor.
    InSnapshot(Cursor, RecordId),
}

/// The text is neither a cursor nor a place in a snapshot, or not the one that was to be given.
#[derive(Debug)]
pub(crate) struct MalformedPlace;

impl Since {
    /// Reads the text of a cursor of this collection.
    pub(crate) fn cursor(
        text: &str,
        collection: &Collection,
        keys: &CursorKeys,
    ) -> Result<Self, MalformedPlace> {
        match Self::cursor_or_resume(text, collection, keys)? {
            Self::InSnapshot(..) => Err(MalformedPlace),
            since => Ok(since),
        }
    }

    /// Reads the text of a place in a snapshot of this collection.
    pub(crate) fn resume(
        text: &str,
        collection: &Collection,
        keys: &CursorKeys,
    ) -> Result<Self, MalformedPlace> {
        match Self::cursor_or_resume(text, collection, keys)? {
            Self::Cursor(_) => Err(MalformedPlace),
            since => Ok(since),
        }
    }

    /// Reads the text of a cursor, or of a place in a snapshot of this collection.
    pub(crate) fn cursor_or_resume(
        text: &str,
        collection: &Collection,
        keys: &CursorKeys,
    ) -> Result<Self, MalformedPlace> {
        Ok(match keys.open(collection.name(), text) {
            Ok(Place::Cursor(cursor)) => Self::Cursor(cursor),
            Ok(Place::InSnapshot(Resume { cursor, after })) => match collection.parse_id(&after) {
                Some(after) => Self::InSnapshot(cursor, after),
                None => Self::Lost(ResetReason::Schema),
            },
            Err(CursorError::Key) => Self::Lost(ResetReason::Key),
            Err(CursorError::Malformed) => return Err(MalformedPlace),
        })
    }
}

impl From<Option<Cursor>> for Since {
    fn from(cursor: Option<Cursor>) -> Self {
        cursor.map_or(Self::Snapshot, Self::Cursor)
    }
}
