//! START HERE. The engine: [`Engine::write`] is the path of every write, [`Engine::open`] the read path.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::engine::asks::Asks;
use crate::engine::capture::CaptureTask;
use crate::engine::drain::{DrainReport, InProgress, Work};
use crate::engine::edit_checks::{check_length, check_name, count_limit};
use crate::engine::gauges::Gauges;
use crate::engine::group_commit::GroupCommit;
use crate::engine::memberships::Memberships;
use crate::engine::permissions::Permissions;
use crate::engine::read_ahead::read_ahead;
use crate::engine::readiness::{NotReady, Readiness};
use crate::engine::settings::Settings;
use crate::engine::slow_lists::SlowLists;
use crate::engine::usage::Usage;
use crate::error::EngineError;
use crate::live::hub::Hub;
use crate::live::revocations::Revocations;
use crate::live::since::Since;
use crate::live::subscriber_reads::StoreReads;
use crate::live::subscription::Subscription;
use crate::live::validity::Validity;
use crate::model::access::Access;
use crate::model::cursor::{Cursor, Position};
use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::principal::Principal;
use crate::model::record::RecordKey;
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::schema::reference::References;
use crate::store::store::Store;
use crate::write::batch::Group;

/// How long an edit may take, from the arrival of its request.
const EDIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine, as the app holds it: collections, their tables and their subscribers. A clone is cheap and is the same
/// engine.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fieldsync::{Collection, Engine, MemoryStore};
/// use fieldsync::schemars::{self, JsonSchema};
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
/// let users = engine.collection::<User>("users");
/// let user = users.create(User { first_name: "Ada".into(), last_name: "King".into() }).await?;
/// users.update(&user.id, |user| user.last_name = "Lovelace".into()).await?;
/// let user = users.get(user.id).await?.expect("the record was just created");
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
    references: References,
    store: Arc<dyn Store>,
    subscriber_reads: Arc<StoreReads>,
    slow_lists: SlowLists,
    group_commit: GroupCommit,
    settings: Settings,
    gauges: Arc<Gauges>,
    readiness: Readiness,
    stopping: watch::Sender<bool>,
    capture: CaptureTask,
    revocations: Arc<Revocations>,
    /// The tasks that end with the engine.
    tasks: Vec<tokio::task::AbortHandle>,
}

/// An edit on its way in. HTTP asks the authorizer before it reads a body, and so brings the permissions along.
#[derive(Debug)]
pub(crate) struct ProposedEdit {
    pub(crate) edit: Edit,
    pub(crate) permissions: Option<Permissions>,
}

impl Engine {
    pub(crate) fn new(
        collections: BTreeMap<Arc<str>, Arc<Collection>>,
        store: Arc<dyn Store>,
        gauges: Arc<Gauges>,
        group_commit: GroupCommit,
        settings: Settings,
        capture: CaptureTask,
        mut tasks: Vec<tokio::task::AbortHandle>,
    ) -> Self {
        let (hub, own) = gauges.hubs.revocations();
        let (revocations, following) = Revocations::follow(hub, own);
        tasks.push(following);
        Self {
            inner: Arc::new(Inner {
                references: References::of(&store.foreign_keys(), &collections),
                collections,
                slow_lists: SlowLists::default(),
                subscriber_reads: Arc::new(StoreReads::new(
                    Arc::clone(&store),
                    Arc::clone(&gauges.hubs.rights.looks),
                    settings.limits.snapshot_reads,
                )),
                store,
                group_commit,
                settings,
                gauges,
                readiness: Readiness::new(),
                stopping: watch::Sender::new(false),
                capture,
                revocations,
                tasks,
            }),
        }
    }

    /// The path of every write: authorize, commit, announce, project. Without a principal the app itself writes.
    ///
    /// The edits are applied as a whole or not at all. Dropping the future does not take them back.
    pub(crate) async fn write<T>(
        &self,
        principal: Option<&Principal>,
        edits: Vec<ProposedEdit>,
        arrived: Instant,
        project: impl Fn(&Permissions, Outcome) -> T,
    ) -> Result<Vec<T>, EngineError> {
        let in_progress = self.begin(Work::Write);

        // Authorize. The grant's condition on records is applied to the current row, inside the transaction. An edit may refer only to
        // records that the caller may read.
        check_name(principal)?;
        check_length(edits.len(), self.settings().limits.transaction_edits)?;
        let has_keys = edits.iter().any(|one| one.edit.has_idempotency_key());
        let taken = self.usage().take_edits(principal, edits.len(), has_keys);
        let without_keys = taken?;
        let mut permissions = Vec::with_capacity(edits.len());
        let mut authorized = Vec::with_capacity(edits.len());
        for proposed in edits {
            let mut edit = proposed.edit;
            let granted = match proposed.permissions {
                Some(granted) => granted,
                None => {
                    self.permissions(principal, edit.access(), edit.collection())
                        .await?
                }
            };
            granted.collection.take_given_id(&mut edit)?;
            granted.collection.check_lookups(&edit)?;
            let hub = self.hub(granted.collection.name());
            read_ahead(&mut edit, hub, &*self.inner.store).await?;
            authorized.push((edit, Arc::clone(&granted.collection), granted.write_grant()));
            permissions.push(granted);
        }
        let edited = authorized.iter().map(|(edit, ..)| edit);
        let references = self.guarded_references(principal, edited, &permissions);
        let references = references.await?;

        // Commit row, change and idempotency key in one transaction, shared with the edits that arrive meanwhile. Then
        // announce the changes: wake this node's subscribers, notify the other nodes. The task that commits announces
        // what it has committed, so that the announcement follows even when this future is dropped.
        let group = Group {
            principal: principal.cloned(),
            references,
            edits: authorized,
            deadline: arrived + EDIT_TIMEOUT,
            without_keys,
        };
        let committed = self
            .inner
            .group_commit
            .commit_and_announce(group, in_progress);
        let outcomes = committed.await.inspect_err(count_limit)?;
        let written = permissions.iter().map(|granted| granted.collection.name());
        self.gauges().hubs.rights.followed(written).await;

        // Project: return only what the caller may read of each record.
        let projected = permissions.iter().zip(outcomes);
        Ok(projected
            .map(|(permissions, outcome)| project(permissions, outcome))
            .collect())
    }

    /// The read path: opens a subscription, which reads a snapshot or what was missed, and then follows the hub.
    pub(crate) fn open(
        &self,
        topic: Topic,
        since: Since,
        permissions: &Permissions,
    ) -> Result<Subscription, EngineError> {
        let Inner {
            gauges,
            subscriber_reads,
            ..
        } = &*self.inner;
        let collection = &permissions.collection;
        if let Some(id) = topic.id.clone().filter(|id| !collection.has_id_kind(id)) {
            return Err(Refusal::NotFound(RecordKey::new(topic.collection, id)).into());
        }
        let hub = gauges.hubs.of(collection.name());
        let shape = collection.shape(&permissions.read);
        let of_record = topic.id.as_ref().map(|_| topic.query.check_of_record());
        let query = of_record.unwrap_or(Ok(()));
        let grant = query.and_then(|()| permissions.read.narrowed(&topic.query, collection));
        let grant = grant.map_err(Refusal::BadQuery)?;
        let reads = subscriber_reads.of(permissions.limited_by);
        let subscription = Subscription::new(topic, collection, grant, shape, hub, reads, since);
        Ok(subscription.standing_on(permissions.asked.clone()))
    }

    pub(crate) fn hub(&self, collection: &str) -> &Arc<Hub> {
        self.inner.gauges.hubs.of(collection)
    }

    /// What principals use of their limits.
    pub(crate) fn usage(&self) -> &Arc<Usage> {
        self.inner.group_commit.usage()
    }

    pub(crate) fn asks(&self) -> &Asks {
        &self.inner.gauges.asks
    }

    /// Applies several edits as a whole or not at all, and returns an outcome for each.
    ///
    /// The app itself makes these edits: no authorizer is asked. Dropping the future does not cancel the edits: they
    /// are committed, or not, as a whole. To repeat a transaction safely, give each of its edits an idempotency key: an
    /// edit without one is applied again.
    ///
    /// # Errors
    /// When an edit is refused, and the others with it, when the store fails, or when the engine is stopping.
    pub async fn transaction(&self, edits: Vec<Edit>) -> Result<Vec<Outcome>, EngineError> {
        self.check_ready()?;
        let edits = edits.into_iter().map(ProposedEdit::from).collect();
        let project = |_: &Permissions, outcome| outcome;
        self.write(None, edits, Instant::now(), project).await
    }

    /// Logs the current row of a record that the app's own SQL has changed, so that subscribers receive it.
    ///
    /// Dropping the future does not cancel the edit: it is committed, or not.
    ///
    /// # Errors
    /// Same as [`Engine::transaction`].
    pub async fn refresh(&self, key: impl Into<RecordKey>) -> Result<(), EngineError> {
        self.transaction(vec![Edit::refresh(key)]).await.map(drop)
    }

    /// Reads at once what others have written, instead of at the next poll. For the app, after its own SQL.
    pub fn wake(&self) {
        self.inner.capture.wake();
    }

    /// Subscribes to a collection or to one record: a snapshot first, or what has changed since a cursor, then every
    /// change.
    ///
    /// # Errors
    /// When the collection is unknown, or the topic's id is of another kind than the collection's ids.
    pub async fn subscribe(
        &self,
        topic: impl Into<Topic>,
        since: Option<Cursor>,
    ) -> Result<Subscription, EngineError> {
        let topic = topic.into();
        let permissions = self
            .permissions(None, Access::Read, &topic.collection)
            .await?;
        self.open(topic, since.into(), &permissions)
    }

    /// Stops the engine: it accepts no more edits, ends subscriptions, closes connections with 1012 and a random retry
    /// delay, and waits for the work in progress, at most for this long. The report says what was still in progress then. Dropping the
    /// future leaves the engine stopping.
    pub async fn drain(&self, timeout: Duration) -> DrainReport {
        self.inner.stopping.send_replace(true);
        self.inner.gauges.hubs.close();
        let report = self.inner.gauges.in_progress.finish(timeout).await;
        self.inner.capture.stop();
        report
    }

    pub(crate) fn slow_lists(&self) -> &SlowLists {
        &self.inner.slow_lists
    }

    pub(crate) fn subscriber_reads(&self) -> &StoreReads {
        &self.inner.subscriber_reads
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.inner.gauges
    }

    /// Whether the engine accepts edits: it is not stopping, and the runtime on which it was started lives. For a probe that must
    /// not depend on the database; see [`Engine::health`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !*self.inner.stopping.borrow() && self.liveness().is_ok()
    }

    pub(crate) fn last_check(&self) -> &Readiness {
        &self.inner.readiness
    }

    /// Whether the engine's tasks live: they end with their runtime.
    pub(crate) fn liveness(&self) -> Result<(), NotReady> {
        let is_alive = self.inner.group_commit.is_alive();
        is_alive.then_some(()).ok_or(NotReady::Stopped)
    }

    /// What is revoked, and the streams that this ends.
    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.inner.revocations
    }

    /// The validity of a principal, from now on.
    pub(crate) fn validity_of(&self, principal: &Principal) -> Validity {
        Validity::of(principal, &self.inner.revocations)
    }

    /// Refuses new work while the engine drains. Work that arrived before is finished.
    pub(crate) fn check_ready(&self) -> Result<(), EngineError> {
        if self.is_ready() {
            Ok(())
        } else {
            Err(EngineError::Stopping)
        }
    }

    /// Resolves when the engine starts to drain.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.inner.stopping.subscribe();
        // The sender lives as long as the engine, so that this never fails.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Counts work as in progress until the result is dropped.
    pub(crate) fn begin(&self, work: Work) -> InProgress {
        self.inner.gauges.in_progress.begin(work)
    }

    pub(crate) fn known_collection(&self, name: &str) -> Result<Arc<Collection>, EngineError> {
        let collection = self.inner.collections.get(name);
        collection
            .cloned()
            .ok_or_else(|| Refusal::NoSuchCollection(name.into()).into())
    }

    /// The ends of the logs that have a feed, in the order of the feeds.
    pub(crate) fn feed_positions(&self) -> Vec<Position> {
        let Inner {
            settings, gauges, ..
        } = &*self.inner;
        let feeds = settings.feeds.keys();
        feeds.map(|name| gauges.hubs.of(name).head()).collect()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The names of the collections, in their order.
    pub fn collection_names(&self) -> impl Iterator<Item = &str> {
        self.inner.collections.keys().map(|name| &**name)
    }

    /// Where the records are on which rules depend.
    pub(crate) fn memberships(&self) -> Memberships<'_> {
        Memberships {
            store: &*self.inner.store,
            collections: &self.inner.collections,
        }
    }

    pub(crate) fn known_references(&self) -> &References {
        &self.inner.references
    }

    pub(crate) fn collections(&self) -> &BTreeMap<Arc<str>, Arc<Collection>> {
        &self.inner.collections
    }
}

impl From<Edit> for ProposedEdit {
    fn from(edit: Edit) -> Self {
        Self {
            edit,
            permissions: None,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
        self.gauges.hubs.close();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("collections", &self.inner.collections)
            .finish_non_exhaustive()
    }
}
