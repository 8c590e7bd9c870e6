//! Cursors as text, for the app's own code. The routes and sockets of an adapter make and read it themselves.

use crate::engine::engine::Engine;
use crate::model::cursor::{Cursor, Place};
use crate::model::cursor_seal::{CursorError, CursorKeys};

impl Engine {
    /// The text of a cursor of this collection, as clients have it: opaque, and sealed with the engine's key.
    ///
    /// For a handler of the app's own that hands out records, so that its clients can subscribe from there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use fieldsync::{Collection, Engine, MemoryStore, Principal};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Item { quantity: u32 }
    /// # let engine = Engine::builder()
    /// #     .collection(Collection::of::<Item>("items").open_to_everyone())
    /// #     .store(MemoryStore::new())
    /// #     .start()
    /// #     .await?;
    /// let page = engine.on_behalf_of(Principal::named("ada")).list("items", None, 50).await?;
    /// let text = engine.seal_cursor("items", page.cursor);
    /// assert_eq!(engine.open_cursor("items", &text), Ok(page.cursor));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn seal_cursor(&self, collection: &str, cursor: Cursor) -> String {
        self.cursor_keys().seal(collection, &Place::Cursor(cursor))
    }

    /// Reads the text of a cursor of this collection.
    ///
    /// # Errors
    /// When the text is not a cursor, or not one that this engine can open.
    pub fn open_cursor(&self, collection: &str, text: &str) -> Result<Cursor, CursorError> {
        match self.cursor_keys().open(collection, text)? {
            Place::Cursor(cursor) => Ok(cursor),
            Place::InSnapshot(_) => Err(CursorError::Malformed),
        }
    }

    pub(crate) fn cursor_keys(&self) -> &CursorKeys {
        &self.settings().cursor_keys
    }
}
