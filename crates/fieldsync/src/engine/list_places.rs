//! The places at which later pages of a list begin, as sealed text.

use serde_json::Value;

use crate::engine::engine::Engine;
use crate::model::cursor::{Cursor, Place, Resume};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::sorting::SortKey;

impl Engine {
    /// The text of a place in a list, for the holder of this grant and with its query alone.
    pub(crate) fn seal_place(
        &self,
        collection: &Collection,
        grant: &Grant,
        list: Cursor,
        SortKey { mut values, id }: SortKey,
    ) -> String {
        values.push(id.to_string().into());
        let cursor = Cursor {
            shape: collection.shape(&bound(grant)),
            ..list
        };
        let after = Value::Array(values).to_string();
        let place = Place::InSnapshot(Resume { cursor, after });
        self.cursor_keys().seal(collection.name(), &place)
    }

    /// Reads the text of a place in a list. `None` if it was not made for this list.
    pub(crate) fn open_place(
        &self,
        collection: &Collection,
        grant: &Grant,
        text: &str,
    ) -> Option<SortKey> {
        let place = self.cursor_keys().open(collection.name(), text).ok()?;
        let Place::InSnapshot(Resume { cursor, after }) = place else {
            return None;
        };
        if cursor.shape != collection.shape(&bound(grant)) {
            return None;
        }
        let mut values: Vec<Value> = serde_json::from_str(&after).ok()?;
        let id = collection.parse_id(values.pop()?.as_str()?)?;
        Some(SortKey { values, id })
    }
}

/// The grant, with an identity that is of its order, too.
fn bound(grant: &Grant) -> Grant {
    let window = Some(0);
    Grant {
        window,
        ..grant.clone()
    }
}
