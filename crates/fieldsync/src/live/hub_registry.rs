//! The hubs of all collections, and the task that tails the store's logs.
//!
//! The changes that this node commits are announced directly. This task finds everything else: the commits of other
//! nodes, commits whose result this node did not receive, and a restored database. It reads the heads once per poll
//! interval, and at once when a notification arrives. Where rules read other collections, `rights` applies the changes of these
//! first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::broker::Broker;
use crate::broker::notification::Notification;
use crate::broker::relay::receive;
use crate::live::hub::{Hub, HubFigures};
use crate::live::rights::{Captured, Rights, up_to};
use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::schema::collection::Collection;
use crate::schema::own_collections::REVOCATIONS;
use crate::store::error::StoreError;
use crate::store::read_changes::{HUB_PAGE, read_changes};
use crate::store::store::Store;
use futures_util::StreamExt as _;

/// The hubs of all collections, fieldsync's own among them.
#[derive(Debug)]
pub(crate) struct HubRegistry {
    hubs: BTreeMap<Arc<str>, Arc<Hub>>,
    collections: BTreeMap<Arc<str>, Arc<Collection>>,
    pub(crate) rights: Rights,
    /// When the store last returned the heads of its logs.
    heads_read: Mutex<Instant>,
}

impl HubRegistry {
    pub(crate) fn new(
        collections: Vec<Arc<Collection>>,
        heads: Vec<(Arc<str>, Position)>,
        rights: Rights,
    ) -> Self {
        let by_name = |collection: Arc<Collection>| (Arc::clone(collection.name()), collection);
        let hubs = heads
            .into_iter()
            .map(|(collection, head)| (collection, Arc::new(Hub::new(head))));
        Self {
            hubs: hubs.collect(),
            collections: collections.into_iter().map(by_name).collect(),
            rights,
            heads_read: Mutex::new(Instant::now()),
        }
    }

    /// The hub of a collection of the engine.
    pub(crate) fn of(&self, collection: &str) -> &Arc<Hub> {
        self.hubs
            .get(collection)
            .expect("every collection of the engine has a hub")
    }

    /// The hub of the revocations, and their collection.
    pub(crate) fn revocations(&self) -> (&Arc<Hub>, Arc<Collection>) {
        let collection = self.collections.get(REVOCATIONS);
        let collection = collection.expect("the builder adds fieldsync's own collections");
        (self.of(REVOCATIONS), Arc::clone(collection))
    }

    /// The state of the hub of each of the app's collections, with its name.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (&Arc<str>, HubFigures)> {
        let hubs = self.hubs.iter().filter(|(name, _)| ***name != *REVOCATIONS);
        hubs.map(|(name, hub)| (name, hub.figures()))
    }

    /// The time since the store last returned the heads of its logs.
    pub(crate) fn store_silence(&self) -> Duration {
        let read = self.heads_read.lock();
        read.unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Announces changes that this node has committed, in log order per collection. Wakes the subscribers of this node,
    /// and returns the notifications to publish to the other nodes.
    pub(crate) fn announce(&self, changes: &[Arc<Change>]) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for changes in changes.chunk_by(|a, b| a.key.collection == b.key.collection) {
            let Some(last) = changes.last() else { continue };
            let collection = Arc::clone(&last.key.collection);
            if self.is_dependent(&collection) {
                self.rights.keep_waiting(&collection, changes);
                self.request_catch_up();
            } else if !self.of(&collection).append(changes)
                || self.rights.are_decided_by(&collection)
            {
                self.request_catch_up();
            }
            notifications.push(Notification {
                collection,
                epoch: last.position.epoch,
                offset: last.position.offset,
            });
        }
        notifications
    }

    /// Asks the tailing task to read the store's logs now.
    pub(crate) fn request_catch_up(&self) {
        self.rights.looks.request();
    }

    fn is_dependent(&self, collection: &str) -> bool {
        let collection = self.collections.get(collection);
        collection.is_some_and(|collection| collection.is_dependent())
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.hubs.values().for_each(|hub| hub.close());
    }

    /// Keeps the hubs up to date with the store. Never returns.
    pub(crate) async fn tail(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        broker: Option<Arc<dyn Broker>>,
        poll: Duration,
    ) {
        let mut ticks = tokio::time::interval(self.rights.poll_interval(poll));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut notifications =
            broker.map_or_else(|| futures_util::stream::pending().boxed(), receive);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.rights.looks.requested() => {}
                Some(notification) = notifications.next() => {
                    let is_new = self.hubs.get(&notification.collection).is_some_and(|hub| {
                        let head = hub.head();
                        head.epoch != notification.epoch || head.offset < notification.offset
                    });
                    if !is_new {
                        continue;
                    }
                }
            }
            if let Err(error) = self.catch_up(&*store).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not read the logs from the store, retrying"
                );
            }
        }
    }

    /// Reads the heads of all collections, and the changes that the hubs lack.
    async fn catch_up(&self, store: &dyn Store) -> Result<(), StoreError> {
        while self.read_pages(store).await? {}
        Ok(())
    }

    /// Reads the heads, and a page of each log that a hub lacks. Whether more remains: a log that is far ahead delays no other.
    async fn read_pages(&self, store: &dyn Store) -> Result<bool, StoreError> {
        let look = self.rights.looks.begin();
        let mut waiting = self.rights.take_waiting();
        // What depends on what rules read is delivered up to here. What others have written before that is logged afterwards, and then
        // found in what rules read.
        let limits = store.heads().await?;
        let (changes, captured) = self.rights.log_captured(store).await;
        for notification in self.announce(&changes) {
            self.rights.notifications.put(notification);
        }
        let mut heads = match self.rights.may_be_captured {
            true => store.heads().await?,
            false => limits.clone(),
        };
        *self
            .heads_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // What is revoked stops before more of the rest is sent.
        heads.sort_by_key(|(name, _)| **name != *REVOCATIONS);
        // What rules read is applied before what depends on it: the heads are of one moment.
        let mut found = self.rights.apply(store, &self.collections, &heads).await?;
        let is_complete = found.is_complete && captured == Captured::All;
        if is_complete {
            self.rights.complete(&look);
        }
        let mut more_remains = found.more || captured == Captured::Some;
        for (name, head) in heads {
            let (Some(hub), Some(collection)) = (self.hubs.get(&name), self.collections.get(&name))
            else {
                continue;
            };
            hub.note_store_head(head);
            let mut known = [waiting.remove(&name), found.changes.remove(&name)];
            let mut end = head;
            if collection.is_dependent() {
                let limit = limits.iter().find(|(limited, _)| *limited == name);
                let Some((_, limit)) = limit.filter(|_| is_complete) else {
                    continue;
                };
                end = *limit;
                more_remains |= end != head;
                for changes in known.iter_mut().flatten() {
                    changes.retain(|change| change.position.offset <= end.offset);
                }
            }
            for changes in known.iter().flatten() {
                hub.append(changes);
            }
            more_remains |= read_page(store, hub, collection, end).await?;
        }
        Ok(more_remains)
    }
}

/// Reads a page of a log up to its head, as far as its hub lacks it. Whether more remains.
async fn read_page(
    store: &dyn Store,
    hub: &Hub,
    collection: &Collection,
    head: Position,
) -> Result<bool, StoreError> {
    let (name, position) = (collection.name(), hub.head());
    if position == head {
        return Ok(false);
    }
    match read_changes(store, collection, position, HUB_PAGE).await? {
        ChangesSince::Changes { changes, more } => {
            let changes = match collection.is_dependent() {
                // What came later may follow something that a rule reads.
                true => up_to(changes, position, head).0,
                false => changes,
            };
            if changes.is_empty() {
                return Ok(false);
            }
            tracing::debug!(
                collection = %name,
                count = changes.len(),
                "read changes from the store that this node had not announced"
            );
            hub.append(&changes.into_iter().map(Arc::new).collect::<Vec<_>>());
            hub.note_store_head(head);
            Ok(more)
        }
        ChangesSince::OutOfRange(reason) => {
            // Read the heads again, since the log may have grown meanwhile.
            let heads = store.heads().await?;
            let head = heads.into_iter().find(|(found, _)| found == name);
            if let Some((_, head)) = head
                && hub.head() == position
            {
                tracing::warn!(
                    collection = %name,
                    %reason,
                    "the store's log was replaced, resetting the collection's subscribers"
                );
                hub.reset(head, reason);
                hub.note_store_head(head);
            }
            Ok(false)
        }
    }
}
