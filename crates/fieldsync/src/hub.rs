//! Fan-out inside one node: the recent changes of a collection, shared by all its subscribers.
//!
//! Subscribers are cursors on this ring, not queues. The ring takes only the next offset; what else is heard of is read
//! from the store first (see `follow.rs`). Whoever falls behind the ring reads the store too (see `subscription.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::authorize::View;
use crate::change::{Action, Change};
use crate::cursor::{Position, ResetReason};
use crate::record::RecordId;

/// How many changes the ring of a collection holds.
const RING_CHANGES: usize = 1024;

/// The recent changes of one collection, and who waits for more.
#[derive(Debug)]
pub(crate) struct Hub {
    ring: RwLock<Ring>,
    listeners: Mutex<Listeners>,
}

#[derive(Debug)]
struct Ring {
    /// The place after the newest entry.
    head: Position,
    /// Without gap; the last one is at the head.
    entries: VecDeque<Arc<Entry>>,
    /// Grows whenever the log turned out to be another one; subscribers of an older one begin again.
    generation: u64,
    /// Why it last grew.
    reason: ResetReason,
    closed: bool,
}

/// A change, and the frames made of it so far, shared by those who see it alike.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) change: Arc<Change>,
    frames: Mutex<Vec<(FrameKey, Bytes)>>,
}

/// What decides the bytes of a change's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameKey {
    pub(crate) kind: FrameKind,
    pub(crate) view: View,
    /// The view of those who see some rows alone tells itself apart in the cursor.
    pub(crate) view_hash: u32,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    CollectionTopic,
    RecordTopic,
    Feed,
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
    /// The engine is stopping.
    Closed,
}

impl Hub {
    pub(crate) fn new(head: Position) -> Self {
        let ring = Ring {
            head,
            entries: VecDeque::new(),
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
    /// the changes; if not, there is a gap that the store knows.
    pub(crate) fn append(&self, changes: &[Arc<Change>]) -> bool {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let mut appended = Vec::with_capacity(changes.len());
        for change in changes {
            let follows = change.position.epoch == ring.head.epoch
                && change.position.offset == ring.head.offset + 1;
            if follows {
                ring.head = change.position;
                ring.entries.push_back(Arc::new(Entry {
                    change: Arc::clone(change),
                    frames: Mutex::default(),
                }));
                appended.push(change.key.id);
            }
        }
        let complete = changes.last().is_none_or(|last| last.position == ring.head);
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while ring.entries.len() > RING_CHANGES {
            if let Some(entry) = ring.entries.pop_front() {
                // Marked under the ring's lock, so that no reader sees the one without the other.
                listeners.evicted(&entry.change);
            }
        }
        drop(ring);
        listeners.wake(&appended);
        complete
    }

    /// Begins anew at another head: the log is not the one that the ring was filled from.
    pub(crate) fn reset(&self, head: Position, reason: ResetReason) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        *ring = Ring {
            head,
            entries: VecDeque::new(),
            generation: ring.generation + 1,
            reason,
            closed: ring.closed,
        };
        drop(ring);
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wake_all();
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.ring
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wake_all();
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

    fn wake(&self, changed: &[RecordId]) {
        if changed.is_empty() {
            return;
        }
        self.of_collection.values().for_each(|waker| waker.wake());
        for id in changed {
            if let Some(of_record) = self.of_records.get(id) {
                of_record.wakers.values().for_each(|waker| waker.wake());
            }
        }
    }

    fn wake_all(&self) {
        let of_records = self
            .of_records
            .values()
            .flat_map(|of_record| of_record.wakers.values());
        self.of_collection
            .values()
            .chain(of_records)
            .for_each(|waker| waker.wake());
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
        // The store may have been ahead of this ring when the place was read.
        if at.offset >= ring.head.offset {
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

impl Entry {
    /// The frame for those who see the change alike, made once.
    pub(crate) fn frame(&self, key: FrameKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = frames.iter().find(|(known, _)| *known == key) {
            return frame.clone();
        }
        let frame = make();
        frames.push((key, frame.clone()));
        frame
    }
}
