//! What this node has applied of the collections that rules read, and what waits for that.
//!
//! The hub of a collection whose rule reads another one appends no change before a look at all logs, made after the change was
//! committed, has found what came before it there, and the answers that this concerns are invalid. `hub_registry` makes the looks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::broker::relay::NotificationQueue;
use crate::live::dependencies::{Concerned, Dependencies};
use crate::live::looks::{Look, Looks};
use crate::live::mirror::Reflection;
use crate::live::mirrors::Mirrors;
use crate::live::ring::{MAX_RING_BYTES, MAX_RING_CHANGES};
use crate::live::standing::{Standing, Standings};
use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::store::read_changes::HUB_PAGE;
use crate::store::store::{Retention, Store};

/// The longest time between two looks, if rules read collections.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause before a look is made again, when there is much to log.
const MAX_PAUSE: Duration = Duration::from_millis(25);

/// How long a look waits for the writes of others to be logged. Other collections do not wait for longer.
const CAPTURE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the start of an engine waits for its mirrors. Until they are up to date, rules that read them can't answer.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an edit of what rules read waits until this node has applied it.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(1);

/// What rules read, and who stands on their answers.
#[derive(Debug)]
pub(crate) struct Rights {
    dependencies: Dependencies,
    mirrors: Mirrors,
    /// Whether others may write to what rules read, or what has a mirror.
    pub(crate) may_be_captured: bool,
    pub(crate) standings: Arc<Standings>,
    pub(crate) looks: Arc<Looks>,
    /// Up to where this node has applied each log that rules read, or that a mirror follows.
    applied: Mutex<HashMap<Arc<str>, Position>>,
    /// What this node has committed to collections whose rules read others, and has not announced, and its size in memory.
    waiting: Mutex<(Waiting, usize)>,
    retention: Retention,
    pub(crate) notifications: Arc<NotificationQueue>,
}

/// Changes by collection.
pub(crate) type Waiting = HashMap<Arc<str>, Vec<Arc<Change>>>;

/// Which writes of others are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Captured {
    /// All up to now.
    All,
    Some,
    /// The store did not say.
    Unknown,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Whether this node has applied everything up to the look.
    pub(crate) is_complete: bool,
    /// Whether more of it can be applied at once.
    pub(crate) more: bool,
    /// The changes that it has applied, for the hubs.
    pub(crate) changes: Waiting,
}

impl Rights {
    /// The rights under these rules, and the standings to ask about again. The mirrors are filled.
    pub(crate) async fn new(
        dependencies: Dependencies,
        mirrors: Vec<Arc<dyn Reflection>>,
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
        store: &dyn Store,
        retention: Retention,
        notifications: Arc<NotificationQueue>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Arc<Standing>>), StoreError> {
        let looks = Arc::new(Looks::new());
        let dependent = collections.values().filter(|one| one.is_dependent());
        let dependent = dependent.map(|one| Arc::clone(one.name()));
        let (standings, queued) = Standings::new(dependent, Arc::clone(&looks));
        let mirrors = Mirrors::new(mirrors, &looks);
        let heads = store.heads().await?.into_iter();
        let read = heads.filter(|(name, _)| dependencies.include(name));
        let mut applied: HashMap<_, _> = read.collect();
        applied.extend(mirrors.fill_all(store, collections).await?);
        let rights = Self {
            applied: Mutex::new(applied),
            may_be_captured: dependencies.may_be_captured() || mirrors.may_be_captured(collections),
            dependencies,
            mirrors,
            standings,
            looks,
            waiting: Mutex::default(),
            retention,
            notifications,
        };
        Ok((rights, queued))
    }

    /// After a commit to these collections: resolves when this node has applied it, if rules read one of them. Or when that takes long.
    pub(crate) async fn followed(&self, mut written: impl Iterator<Item = &Arc<str>>) {
        if written.any(|name| self.are_decided_by(name)) {
            let _ = timeout(FOLLOW_TIMEOUT, self.looks.next()).await;
        }
    }

    /// Resolves when the mirrors are up to date for the first time, or when that takes long.
    pub(crate) async fn ready(&self) {
        if !self.mirrors.is_empty() {
            let _ = timeout(READY_TIMEOUT, self.looks.next()).await;
        }
    }

    /// How often to look. Streams whose rules read collections pause if no look is made for longer.
    pub(crate) fn poll_interval(&self, poll: Duration) -> Duration {
        match self.dependencies.is_empty() && self.mirrors.is_empty() {
            true => poll,
            false => poll.min(MAX_POLL_INTERVAL),
        }
    }

    /// Whether a rule reads this collection, or a mirror follows it, so that its changes are to be looked for at once.
    pub(crate) fn are_decided_by(&self, collection: &str) -> bool {
        self.dependencies.include(collection) || self.mirrors.include(collection)
    }

    /// Keeps what this node has committed until a look is complete.
    pub(crate) fn keep_waiting(&self, collection: &Arc<str>, changes: &[Arc<Change>]) {
        let mut locked = lock(&self.waiting);
        let (waiting, bytes) = &mut *locked;
        let waiting = waiting.entry(Arc::clone(collection)).or_default();
        for change in changes {
            *bytes += change.size_in_memory();
            if *bytes > MAX_RING_BYTES || waiting.len() >= MAX_RING_CHANGES {
                // The rest is read from the store.
                return;
            }
            waiting.push(Arc::clone(change));
        }
    }

    /// Takes what waits, before the heads are read, which then include it. It is in the order of the log, maybe with gaps.
    pub(crate) fn take_waiting(&self) -> Waiting {
        let (mut waiting, _) = std::mem::take(&mut *lock(&self.waiting));
        for changes in waiting.values_mut() {
            changes.sort_by_key(|change| change.position.offset);
        }
        waiting
    }

    /// Has the writes of others logged, where they may be to something that rules read. Returns the changes.
    pub(crate) async fn log_captured(&self, store: &dyn Store) -> (Vec<Arc<Change>>, Captured) {
        if !self.may_be_captured {
            return (Vec::new(), Captured::All);
        }
        let begun = Instant::now();
        let logged = match timeout(CAPTURE_TIMEOUT, store.log_captured(self.retention)).await {
            Ok(Ok(logged)) => logged,
            // The task that logs what others write reports why.
            Ok(Err(_)) => return (Vec::new(), Captured::Unknown),
            Err(_) => return (Vec::new(), Captured::Some),
        };
        let mut changes = logged.changes;
        changes.sort_by(|a, b| a.key.collection.cmp(&b.key.collection));
        if !logged.more {
            return (changes, Captured::All);
        }
        // Half of the time is left to the edits.
        sleep(begun.elapsed().min(MAX_PAUSE)).await;
        (changes, Captured::Some)
    }

    /// Applies a page of each log that rules read or mirrors follow, up to these heads.
    pub(crate) async fn apply(
        &self,
        store: &dyn Store,
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
        heads: &[(Arc<str>, Position)],
    ) -> Result<Found, StoreError> {
        let mut found = Found {
            is_complete: true,
            ..Found::default()
        };
        for (name, head) in heads {
            let (Some(collection), Some(position)) = (collections.get(name), self.applied_of(name))
            else {
                continue;
            };
            if position == *head {
                continue;
            }
            let reached = match store.changes(name, position, HUB_PAGE).await? {
                ChangesSince::Changes { changes, .. } => {
                    let (changes, reached) = up_to(changes, position, *head);
                    let concerned = self.dependencies.concerned(name, &changes);
                    let adapted = changes.into_iter().map(|mut change| {
                        change.adapt_to(collection);
                        Arc::new(change)
                    });
                    let adapted: Vec<_> = adapted.collect();
                    // The rules that are asked again find the mirrors up to date.
                    self.mirrors.apply(store, collection, &adapted).await?;
                    for (reader, concerned) in concerned {
                        self.standings.invalidate(&reader, &concerned);
                    }
                    found.changes.insert(Arc::clone(name), adapted);
                    reached
                }
                ChangesSince::OutOfRange(reason) => {
                    tracing::warn!(collection = %name, %reason, "changes that rules read were missed: all are asked again");
                    let reached = match self.mirrors.include(name) {
                        true => self.mirrors.fill(store, collection).await?,
                        false => *head,
                    };
                    for reader in self.dependencies.readers_of(name) {
                        self.standings.invalidate(reader, &Concerned::All);
                    }
                    reached
                }
            };
            lock(&self.applied).insert(Arc::clone(name), reached);
            found.is_complete &= reached == *head;
            found.more |= reached != *head && reached != position;
        }
        Ok(found)
    }

    fn applied_of(&self, collection: &str) -> Option<Position> {
        lock(&self.applied).get(collection).copied()
    }

    /// Notes that everything up to a look is applied.
    pub(crate) fn complete(&self, look: &Look) {
        self.mirrors.complete();
        if self.looks.complete(look) {
            self.standings.wake_all();
        }
    }
}

/// Those of the changes after a position that were there when the log ended with this head, and up to where they reach.
pub(crate) fn up_to(
    mut changes: Vec<Change>,
    position: Position,
    head: Position,
) -> (Vec<Change>, Position) {
    changes.retain(|change| change.position.offset <= head.offset);
    let last = changes.last();
    let reached = last.map_or(position, |last| last.position);
    (changes, reached)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
