//! START HERE. The engine: [`Caller::transaction`] is the way of a write, [`Caller::subscribe`] the way back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::authorize::{Access, Denied, Grant, Principal, View};
use crate::batch::Group;
use crate::collection::Collection;
use crate::commit::Committer;
use crate::cursor::{Cursor, Position};
use crate::edit::{Edit, EngineError, Outcome, Refusal};
use crate::hubs::Hubs;
use crate::record::{Fields, Record, RecordId, RecordKey, Stored};
use crate::settings::Settings;
use crate::store::Store;
use crate::subscription::{Since, Subscription};
use crate::topic::Topic;

/// How long an edit may take, from the request's arrival on.
const EDIT_TIME: Duration = Duration::from_secs(10);

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
    inner: Arc<Inner>,
}

struct Inner {
    collections: BTreeMap<Arc<str>, Arc<Collection>>,
    store: Arc<dyn Store>,
    hubs: Arc<Hubs>,
    committer: Committer,
    settings: Settings,
    stopping: watch::Sender<bool>,
    /// Edits and connections that are under way; a drain waits for them.
    under_way: watch::Sender<usize>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Engine {
    /// Begins to describe an engine.
    pub fn builder() -> crate::EngineBuilder {
        crate::EngineBuilder::new()
    }

    pub(crate) fn new(
        collections: BTreeMap<Arc<str>, Arc<Collection>>,
        store: Arc<dyn Store>,
        hubs: Arc<Hubs>,
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
        self.apply_typed(Edit::change(key, change)).await
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
        self.transaction(vec![Edit::touch(key)]).await.map(drop)
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
    pub(crate) fn under_way(&self) -> UnderWay {
        self.inner.under_way.send_modify(|count| *count += 1);
        UnderWay(self.clone())
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

/// The engine on behalf of somebody. Records are [`Fields`], the id among them, as far as one may see them.
#[derive(Debug)]
pub struct Caller<'a> {
    engine: &'a Engine,
    /// The app itself without it.
    who: Option<Principal>,
}

/// A record as somebody sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The id.
    pub id: RecordId,
    /// The fields that one sees, the id among them; `None` when there is no record (any more).
    pub record: Option<Fields>,
    /// A place in the log at which this holds: a subscription from here misses nothing.
    pub cursor: Cursor,
}

/// Records as somebody sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records in the order of their ids, each with the fields that one sees.
    pub records: Vec<Fields>,
    /// The place in the log at which they were read.
    pub cursor: Cursor,
    /// The id after which the next page begins; `None` on the last one.
    pub next: Option<RecordId>,
}

impl Caller<'_> {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is not there or not for this principal, both alike, or the store fails.
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<Seen, EngineError> {
        let key = key.into();
        let rights = self.rights(Access::Read, &key.collection).await?;
        self.read(key, &rights).await
    }

    pub(crate) async fn read(&self, key: RecordKey, rights: &Rights) -> Result<Seen, EngineError> {
        let grant = &rights.reads;
        let (record, position) = self.engine.inner.store.get(&key).await?;
        let record = record
            .filter(|record| grant.admits(record))
            .ok_or_else(|| Refusal::NotFound(key.clone()))?;
        let cursor = Cursor {
            position,
            shape: grant.shape(&rights.collection),
        };
        Ok(Seen {
            id: key.id,
            record: Some(grant.view.project(record.id, &record.fields)),
            cursor,
        })
    }

    /// Reads records in the order of their ids, from the one after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the collection is unknown or not for this principal, or the store fails.
    pub async fn list(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Page, EngineError> {
        let rights = self.rights(Access::Read, collection).await?;
        self.page(after, limit, &rights).await
    }

    pub(crate) async fn page(
        &self,
        after: Option<RecordId>,
        limit: usize,
        rights: &Rights,
    ) -> Result<Page, EngineError> {
        let (collection, grant) = (&rights.collection, &rights.reads);
        let store = &self.engine.inner.store;
        // One more than asked for tells whether there is a next page.
        let one_more = limit.saturating_add(1);
        let (mut records, position) = store.list(collection.name(), after, one_more).await?;
        let mut more = records.len() > limit;
        records.truncate(limit);
        // Where all are hidden the next page would have to begin after a hidden one: read on. The first cursor holds.
        while more && !records.iter().any(|record| grant.admits(record)) {
            let after = records.last().map(|last| last.id);
            (records, _) = store.list(collection.name(), after, one_more).await?;
            more = records.len() > limit;
            records.truncate(limit);
        }
        records.retain(|record| grant.admits(record));
        let next = records.last().filter(|_| more).map(|last| last.id);
        let records = records.iter();
        Ok(Page {
            records: records
                .map(|record| grant.view.project(record.id, &record.fields))
                .collect(),
            cursor: Cursor {
                position,
                shape: grant.shape(collection),
            },
            next,
        })
    }

    /// Applies several edits, all or none, and answers with what each record is after it, as far as one may see it.
    ///
    /// Dropping the future does not take the edits back: they are committed, or not, as a whole.
    ///
    /// # Errors
    /// When an edit is refused, and with it all, or the store fails.
    pub async fn transaction(&self, edits: Vec<Edit>) -> Result<Vec<Seen>, EngineError> {
        let arrived = Instant::now();
        self.check_ready()?;
        let mut allowed = Vec::with_capacity(edits.len());
        for edit in edits {
            let rights = self.rights(edit.access(), edit.collection()).await?;
            allowed.push((edit, rights));
        }
        self.apply(allowed, arrived).await
    }

    /// Applies edits whose rights are known, all or none. The time that they may take counts from their arrival.
    pub(crate) async fn apply(
        &self,
        edits: Vec<(Edit, Rights)>,
        arrived: Instant,
    ) -> Result<Vec<Seen>, EngineError> {
        let rights: Vec<Rights> = edits.iter().map(|(_, rights)| rights.clone()).collect();
        let outcomes = self.commit(edits, arrived).await?;
        let seen = outcomes.iter().zip(&rights);
        Ok(seen.map(|(outcome, rights)| rights.show(outcome)).collect())
    }

    /// Hears of every change of a collection, or of one record: after a snapshot, or after a cursor. A record that does
    /// not exist is an empty snapshot; when it is created later one hears of it.
    ///
    /// # Errors
    /// When the collection is unknown or not for this principal.
    pub async fn subscribe(
        &self,
        topic: impl Into<Topic>,
        since: Option<Cursor>,
    ) -> Result<Subscription, EngineError> {
        self.listen(topic.into(), since.map_or(Since::Snapshot, Since::Cursor))
            .await
    }

    pub(crate) async fn listen(
        &self,
        topic: Topic,
        since: Since,
    ) -> Result<Subscription, EngineError> {
        let rights = self.rights(Access::Read, &topic.collection).await?;
        Ok(self.listen_with(topic, since, &rights))
    }

    pub(crate) fn listen_with(&self, topic: Topic, since: Since, rights: &Rights) -> Subscription {
        let Inner { hubs, store, .. } = &*self.engine.inner;
        let hub = hubs.of(rights.collection.name());
        let grant = rights.reads.clone();
        Subscription::new(
            topic,
            &rights.collection,
            grant,
            hub,
            Arc::clone(store),
            since,
        )
    }

    /// Whoever comes while the engine drains is turned away; what came before is finished.
    pub(crate) fn check_ready(&self) -> Result<(), EngineError> {
        if self.engine.is_ready() {
            Ok(())
        } else {
            Err(EngineError::Stopping)
        }
    }

    /// The way of every write: authorize, commit (row and change, one transaction), answer. The hub is told by the
    /// committer, right after the transaction.
    async fn commit(
        &self,
        edits: Vec<(Edit, Rights)>,
        arrived: Instant,
    ) -> Result<Vec<Outcome>, EngineError> {
        let _under_way = self.engine.under_way();
        let edits = edits.into_iter().map(|(edit, rights)| {
            let grant = rights.writes.shown_by(rights.reads);
            (edit, rights.collection, grant)
        });
        let group = Group {
            who: self.who.clone(),
            edits: edits.collect(),
            deadline: arrived + EDIT_TIME,
        };
        self.engine.inner.committer.commit(group).await
    }

    /// Asks the rule what one may do to a collection, and what one sees of it: what a reader sees, or ids alone.
    pub(crate) async fn rights(
        &self,
        access: Access,
        collection: &str,
    ) -> Result<Rights, EngineError> {
        let (collection, writes) = self.authorize(access, collection).await?;
        if access == Access::Read {
            return Ok(Rights {
                collection,
                reads: writes.clone(),
                writes,
            });
        }
        let reads = match self.authorize(Access::Read, collection.name()).await {
            Ok((_, reads)) => reads,
            Err(EngineError::Refused(Refusal::Denied(_))) => {
                Grant::full().with_view(View::only::<String>([]))
            }
            Err(error) => return Err(error),
        };
        Ok(Rights {
            collection,
            writes,
            reads,
        })
    }

    pub(crate) async fn authorize(
        &self,
        access: Access,
        collection: &str,
    ) -> Result<(Arc<Collection>, Grant), EngineError> {
        let collection = self.collection(collection)?;
        let grant = match (&self.who, collection.rule()) {
            (None, _) => Grant::full(),
            (Some(who), Some(rule)) => match rule.authorize(who, access, collection.name()).await {
                Ok(grant) => grant,
                Err(Denied::Hidden) => {
                    return Err(Refusal::NoSuchCollection(Arc::clone(collection.name())).into());
                }
                Err(denied) => return Err(Refusal::Denied(denied).into()),
            },
            (Some(_), None) => return Err(Refusal::Denied(Denied::Forbidden).into()),
        };
        Ok((collection, grant))
    }

    pub(crate) fn collection(&self, name: &str) -> Result<Arc<Collection>, EngineError> {
        let collection = self.engine.inner.collections.get(name);
        collection
            .cloned()
            .ok_or_else(|| Refusal::NoSuchCollection(name.into()).into())
    }
}

/// What one may do to a collection, and what one sees of it.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    collection: Arc<Collection>,
    writes: Grant,
    reads: Grant,
}

impl Rights {
    /// What one sees of an edit's outcome: of a record that is not for one its id alone.
    fn show(&self, outcome: &Outcome) -> Seen {
        let id = outcome.id();
        let record = outcome.fields().map(|fields| {
            let is_seen = match &self.reads.rows {
                None => true,
                Some(_) => outcome
                    .record()
                    .is_some_and(|record| self.reads.admits(&record)),
            };
            if is_seen {
                self.reads.view.project(id, fields)
            } else {
                View::only::<String>([]).project(id, fields)
            }
        });
        let position = outcome.position();
        let shape = self.reads.shape(&self.collection);
        Seen {
            id,
            record,
            cursor: Cursor { position, shape },
        }
    }
}

/// Something that a drain waits for.
#[derive(Debug)]
pub(crate) struct UnderWay(Engine);

impl Drop for UnderWay {
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
