//! A store that passes each call on to another, after a hook of the test.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use fieldsync::backend::{
    Batch, ChangesSince, Committed, ForeignKey, Listing, LoggedCaptures, PageLimit, Position,
    RecordPage, Store, StoreError, TableDescription,
};
use fieldsync::{Collection, CursorKey, Record, RecordId, RecordKey, Retention};

/// What a test does with the calls of a store.
#[async_trait]
pub(crate) trait Hooks: Debug + Send + Sync + 'static {
    /// The store that the calls are passed on to.
    fn store(&self) -> Arc<dyn Store>;

    /// Runs before a call is passed on. With an error the call returns that instead.
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError>;
}

/// A call of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call<'a> {
    Prepare(&'a [Arc<Collection>]),
    Commit(&'a Batch),
    ChangesOf,
    Heads,
    Other,
}

/// A store with hooks.
#[derive(Debug, Clone)]
pub(crate) struct Hooked(pub(crate) Arc<dyn Hooks>);

impl Hooked {
    async fn store(&self, call: Call<'_>) -> Result<Arc<dyn Store>, StoreError> {
        self.0.before(call).await?;
        Ok(self.0.store())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Hooked {
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError> {
        let store = self.store(Call::Prepare(collections)).await?;
        store.prepare(collections).await
    }
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let store = self.store(Call::Commit(&batch)).await?;
        store.commit(batch).await
    }
    async fn log_captured(&self, retention: Retention) -> Result<LoggedCaptures, StoreError> {
        let store = self.store(Call::Other).await?;
        store.log_captured(retention).await
    }
    async fn captured(&self) {
        self.0.store().captured().await;
    }
    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError> {
        self.store(Call::Other).await?.get(key).await
    }
    async fn get_many(
        &self,
        collection: &str,
        ids: &[RecordId],
        limit: PageLimit,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let store = self.store(Call::Other).await?;
        store.get_many(collection, ids, limit).await
    }
    async fn list(&self, collection: &str, listing: &Listing) -> Result<RecordPage, StoreError> {
        let store = self.store(Call::Other).await?;
        store.list(collection, listing).await
    }
    async fn explain(&self, collection: &str, listing: &Listing) -> Result<String, StoreError> {
        let store = self.store(Call::Other).await?;
        store.explain(collection, listing).await
    }
    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: PageLimit,
    ) -> Result<ChangesSince, StoreError> {
        let store = self.store(Call::Other).await?;
        store.changes(collection, since, limit).await
    }
    async fn changes_of(
        &self,
        key: &RecordKey,
        since: Position,
    ) -> Result<ChangesSince, StoreError> {
        let store = self.store(Call::ChangesOf).await?;
        store.changes_of(key, since).await
    }
    async fn tables(&self) -> Result<Vec<TableDescription>, StoreError> {
        self.store(Call::Other).await?.tables().await
    }
    fn foreign_keys(&self) -> Vec<ForeignKey> {
        self.0.store().foreign_keys()
    }
    fn max_subscriber_reads(&self) -> usize {
        self.0.store().max_subscriber_reads()
    }
    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        self.store(Call::Heads).await?.heads().await
    }
    async fn cursor_key(&self) -> Result<CursorKey, StoreError> {
        self.store(Call::Other).await?.cursor_key().await
    }
    async fn trim(&self, retention: Retention) -> Result<bool, StoreError> {
        self.store(Call::Other).await?.trim(retention).await
    }
}
