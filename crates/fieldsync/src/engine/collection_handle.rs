//! A collection of an engine by its Rust type: how the app's own code reads and writes records.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::engine::Engine;
use crate::error::EngineError;
use crate::live::subscription::Subscription;
use crate::model::cursor::Cursor;
use crate::model::edit::{Edit, UpdateResult};
use crate::model::record::{Record, RecordId, RecordKey, Stored};
use crate::schema::field::SetBy;

/// A collection of an engine by its Rust type, from [`Engine::collection`]. A clone is cheap.
///
/// The app's own code reads and writes through it: every field of every record, without asking the authorizer.
/// `CollectionHandle<Fields>` works for a collection without a type of its own.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use fieldsync::{Collection, Engine, FieldErrors, MemoryStore};
/// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # #[serde(default)]
/// # struct Item { quantity: u32 }
/// # let engine = Engine::builder()
/// #     .collection(Collection::of::<Item>("items").open_to_everyone())
/// #     .store(MemoryStore::new())
/// #     .start()
/// #     .await?;
/// let items = engine.collection::<Item>("items");
/// let item = items.create(Item { quantity: 1 }).await?;
///
/// let result = items.update(item.id, |item| {
///     item.quantity = item.quantity.checked_sub(2).ok_or_else(|| FieldErrors::one("quantity", "is not in stock"))?;
///     Ok(())
/// });
/// assert!(result.await.is_err());
/// # Ok(())
/// # }
/// ```
pub struct CollectionHandle<T> {
    engine: Engine,
    name: Arc<str>,
    record: PhantomData<fn() -> T>,
}

impl Engine {
    /// The collection with this name, whose records have this type.
    ///
    /// The methods of the handle fail when the engine has no such collection.
    pub fn collection<T>(&self, name: impl Into<Arc<str>>) -> CollectionHandle<T> {
        CollectionHandle {
            engine: self.clone(),
            name: name.into(),
            record: PhantomData,
        }
    }
}

impl<T> CollectionHandle<T> {
    /// The collection's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Deletes a record.
    ///
    /// # Errors
    /// When the edit is refused, the store fails, or the engine is stopping.
    pub async fn delete(&self, id: impl Into<RecordId>) -> Result<(), EngineError> {
        let edit = Edit::delete(self.key(id));
        self.engine.transaction(vec![edit]).await.map(drop)
    }

    /// Subscribes to all records: a snapshot first, or what has changed since a cursor, then every change.
    ///
    /// # Errors
    /// When the collection is unknown.
    pub async fn subscribe(&self, since: Option<Cursor>) -> Result<Subscription, EngineError> {
        self.engine.subscribe(&*self.name, since).await
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    fn key(&self, id: impl Into<RecordId>) -> RecordKey {
        RecordKey {
            collection: Arc::clone(&self.name),
            id: id.into(),
        }
    }
}

impl<T: DeserializeOwned> CollectionHandle<T> {
    /// Reads a record. `None` when it does not exist.
    ///
    /// # Errors
    /// When the collection is unknown, the store fails, or the record does not fit the type.
    pub async fn get(&self, id: impl Into<RecordId>) -> Result<Option<Stored<T>>, EngineError> {
        let (key, collection) = (self.key(id), self.engine.known_collection(&self.name)?);
        if !collection.has_id_kind(&key.id) {
            return Ok(None);
        }
        let (record, _) = self.engine.store().get(&key).await?;
        record.map(|record| self.typed(record)).transpose()
    }

    /// Creates a record.
    ///
    /// If the stored record does not fit `T`, the call fails although the edit is committed. Dropping the future does not
    /// cancel the edit: it is committed, or not. The same holds for the other methods that write.
    ///
    /// # Errors
    /// When the edit is refused, the store fails, or the engine is stopping.
    pub async fn create(&self, fields: T) -> Result<Stored<T>, EngineError>
    where
        T: Serialize,
    {
        self.apply(Edit::create(Arc::clone(&self.name), &fields))
            .await
    }

    /// Sets fields of a record, by JSON Merge Patch (RFC 7396).
    ///
    /// # Errors
    /// Same as [`CollectionHandle::create`].
    pub async fn patch(
        &self,
        id: impl Into<RecordId>,
        patch: impl Serialize,
    ) -> Result<Stored<T>, EngineError> {
        self.apply(Edit::patch(self.key(id), patch)).await
    }

    /// Sets the fields of a record that the closure changes.
    ///
    /// The closure runs inside the transaction with the current record. It must not block, and it may run more than
    /// once. To refuse the edit it returns `Err(FieldErrors)`.
    ///
    /// # Errors
    /// Same as [`CollectionHandle::create`].
    pub async fn update<F, R>(
        &self,
        id: impl Into<RecordId>,
        change: F,
    ) -> Result<Stored<T>, EngineError>
    where
        T: Serialize,
        F: Fn(&mut T) -> R + Send + Sync + 'static,
        R: UpdateResult,
    {
        self.apply(Edit::update(self.key(id), change)).await
    }

    async fn apply(&self, edit: Edit) -> Result<Stored<T>, EngineError> {
        let mut outcomes = self.engine.transaction(vec![edit]).await?;
        let record = outcomes.remove(0).record();
        self.typed(record.expect("neither a create nor a patch deletes its record"))
    }

    pub(crate) fn typed(&self, record: Record) -> Result<Stored<T>, EngineError> {
        let key = self.key(record.id.clone());
        let collection = self.engine.known_collection(&self.name)?;
        // Fields that the engine adds are not part of the type.
        let name_of = |set_by| {
            let field = collection.field_set_by(set_by);
            let added = field.filter(|field| !field.is_own);
            added.map(|field| &*field.name)
        };
        let (created_at, updated_at) = (name_of(SetBy::CreatedAt), name_of(SetBy::UpdatedAt));
        let typed = record.typed_with_timestamps(created_at, updated_at);
        typed.map_err(|source| EngineError::Unreadable { key, source })
    }
}

impl<T> Clone for CollectionHandle<T> {
    fn clone(&self) -> Self {
        self.engine.collection(Arc::clone(&self.name))
    }
}

impl<T> fmt::Debug for CollectionHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CollectionHandle").field(&self.name).finish()
    }
}
