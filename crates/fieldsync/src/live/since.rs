//! Where a subscription starts.

use crate::model::cursor::{Cursor, MalformedCursor, Position, ResetReason, Resume};
use crate::model::record::RecordId;
use crate::schema::collection::Collection;

/// Where a subscription starts.
#[derive(Debug, Clone)]
pub(crate) enum Since {
    /// With a snapshot.
    Snapshot,
    /// With a reset, and then a snapshot: what the subscriber has can't be continued.
    Lost(ResetReason),
    /// With the live changes after this position, which was the head of the hub a moment ago.
    Position(Position),
    /// With the changes after this cursor.
    Cursor(Cursor),
    /// With the rest of a snapshot, after this record and this cursor.
    InSnapshot(Cursor, RecordId),
}

impl Since {
    /// Reads a place in a snapshot of this collection.
    pub(crate) fn resume(text: &str, collection: &Collection) -> Result<Self, MalformedCursor> {
        let Resume { cursor, after } = text.parse()?;
        let after = collection.parse_id(&after).ok_or(MalformedCursor)?;
        Ok(Self::InSnapshot(cursor, after))
    }

    /// Reads a cursor, or a place in a snapshot of this collection.
    pub(crate) fn cursor_or_resume(
        text: &str,
        collection: &Collection,
    ) -> Result<Self, MalformedCursor> {
        let cursor = text.parse().map(Self::Cursor);
        cursor.or_else(|_| Self::resume(text, collection))
    }
}

impl From<Option<Cursor>> for Since {
    fn from(cursor: Option<Cursor>) -> Self {
        cursor.map_or(Self::Snapshot, Self::Cursor)
    }
}
