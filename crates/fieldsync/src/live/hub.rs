//! Fan-out inside one node: the recent changes of a collection, shared by all its subscribers.
//!
//! Subscribers are cursors on this ring, not queues. The ring takes only the next offset; what else is heard of is read
//! from the store first (see `hubs.rs`). Whoever falls behind the ring reads the store too (see `subscription.rs`).

use futures_util::task::AtomicWaker;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Waker;

use crate::live::ring::{Entry, RING_BYTES, RING_CHANGES, Ring};
use crate::model::change::Change;
use crate::model::cursor::{Position, ResetReason};
use crate::model::record::RecordId;

/// The recent changes of one collection, and who waits for more.
#[derive(Debug)]
pub(crate) struct Hub {
    ring: RwLock<Ring>,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    of_collection: HashMap<u64, Arc<AtomicWaker>>,
    of_records: HashMap<RecordId, RecordListeners>,
}

#[derive(Debug, Default)]
struct RecordListeners {
    /// The highest offset of a change of this record that has left the ring.
    evicted: Arc<AtomicU64>,
    wakers: HashMap<u64, Arc<AtomicWaker>>,
}

/// What is new to a subscriber.
#[derive(Debug)]
pub(crate) enum News {
    /// These entries, and the place after them; perhaps none.
    Entries(Vec<Arc<Entry>>, Position),
    /// Changes of its topic have left the ring unsent: the store has them.
    Behind,
    /// The log is another one.
    Reset(ResetReason),
    /// There will be no more.
    Closed,
}

impl Hub {
    pub(crate) fn new(head: Position) -> Self {
        let ring = Ring {
            head,
            entries: VecDeque::new(),
            bytes: 0,
            generation: 0,
            reason: ResetReason::Epoch,
            closed: false,
        };
        Self {
            ring: RwLock::new(ring),
            listeners: Mutex::default(),
        }
    }

    /// The place after the newest change in the ring.
    pub(crate) fn head(&self) -> Position {
        self.read().head
    }

    /// Takes what follows the head and wakes those who wait for it. Answers whether the ring now is up to the last of
    /// the changes; if not, there is a gap that the store knows, or the log is another one.
    pub(crate) fn append(&self, changes: &[Arc<Change>]) -> bool {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let mut appended = Vec::with_capacity(changes.len());
        for change in changes {
            let next = Position {
                offset: ring.head.offset + 1,
                ..change.position
            };
            if change.position.epoch != ring.head.epoch || ring.contradicts(change.position) {
                break;
            }
            if change.position == next {
                ring.push(Arc::clone(change));
                appended.push(change.key.id);
            }
        }
        let complete = changes.last().is_none_or(|last| last.position == ring.head);
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while ring.entries.len() > RING_CHANGES || ring.bytes > RING_BYTES {
            let Some(entry) = ring.entries.pop_front() else {
                break;
            };
            ring.bytes -= entry.bytes;
            // Marked under the ring's lock, so that no reader sees the one without the other.
            listeners.evicted(&entry.change);
        }
        drop(ring);
        let waiting = listeners.waiting(&appended);
        drop(listeners);
        // Woken without a lock: who is woken may be dropped by it.
        waiting.into_iter().for_each(Waker::wake);
        complete
    }

    /// Begins anew at another head: the log is not the one that the ring was filled from.
    pub(crate) fn reset(&self, head: Position, reason: ResetReason) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let (generation, closed) = (ring.generation + 1, ring.closed);
        *ring = Ring {
            head,
            entries: VecDeque::new(),
            bytes: 0,
            generation,
            reason,
            closed,
        };
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // These were offsets of the other log.
        listeners
            .of_records
            .values()
            .for_each(|of_record| of_record.evicted.store(0, Ordering::Release));
        drop(ring);
        self.wake_all(listeners);
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.ring
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.wake_all(
            self.listeners
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Gives the lock up before anybody is woken.
    fn wake_all(&self, listeners: MutexGuard<'_, Listeners>) {
        let of_records = listeners
            .of_records
            .values()
            .flat_map(|of_record| of_record.wakers.values());
        let waiting: Vec<Waker> = listeners
            .of_collection
            .values()
            .chain(of_records)
            .filter_map(|waker| waker.take())
            .collect();
        drop(listeners);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Begins to listen, to the collection or to one record. What is committed from now on will be heard of.
    pub(crate) fn listen(self: &Arc<Self>, topic: Option<RecordId>) -> Listener {
        let ring = self.read();
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (number, waker) = (listeners.next, Arc::new(AtomicWaker::new()));
        listeners.next += 1;
        let evicted = match topic {
            Some(id) => {
                let of_record = listeners.of_records.entry(id).or_default();
                of_record.wakers.insert(number, Arc::clone(&waker));
                Some(Arc::clone(&of_record.evicted))
            }
            None => {
                listeners.of_collection.insert(number, Arc::clone(&waker));
                None
            }
        };
        Listener {
            hub: Arc::clone(self),
            number,
            topic,
            waker,
            evicted,
            generation: ring.generation,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    fn evicted(&self, change: &Change) {
        if let Some(of_record) = self.of_records.get(&change.key.id) {
            of_record
                .evicted
                .store(change.position.offset, Ordering::Release);
        }
    }

    /// Those who wait for a change of one of these records.
    fn waiting(&self, changed: &[RecordId]) -> Vec<Waker> {
        if changed.is_empty() {
            return Vec::new();
        }
        let of_records = changed.iter().filter_map(|id| self.of_records.get(id));
        let of_records = of_records.flat_map(|of_record| of_record.wakers.values());
        self.of_collection
            .values()
            .chain(of_records)
            .filter_map(|waker| waker.take())
            .collect()
    }
}

/// One subscriber's ear at the hub. Stops listening when dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Arc<Hub>,
    number: u64,
    topic: Option<RecordId>,
    pub(crate) waker: Arc<AtomicWaker>,
    evicted: Option<Arc<AtomicU64>>,
    generation: u64,
}

impl Listener {
    /// What is new after a place, at most `limit` entries of the topic.
    pub(crate) fn news(&self, at: Position, limit: usize) -> News {
        let ring = self.hub.read();
        if ring.closed {
            return News::Closed;
        }
        if ring.generation != self.generation {
            return News::Reset(ring.reason);
        }
        // The store may have been ahead of this ring when the place was read, or it was restored and is another one;
        // then a reset is on its way.
        if at.offset >= ring.head.offset || ring.contradicts(at) {
            return News::Entries(Vec::new(), at);
        }
        let behind = match &self.evicted {
            Some(evicted) => evicted.load(Ordering::Acquire) > at.offset,
            None => ring
                .entries
                .front()
                .is_none_or(|first| first.change.position.offset > at.offset + 1),
        };
        if behind {
            return News::Behind;
        }
        let first = ring
            .entries
            .front()
            .map_or(0, |first| first.change.position.offset);
        let skip = (at.offset + 1).saturating_sub(first) as usize;
        let mut entries = Vec::new();
        for entry in ring.entries.iter().skip(skip) {
            if entries.len() == limit {
                // A cut page ends at its last entry, not at the head.
                let last = entries
                    .last()
                    .map_or(at, |last: &Arc<Entry>| last.change.position);
                return News::Entries(entries, last);
            }
            if self.topic.is_none_or(|id| entry.change.key.id == id) {
                entries.push(Arc::clone(entry));
            }
        }
        News::Entries(entries, ring.head)
    }

    /// Whether there will be no more news.
    pub(crate) fn is_closed(&self) -> bool {
        self.hub.read().closed
    }

    /// Follows the hub over a reset.
    pub(crate) fn begin_again(&mut self) {
        self.generation = self.hub.read().generation;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self
            .hub
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match self.topic {
            None => {
                listeners.of_collection.remove(&self.number);
            }
            Some(id) => {
                if let Some(of_record) = listeners.of_records.get_mut(&id) {
                    of_record.wakers.remove(&self.number);
                    if of_record.wakers.is_empty() {
                        listeners.of_records.remove(&id);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::Action;
    use crate::model::record::{Fields, RecordKey};
    use crate::model::timestamp::Timestamp;

    fn place(offset: u64, tag: u32) -> Position {
        Position {
            epoch: 1,
            offset,
            tag,
        }
    }

    fn change(offset: u64, tag: u32) -> Arc<Change> {
        Arc::new(Change {
            position: place(offset, tag),
            key: RecordKey::from(("users", 1)),
            action: Action::Create,
            after: Fields::new(),
            previous: Fields::new(),
            at: Timestamp::now(),
            who: None,
            idempotency_key: None,
        })
    }

    fn hub(head: u64, changes: u64) -> Arc<Hub> {
        let hub = Arc::new(Hub::new(place(head, 7)));
        assert!(
            hub.append(
                &(1..=changes)
                    .map(|number| change(head + number, 7))
                    .collect::<Vec<_>>()
            )
        );
        hub
    }

    #[test]
    fn only_what_follows_is_taken() {
        let hub = hub(0, 3);
        assert!(hub.append(&[change(2, 7), change(3, 7), change(4, 7)]));
        assert!(!hub.append(&[change(6, 7)]));
        assert_eq!(hub.head(), place(4, 7));
    }

    #[test]
    fn changes_of_a_restored_log_are_not_spliced_onto_the_lost_one() {
        let hub = hub(97, 3);
        assert!(
            !hub.append(
                &(98..=102)
                    .map(|offset| change(offset, 8))
                    .collect::<Vec<_>>()
            )
        );
        assert_eq!(hub.head(), place(100, 7));
        // Who read the restored log gets nothing of the lost one.
        let News::Entries(entries, _) = hub.listen(None).news(place(98, 8), 10) else {
            panic!("entries")
        };
        assert!(entries.is_empty());
    }

    #[test]
    fn a_record_that_did_not_change_leaves_its_subscribers_live_whatever_leaves_the_ring() {
        let hub = hub(0, 1);
        let (one, two) = (hub.listen(Some(1.into())), hub.listen(Some(2.into())));
        let all: Vec<_> = (2..4000).map(|offset| change(offset, 7)).collect();
        all.chunks(100)
            .for_each(|changes| assert!(hub.append(changes)));
        assert!(matches!(one.news(place(1, 7), 10), News::Behind));
        assert!(
            matches!(two.news(place(1, 7), 10), News::Entries(entries, _) if entries.is_empty())
        );
        // After a reset nothing of the other log counts.
        let mut one = one;
        hub.reset(place(50, 9), ResetReason::Restored);
        assert!(matches!(
            one.news(place(1, 7), 10),
            News::Reset(ResetReason::Restored)
        ));
        one.begin_again();
        assert!(hub.append(&[change(51, 9)]));
        assert!(
            matches!(one.news(place(50, 9), 10), News::Entries(entries, _) if entries.len() == 1)
        );
    }
}
