//! The hubs of all collections, and the task that keeps them up with the store.
//!
//! What this node commits is appended directly. Whatever else happens to a log (another node's commits, a restored
//! database, a commit whose answer was lost) is found here: on a broker's notice, or at the latest when the heads are
//! read once per poll interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Notify;

use crate::broker::broker::Broker;
use crate::broker::notification::Notification;
use crate::broker::relay::listen;
use crate::live::hub::Hub;
use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::store::reading::read_changes;
use crate::store::store::Store;

/// How many changes are read from the store at a time.
const READ_CHANGES: usize = 512;

/// The hubs of all collections.
#[derive(Debug)]
pub(crate) struct HubRegistry {
    hubs: BTreeMap<Arc<str>, Arc<Hub>>,
    collections: BTreeMap<Arc<str>, Arc<Collection>>,
    look: Notify,
}

impl HubRegistry {
    pub(crate) fn new(
        collections: BTreeMap<Arc<str>, Arc<Collection>>,
        heads: Vec<(Arc<str>, Position)>,
    ) -> Self {
        let hubs = heads
            .into_iter()
            .map(|(collection, head)| (collection, Arc::new(Hub::new(head))));
        Self {
            hubs: hubs.collect(),
            collections,
            look: Notify::new(),
        }
    }

    /// The hub of a collection of the engine.
    pub(crate) fn of(&self, collection: &str) -> &Arc<Hub> {
        self.hubs
            .get(collection)
            .expect("every collection of the engine has a hub")
    }

    /// Tells subscribers what this node committed, sorted by collection and offset, and makes the notices for others.
    pub(crate) fn announce(&self, changes: &[Arc<Change>]) -> Vec<Notification> {
        let mut notices = Vec::new();
        for changes in changes.chunk_by(|a, b| a.key.collection == b.key.collection) {
            let Some(last) = changes.last() else { continue };
            let collection = Arc::clone(&last.key.collection);
            if !self.of(&collection).append(changes) {
                self.look();
            }
            notices.push(Notification {
                collection,
                epoch: last.position.epoch,
                offset: last.position.offset,
            });
        }
        notices
    }

    /// Has the store looked at soon.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.hubs.values().for_each(|hub| hub.close());
    }

    /// Keeps the hubs up with the store, for ever.
    pub(crate) async fn tail(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        broker: Option<Arc<dyn Broker>>,
        poll: Duration,
    ) {
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut notices = broker.map_or_else(|| futures_util::stream::pending().boxed(), listen);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.look.notified() => {}
                Some(notice) = notices.next() => {
                    let news = self.hubs.get(&notice.collection).is_some_and(|hub| {
                        let head = hub.head();
                        head.epoch != notice.epoch || head.offset < notice.offset
                    });
                    if !news {
                        continue;
                    }
                }
            }
            if let Err(error) = self.catch_up(&*store).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the store can't be read, and will be tried again"
                );
            }
        }
    }

    /// Reads the heads of all collections, and from the store what the hubs do not have.
    async fn catch_up(&self, store: &dyn Store) -> Result<(), StoreError> {
        for (name, head) in store.heads().await? {
            let (Some(hub), Some(collection)) = (self.hubs.get(&name), self.collections.get(&name))
            else {
                continue;
            };
            while hub.head() != head {
                let at = hub.head();
                match read_changes(store, collection, at, READ_CHANGES).await? {
                    ChangesSince::Changes { changes, .. } if changes.is_empty() => break,
                    ChangesSince::Changes { changes, more } => {
                        tracing::debug!(collection = %name, count = changes.len(), "changes that are not of this node were read from the store");
                        hub.append(&changes.into_iter().map(Arc::new).collect::<Vec<_>>());
                        if !more {
                            break;
                        }
                    }
                    ChangesSince::OutOfRange(reason) => {
                        // The heads are read again: the log may have grown since.
                        let heads = store.heads().await?;
                        let Some((_, head)) = heads.into_iter().find(|(found, _)| *found == name)
                        else {
                            break;
                        };
                        if hub.head() == at {
                            tracing::warn!(collection = %name, %reason, "the log is not the one known so far: subscribers are reset");
                            hub.reset(head, reason);
                        }
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
