//! START HERE. The engine: [`Caller::transaction`] is the way of a write, [`Caller::subscribe`] the way back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use crate::engine::caller::Caller;
use crate::engine::group_commit::Committer;
use crate::engine::settings::Settings;
use crate::error::EngineError;
use crate::live::hub_registry::HubRegistry;
use crate::live::subscription::Subscription;
use crate::model::cursor::{Cursor, Position};
use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::principal::Principal;
use crate::model::record::{Record, RecordId, RecordKey, Stored};
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::store::store::Store;

/// How long an edit may take, from the request's arrival on.
pub(crate) const EDIT_TIME: Duration = Duration::from_secs(10);

/// The whole, as the app holds it: collections, their tables, and everybody who listens. A cheap clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fieldsync::{Collection, Engine, MemoryStore};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize, JsonSchema)]
/// #[serde(default)]
/// struct User { first_name: String, last_name: String }
///
/// let engine = Engine::builder()
///     .collection(Collection::of::<User>("users").timestamps().open_to_everyone())
///     .store(MemoryStore::new())
///     .start()
///     .await?;
///
/// let user = engine.create("users", User { first_name: "Ada".into(), last_name: "King".into() }).await?;
/// engine.edit(("users", user.id), |user: &mut User| user.last_name = "Lovelace".into()).await?;
/// let user = engine.get::<User>(("users", user.id)).await?.expect("it was just made");
/// assert_eq!(user.fields.last_name, "Lovelace");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) collections: BTreeMap<Arc<str>, Arc<Collection>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hubs: Arc<HubRegistry>,
    pub(crate) committer: Committer,
    pub(crate) settings: Settings,
    pub(crate) stopping: watch::Sender<bool>,
    /// Edits and connections that are under way; a drain waits for them.
    pub(crate) under_way: watch::Sender<usize>,
    pub(crate) tasks: Vec<tokio::task::AbortHandle>,
}

impl Engine {
    /// Begins to describe an engine.
    pub fn builder() -> crate::EngineBuilder {
        crate::EngineBuilder::new()
    }

    pub(crate) fn new(
        collections: BTreeMap<Arc<str>, Arc<Collection>>,
        store: Arc<dyn Store>,
        hubs: Arc<HubRegistry>,
        committer: Committer,
        settings: Settings,
        tasks: Vec<tokio::task::AbortHandle>,
    ) -> Self {
        let (stopping, under_way) = (watch::Sender::new(false), watch::Sender::new(0));
        Self {
            inner: Arc::new(Inner {
                collections,
                store,
                hubs,
                committer,
                settings,
                stopping,
                under_way,
                tasks,
            }),
        }
    }

    /// The engine as somebody sees it: what one may not read is not there, what one may not do is refused.
    #[must_use]
    pub fn on_behalf_of(&self, who: Principal) -> Caller<'_> {
        Caller {
            engine: self,
            who: Some(who),
        }
    }

    /// The ends of the logs that have a feed, in the order of the feeds.
    pub(crate) fn ends_of_feeds(&self) -> Vec<Position> {
        let Inner { settings, hubs, .. } = &*self.inner;
        let feeds = settings.feeds.iter();
        feeds
            .map(|(collection, _)| hubs.of(collection).head())
            .collect()
    }

    /// The engine as the app itself sees it: everything, whatever the rules say. The methods below are typed shorthands.
    fn as_app(&self) -> Caller<'_> {
        Caller {
            engine: self,
            who: None,
        }
    }

    /// Reads a record. `Stored<Fields>` reads any collection without a type of its own.
    ///
    /// # Errors
    /// When the collection is unknown, the store fails, or the record does not fit the type.
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<Stored<T>>, EngineError> {
        let key = key.into();
        self.as_app().collection(&key.collection)?;
        let (record, _) = self.inner.store.get(&key).await?;
        record
            .map(|record| typed(record, &key.collection))
            .transpose()
    }

    /// Reads records in the order of their ids, from the one after `after`, at most `limit`.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Stored<T>>, EngineError> {
        self.as_app().collection(collection)?;
        let (records, _) = self.inner.store.list(collection, after, limit).await?;
        records
            .into_iter()
            .map(|record| typed(record, collection))
            .collect()
    }

    /// Creates a record.
    ///
    /// # Errors
    /// When the edit is refused or the store fails; [`EngineError`] tells which.
    pub async fn create<T: Serialize + DeserializeOwned>(
        &self,
        collection: &str,
        fields: T,
    ) -> Result<Stored<T>, EngineError> {
        self.apply_typed(Edit::create(collection, &fields)).await
    }

    /// Sets fields of a record, by JSON Merge Patch (RFC 7396).
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        key: impl Into<RecordKey>,
        patch: impl Serialize,
    ) -> Result<Stored<T>, EngineError> {
        self.apply_typed(Edit::patch(key, patch)).await
    }

    /// Sets those fields of a record that the closure changes. It is called inside the transaction with the current
    /// record, must not block, and may be called more than once.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub async fn edit<T, F>(
        &self,
        key: impl Into<RecordKey>,
        change: F,
    ) -> Result<Stored<T>, EngineError>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(&mut T) + Send + Sync + 'static,
    {
        self.apply_typed(Edit::update(key, change)).await
    }

    /// Deletes a record.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub async fn delete(&self, key: impl Into<RecordKey>) -> Result<(), EngineError> {
        self.transaction(vec![Edit::delete(key)]).await.map(drop)
    }

    /// Announces what SQL of the app's own did to a record.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub async fn touch(&self, key: impl Into<RecordKey>) -> Result<(), EngineError> {
        self.transaction(vec![Edit::refresh(key)]).await.map(drop)
    }

    /// Applies several edits, all or none, and answers with an outcome for each.
    ///
    /// Dropping the future does not take the edits back: they are committed, or not, as a whole.
    ///
    /// # Errors
    /// As [`Engine::create`]; the first edit that is refused refuses all.
    pub async fn transaction(&self, edits: Vec<Edit>) -> Result<Vec<Outcome>, EngineError> {
        let as_app = self.as_app();
        as_app.check_ready()?;
        let mut allowed = Vec::with_capacity(edits.len());
        for edit in edits {
            let rights = as_app.rights(edit.access(), edit.collection()).await?;
            allowed.push((edit, rights));
        }
        as_app.commit(allowed, Instant::now()).await
    }

    /// Hears of every change of a collection, or of one record: after a snapshot, or after a cursor.
    ///
    /// # Errors
    /// When the collection is unknown.
    pub async fn subscribe(
        &self,
        topic: impl Into<Topic>,
        since: Option<Cursor>,
    ) -> Result<Subscription, EngineError> {
        self.as_app().subscribe(topic, since).await
    }

    /// Stops: takes no more edits, ends subscriptions, closes connections with 1012 and a random retry delay, and waits
    /// for the edits under way, at most until the deadline. True when all was done in time.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.inner.stopping.send_replace(true);
        self.inner.hubs.close();
        let mut under_way = self.inner.under_way.subscribe();
        tokio::time::timeout(deadline, under_way.wait_for(|count| *count == 0))
            .await
            .is_ok()
    }

    /// Whether the engine takes edits: for the app's health check.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !*self.inner.stopping.borrow()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn collections(&self) -> &BTreeMap<Arc<str>, Arc<Collection>> {
        &self.inner.collections
    }

    /// Counts something as under way until it is dropped.
    pub(crate) fn under_way(&self) -> InProgress {
        self.inner.under_way.send_modify(|count| *count += 1);
        InProgress(self.clone())
    }

    /// Resolves when the engine drains.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as the engine, so that this fails never.
        let _ = self
            .inner
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }

    async fn apply_typed<T: DeserializeOwned>(&self, edit: Edit) -> Result<Stored<T>, EngineError> {
        let collection = Arc::clone(edit.collection());
        let mut outcomes = self.transaction(vec![edit]).await?;
        let record = outcomes
            .remove(0)
            .record()
            .expect("neither a create nor a patch deletes");
        typed(record, &collection)
    }
}

fn typed<T: DeserializeOwned>(record: Record, collection: &str) -> Result<Stored<T>, EngineError> {
    let key = RecordKey::new(collection, record.id);
    record
        .typed()
        .map_err(|source| EngineError::Unreadable { key, source })
}

/// Something that a drain waits for.
#[derive(Debug)]
pub(crate) struct InProgress(Engine);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.inner.under_way.send_modify(|count| *count -= 1);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
        self.hubs.close();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("collections", &self.inner.collections)
            .finish_non_exhaustive()
    }
}
