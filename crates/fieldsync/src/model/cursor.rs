//! Positions in a collection's change log, and the cursors that clients keep.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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

/// A position in a collection's change log, as clients keep it. Its text is opaque: 38 characters of unpadded base64url
/// (RFC 4648, section 5).
///
/// A cursor also records the collection's fields and the subscriber's grant. If either has changed, a subscriber that
/// resumes from it receives a [`ResetReason`] and a snapshot.
///
/// ```
/// use fieldsync::Cursor;
/// assert!("not a cursor".parse::<Cursor>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub(crate) position: Position,
    pub(crate) shape: Shape,
}

/// The number of bytes of a cursor.
const CURSOR_BYTES: usize = 28;

/// Where a snapshot that was cut goes on. Its text is opaque: that of a cursor and the id in unpadded base64url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The position at which the subscriber knows the records up to `after`.
    pub(crate) cursor: Cursor,
    /// The id of the last record that the subscriber has, or that it may not see, as text.
    pub(crate) after: String,
}

/// Where a subscriber can go on after a message. Its text is that of a cursor, or of a place in a snapshot, which is longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Cursor(Cursor),
    InSnapshot(Resume),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cursor(cursor) => cursor.fmt(f),
            Self::InSnapshot(resume) => resume.fmt(f),
        }
    }
}

impl fmt::Display for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.cursor.to_bytes().to_vec();
        bytes.extend(self.after.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Resume {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MalformedCursor)?;
        let (cursor, after) = bytes
            .split_first_chunk::<CURSOR_BYTES>()
            .ok_or(MalformedCursor)?;
        let after = std::str::from_utf8(after).map_err(|_| MalformedCursor)?;
        Ok(Self {
            cursor: Cursor::from_bytes(*cursor)?,
            after: after.to_owned(),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.to_bytes()))
    }
}

impl Cursor {
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

    fn from_bytes(bytes: [u8; CURSOR_BYTES]) -> Result<Self, MalformedCursor> {
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
        if i64::try_from(position.offset).is_err() {
            return Err(MalformedCursor);
        }
        Ok(Self {
            position,
            shape: Shape {
                schema: number(20..24) as u32,
                view: number(24..28) as u32,
            },
        })
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed cursor")]
pub struct MalformedCursor;

impl FromStr for Cursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        Self::from_bytes(bytes.ok_or(MalformedCursor)?)
    }
}

/// Why a subscriber can't resume from its cursor and receives a snapshot instead. Displayed as one lower-case word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The cursor belongs to another log: the database was created anew, or the cursor is from another collection.
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
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoch => "epoch",
            Self::Restored => "restored",
            Self::Trimmed => "trimmed",
            Self::Capture => "capture",
            Self::Schema => "schema",
            Self::View => "view",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: Cursor = Cursor {
        position: Position {
            epoch: 1,
            offset: 2,
            tag: 3,
        },
        shape: Shape { schema: 4, view: 5 },
    };

    #[test]
    fn a_place_in_a_snapshot_is_parsed_from_its_text() {
        let cursor = CURSOR;
        for after in ["7", "é", &"long".repeat(300)] {
            let after = after.to_owned();
            let resume = Resume { cursor, after };
            assert_eq!(resume.to_string().parse(), Ok(resume));
        }
        let too_short = URL_SAFE_NO_PAD.encode([0; 27]);
        assert_eq!(too_short.parse::<Resume>(), Err(MalformedCursor));
        let not_utf8 = URL_SAFE_NO_PAD.encode([0xFF; 40]);
        assert_eq!(not_utf8.parse::<Resume>(), Err(MalformedCursor));
    }

    #[test]
    fn a_cursor_is_parsed_from_its_text() {
        let position = Position {
            epoch: u64::MAX - 1,
            offset: 42,
            tag: 7,
        };
        let cursor = Cursor {
            position,
            shape: Shape {
                schema: 9,
                view: 10,
            },
        };
        assert_eq!(cursor.to_string().len(), 38);
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn other_text_is_malformed() {
        let cursor = CURSOR.to_string();
        for text in [
            "",
            "x",
            &cursor[1..],
            &format!("{cursor}A"),
            &"_".repeat(38),
            &"é".repeat(19),
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(MalformedCursor), "{text}");
        }
    }
}
