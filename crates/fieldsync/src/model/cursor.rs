//! Places in a collection's change log.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A place in a collection's change log, as the store knows it: after the change with this offset.
///
/// The start of a log, before its first change, has offset 0 and tag 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The random id of the log, made with its head row.
    pub epoch: u64,
    /// The number of the last change before this place. Rises by one in commit order.
    pub offset: u64,
    /// The random tag of that change. It tells a restored log that has grown again from the one that was lost.
    pub tag: u32,
}

/// What a cursor was made for. One made for another shape can't be resumed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// A hash of the collection's fields and their types.
    pub(crate) schema: u32,
    /// A hash of what one may see of them.
    pub(crate) view: u32,
}

/// A place in a collection's change log, as clients keep it: opaque text.
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

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position: Position { epoch, offset, tag },
            shape,
        } = self;
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&offset.to_be_bytes());
        bytes[16..20].copy_from_slice(&tag.to_be_bytes());
        bytes[20..24].copy_from_slice(&shape.schema.to_be_bytes());
        bytes[24..].copy_from_slice(&shape.view.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is not a cursor that this server gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed cursor")]
pub struct MalformedCursor;

impl FromStr for Cursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let bytes: [u8; 28] = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(MalformedCursor)?;
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

/// Why a subscriber can't go on from its cursor and begins with a snapshot again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The log is another one: the database was made anew, or the cursor is of another collection.
    Epoch,
    /// The database was restored to an earlier state.
    Restored,
    /// The log no longer goes back that far.
    Trimmed,
    /// The collection's fields have changed.
    Schema,
    /// What one may see has changed.
    View,
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoch => "epoch",
            Self::Restored => "restored",
            Self::Trimmed => "trimmed",
            Self::Schema => "schema",
            Self::View => "view",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
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
        let cursor = Cursor {
            position: Position {
                epoch: 1,
                offset: 2,
                tag: 3,
            },
            shape: Shape { schema: 4, view: 5 },
        }
        .to_string();
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
