//! Opens cursors, for tests that compare what clients hold with the log.

use crate::model::cursor::{Cursor, Place};
use crate::model::cursor_key::CursorKey;
use crate::model::cursor_seal::{CursorError, CursorKeys};

/// Reads the text of a cursor that was sealed with this key.
///
/// # Errors
/// When the text is not a cursor of this collection, or was sealed with another key.
pub fn open_cursor(key: CursorKey, collection: &str, text: &str) -> Result<Cursor, CursorError> {
    match CursorKeys::new([key]).open(collection, text)? {
        Place::Cursor(cursor) => Ok(cursor),
        Place::InSnapshot(_) => Err(CursorError::Malformed),
    }
}
