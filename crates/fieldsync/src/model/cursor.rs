//! Positions in a collection's change log, and cursors, which are positions and what they were made for. `cursor_seal` makes
//! the text that clients keep.

use std::fmt;

/// A position in a collection's change log: right after the change with this offset.
///
/// The start of a log, before its first change, has the offset 0 and the tag 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The id of the log, a random number that is chosen when the log is created.
    pub epoch: u64,
    /// The number of the last change before this position. Offsets rise by one, in commit order.
    pub offset: u64,
    /// The tag of that change, a random number. After a database is restored, its log reaches the same offsets again
    /// with other changes; the tags tell them apart.
    pub tag: u32,
}

/// What a cursor was made for. A subscriber can only resume from a cursor of its own shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// The identity of the collection's fields and their types.
    pub(crate) schema: u32,
    /// The identity of what the grant shows: the visible fields and the visible records.
    pub(crate) view: u32,
}

/// A position in a collection's change log, and what it was made for. A subscription that starts from it misses nothing.
///
/// A cursor also records the collection's fields and the subscriber's grant. If either has changed, a subscriber that
/// resumes from it receives a [`ResetReason`] and a snapshot.
///
/// Clients have cursors as sealed text, which they can neither read nor make. In the app's own code
/// [`Engine::seal_cursor`](crate::Engine::seal_cursor) makes that text, and [`Engine::open_cursor`](crate::Engine::open_cursor)
/// reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub(crate) position: Position,
    pub(crate) shape: Shape,
}

/// The number of bytes of a cursor.
pub(crate) const CURSOR_BYTES: usize = 28;

/// The bytes of an id are filled up to a multiple of this.
const ID_BLOCK: usize = 16;

/// What ends an id, before it is filled up with zeros.
const ID_END: u8 = 0x80;

/// Where a snapshot that was cut goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The position at which the subscriber knows the records up to `after`.
    pub(crate) cursor: Cursor,
    /// The id of the last record that the subscriber has, or that it may not see, as text.
    pub(crate) after: String,
}

/// Where a subscriber can go on after a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Cursor(Cursor),
    InSnapshot(Resume),
}

impl Place {
    /// Its bytes: those of the cursor, then those of the id. How long these are shows only roughly how long the id is, which may
    /// be that of a record which the subscriber may not see.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Cursor(cursor) => cursor.to_bytes().to_vec(),
            Self::InSnapshot(Resume { cursor, after }) => {
                let mut id = after.as_bytes().to_vec();
                id.push(ID_END);
                id.resize(id.len().next_multiple_of(ID_BLOCK), 0);
                [&cursor.to_bytes()[..], &id].concat()
            }
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has made.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (cursor, id) = bytes.split_first_chunk()?;
        let cursor = Cursor::from_bytes(*cursor)?;
        if id.is_empty() {
            return Some(Self::Cursor(cursor));
        }
        let end = id.iter().rposition(|byte| *byte != 0)?;
        let after = std::str::from_utf8(&id[..end]).ok()?;
        (id[end] == ID_END).then(|| {
            Self::InSnapshot(Resume {
                cursor,
                after: after.to_owned(),
            })
        })
    }
}

impl Cursor {
    /// The position. It is for the app's logs and metrics: clients get the cursor as sealed text.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    fn to_bytes(self) -> [u8; CURSOR_BYTES] {
        let Self {
            position: Position { epoch, offset, tag },
            shape,
        } = self;
        let mut bytes = [0; CURSOR_BYTES];
        bytes[..8].copy_from_slice(&epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&offset.to_be_bytes());
        bytes[16..20].copy_from_slice(&tag.to_be_bytes());
        bytes[20..24].copy_from_slice(&shape.schema.to_be_bytes());
        bytes[24..].copy_from_slice(&shape.view.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; CURSOR_BYTES]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| {
            bytes[range]
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let position = Position {
            epoch: number(0..8),
            offset: number(8..16),
            tag: number(16..20) as u32,
        };
        let shape = Shape {
            schema: number(20..24) as u32,
            view: number(24..28) as u32,
        };
        i64::try_from(position.offset).ok()?;
        Some(Self { position, shape })
    }
}

/// Why a subscriber can't resume from its cursor and receives a snapshot instead. Displayed as one lower-case word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The cursor belongs to another log: the table's log was created anew.
    Epoch,
    /// The database was restored to an earlier state.
    Restored,
    /// The changes after the cursor have been trimmed from the log.
    Trimmed,
    /// The table was changed in a way that can't be captured: it was truncated, rebuilt, or its triggers were disabled.
    Capture,
    /// The collection's fields or their types have changed.
    Schema,
    /// The subscriber's grant shows other fields or other records than before.
    View,
    /// The cursor can't be opened: it was sealed with a key that the engine does not have, it is from another collection, or it
    /// was forged.
    Key,
}

impl ResetReason {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Restored => "restored",
            Self::Trimmed => "trimmed",
            Self::Capture => "capture",
            Self::Schema => "schema",
            Self::View => "view",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: Cursor = Cursor {
        position: Position {
            epoch: u64::MAX - 1,
            offset: 2,
            tag: 3,
        },
        shape: Shape { schema: 4, view: 5 },
    };

    fn in_snapshot(after: &str) -> Place {
        Place::InSnapshot(Resume {
            cursor: CURSOR,
            after: after.to_owned(),
        })
    }

    #[test]
    fn a_place_is_read_from_its_bytes() {
        let long = "long".repeat(256);
        let places = ["", "7", "é", "\0", &long].map(in_snapshot);
        for place in places.into_iter().chain([Place::Cursor(CURSOR)]) {
            assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place));
        }
    }

    #[test]
    fn ids_of_similar_lengths_have_equally_many_bytes() {
        let bytes = |after| in_snapshot(after).to_bytes().len();
        assert_eq!(bytes("7"), bytes("123456789012345"));
        assert_eq!(Place::Cursor(CURSOR).to_bytes().len(), 28);
    }

    #[test]
    fn other_bytes_are_no_place() {
        let cursor = CURSOR.to_bytes();
        let offset_too_large = [0xFF; CURSOR_BYTES];
        assert_eq!(Place::from_bytes(&cursor[1..]), None);
        assert_eq!(Place::from_bytes(&offset_too_large), None);
        for id in [&[0; 16][..], b"7", b"\xFF\x80"] {
            assert_eq!(Place::from_bytes(&[&cursor[..], id].concat()), None);
        }
    }
}
