//! The hub: fan-out of one collection's changes to the subscribers of this node.
//!
//! A subscriber is a position in the hub's ring of recent changes, not a queue. The ring only appends the change with
//! the next offset. For any other change, `hub_registry` first reads the store. A subscriber that is behind the ring
//! reads the store too, in `subscription`.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Waker};

use crate::live::hub_index::{HubIndex, KeyState};
use crate::live::ring::{Entry, Ring};
use crate::live::waiter::Waiter;
use crate::model::change::Change;
use crate::model::cursor::{Position, ResetReason};
use crate::schema::index_key::IndexKey;
use crate::store::page::{PageLimit, PageMeter};

/// The recent changes of one collection, and the listeners that wait for more.
#[derive(Debug)]
pub(crate) struct Hub {
    ring: RwLock<Ring>,
    listeners: Mutex<Listeners>,
    /// How many changes of the store's log the ring lacked at the last poll.
    lag: AtomicU64,
}

/// The state of a hub in numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HubFigures {
    pub(crate) head: Position,
    pub(crate) lag: u64,
    pub(crate) subscriptions: usize,
    pub(crate) ring_bytes: usize,
}

#[derive(Debug, Default)]
struct Listeners {
    /// The number of the next listener.
    next_number: u64,
    /// How many listeners have ended.
    ended: u64,
    of_collection: HashMap<u64, Arc<Waiter>>,
    index: HubIndex,
}

/// The result of reading the ring after a position.
#[derive(Debug)]
pub(crate) enum RingRead {
    /// The next entries of the topic, possibly none, and the position after them.
    Entries(Vec<Arc<Entry>>, Position),
    /// Changes of the topic after the position were evicted from the ring. The subscriber reads them from the store.
    Evicted,
    /// The ring was reset, for this reason: it now follows another log.
    Reset(ResetReason),
    /// All subscriptions have ended.
    Closed,
}

impl Hub {
    pub(crate) fn new(head: Position) -> Self {
        let ring = Ring {
            head,
            entries: VecDeque::new(),
            bytes: 0,
            frame_bytes: Arc::default(),
            generation: 0,
            reset_reason: ResetReason::Epoch,
            closed: false,
        };
        Self {
            ring: RwLock::new(ring),
            listeners: Mutex::default(),
            lag: AtomicU64::new(0),
        }
    }

    pub(crate) fn figures(&self) -> HubFigures {
        let (head, ring_bytes) = {
            let ring = self.read();
            let frames = ring.frame_bytes.load(Ordering::Relaxed);
            (ring.head, ring.bytes + frames)
        };
        let listeners = self.listeners.lock();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        HubFigures {
            head,
            lag: self.lag.load(Ordering::Relaxed),
            subscriptions: (listeners.next_number - listeners.ended) as usize,
            ring_bytes,
        }
    }

    /// Notes where the store's log ends, as of now.
    pub(crate) fn note_store_head(&self, head: Position) {
        let lag = head.offset.saturating_sub(self.head().offset);
        self.lag.store(lag, Ordering::Relaxed);
    }

    /// The position after the newest change in the ring.
    pub(crate) fn head(&self) -> Position {
        self.read().head
    }

    /// Appends the changes that follow the head, and wakes the listeners that wait for them. Changes that the ring
    /// already has are skipped.
    ///
    /// Returns whether the ring now ends with the last of the changes. If not, changes before them are missing and must
    /// be read from the store, or they belong to another log.
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
                appended.extend(ring.entries.back().cloned());
            }
        }
        let complete = changes.last().is_none_or(|last| last.position == ring.head);
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The ring is still locked, so that no reader moves past a change that the index does not have, or that is gone and not marked
        // as evicted.
        let mut concerned = Vec::new();
        for entry in &appended {
            listeners.index.note(entry, &mut concerned);
        }
        let evicted = ring.evict();
        for entry in &evicted {
            listeners.index.evict(&entry.change);
        }
        drop(ring);
        let of_collection = listeners
            .of_collection
            .values()
            .filter(|_| !appended.is_empty());
        let waiters = of_collection.chain(&concerned);
        let wakers: Vec<Waker> = waiters.filter_map(|waiter| waiter.waker.take()).collect();
        drop(listeners);
        evicted.iter().for_each(|entry| entry.drop_frames());
        // No lock is held here: waking a task may drop its listener, which locks the listeners.
        wakers.into_iter().for_each(Waker::wake);
        complete
    }

    /// Empties the ring and starts at another head, since the store's log is no longer the one that filled the ring.
    pub(crate) fn reset(&self, head: Position, reset_reason: ResetReason) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let (generation, closed) = (ring.generation + 1, ring.closed);
        *ring = Ring {
            head,
            entries: VecDeque::new(),
            bytes: 0,
            frame_bytes: Arc::default(),
            generation,
            reset_reason,
            closed,
        };
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The evicted offsets belong to the other log.
        listeners.index.reset(head.offset);
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

    /// Wakes all listeners, after the lock is released.
    fn wake_all(&self, listeners: MutexGuard<'_, Listeners>) {
        let wakers: Vec<Waker> = listeners
            .of_collection
            .values()
            .chain(listeners.index.waiters())
            .filter_map(|waiter| waiter.waker.take())
            .collect();
        drop(listeners);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Registers a listener for the collection, or for the changes that concern one of these keys. The listener is woken for every such
    /// change that is appended from now on.
    pub(crate) fn listen(self: &Arc<Self>, keys: Option<Vec<IndexKey>>) -> Listener {
        self.listen_with(&Arc::default(), 0, keys)
    }

    /// Registers a listener that is woken with others, among which it has this number.
    fn listen_with(
        self: &Arc<Self>,
        waiter: &Arc<Waiter>,
        own_number: usize,
        keys: Option<Vec<IndexKey>>,
    ) -> Listener {
        let ring = self.read();
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let number = listeners.next_number;
        listeners.next_number += 1;
        let keys = match keys {
            Some(keys) => {
                let waiter = (waiter, own_number);
                let states = (listeners.index).add(number, &keys, waiter, ring.head.offset);
                Some(Box::new(Keys { keys, states }))
            }
            None => {
                listeners.of_collection.insert(number, Arc::clone(waiter));
                None
            }
        };
        Listener {
            hub: Arc::clone(self),
            number,
            waiter: Arc::clone(waiter),
            own_number,
            keys,
            generation: ring.generation,
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registration of one subscription with the hub. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Arc<Hub>,
    number: u64,
    waiter: Arc<Waiter>,
    /// Its number among those that are woken with it.
    own_number: usize,
    /// What it waits for. For every change without it.
    keys: Option<Box<Keys>>,
    generation: u64,
}

#[derive(Debug)]
struct Keys {
    keys: Vec<IndexKey>,
    states: Vec<Arc<KeyState>>,
}

/// The changes with certain keys that the ring has.
#[derive(Debug)]
pub(crate) enum KeysRead {
    Entries(Vec<Arc<Entry>>),
    /// Some were evicted from the ring.
    Evicted,
    /// The keys are known only since a later change.
    Unknown,
}

impl Keys {
    fn touch(&self, change: &Change) -> bool {
        self.keys.iter().any(|key| key.touches(change))
    }

    /// The changes after an offset, the first ones of them up to this number.
    fn after(&self, offset: u64, most: usize) -> KeysRead {
        let is_evicted = |state: &Arc<KeyState>| state.evicted.load(Ordering::Acquire) > offset;
        if self.states.iter().any(is_evicted) {
            return KeysRead::Evicted;
        }
        let states = self.states.iter();
        let entries: Option<Vec<_>> = states.map(|state| state.after(offset, most)).collect();
        let Some(mut entries) = entries.map(|entries| entries.concat()) else {
            return KeysRead::Unknown;
        };
        if self.states.len() > 1 {
            entries.sort_by_key(|entry| entry.change.position.offset);
            entries.dedup_by_key(|entry| entry.change.position.offset);
            entries.truncate(most);
        }
        KeysRead::Entries(entries)
    }
}

impl Listener {
    /// Reads the entries of the topic after a position, up to the limit.
    pub(crate) fn read_after(&self, position: Position, limit: PageLimit) -> RingRead {
        let ring = self.hub.read();
        if ring.closed {
            return RingRead::Closed;
        }
        if ring.generation != self.generation {
            return RingRead::Reset(ring.reset_reason);
        }
        // The position was read from the store, which may be ahead of this ring. Or the store has another log since it
        // was restored, and this hub is about to be reset.
        if position.offset >= ring.head.offset || ring.contradicts(position) {
            return RingRead::Entries(Vec::new(), position);
        }
        match self.known_after(position.offset, limit.rows + 1) {
            Some(KeysRead::Entries(known)) => {
                return read_entries(known.iter(), position, ring.head, limit);
            }
            Some(KeysRead::Evicted) => return RingRead::Evicted,
            // The position is from before the listener was registered.
            Some(KeysRead::Unknown) | None => {}
        }
        let Some(entries) = ring.after(position) else {
            return RingRead::Evicted;
        };
        let touches = |entry: &&Arc<Entry>| {
            self.keys
                .as_ref()
                .is_none_or(|keys| keys.touch(&entry.change))
        };
        read_entries(entries.filter(touches), position, ring.head, limit)
    }

    /// The changes after an offset that have its keys, the first ones up to this number. `None` if it waits for every change.
    pub(crate) fn known_after(&self, offset: u64, most: usize) -> Option<KeysRead> {
        self.keys.as_ref().map(|keys| keys.after(offset, most))
    }

    /// Whether it waits for every change.
    pub(crate) fn is_of_all(&self) -> bool {
        self.keys.is_none()
    }

    /// Is woken with others from now on, among which it has this number.
    pub(crate) fn join(&mut self, waiter: &Arc<Waiter>, own_number: usize) {
        let keys = self.keys.as_ref().map(|keys| keys.keys.clone());
        let mut joined = self.hub.listen_with(waiter, own_number, keys);
        joined.generation = self.generation;
        // The other registration ends now, so that nothing was missed in between.
        *self = joined;
    }

    /// Takes the place of another.
    pub(crate) fn join_like(&mut self, other: &Self) {
        self.join(&other.waiter, other.own_number);
    }

    /// Whether the ring has got to this position, so that what follows it will be appended.
    pub(crate) fn has_reached(&self, position: Position) -> bool {
        let ring = self.hub.read();
        let is_known = position.epoch == ring.head.epoch && !ring.contradicts(position);
        is_known && ring.generation == self.generation && position.offset <= ring.head.offset
    }

    /// Has this task woken.
    pub(crate) fn register(&self, context: &Context<'_>) {
        self.waiter.waker.register(context.waker());
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The position after the newest change in the ring.
    pub(crate) fn head(&self) -> Position {
        self.hub.head()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Whether all subscriptions have ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.hub.read().closed
    }

    /// Continues after a reset of the ring.
    pub(crate) fn accept_reset(&mut self) {
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
        listeners.ended += 1;
        match &self.keys {
            None => {
                listeners.of_collection.remove(&self.number);
            }
            Some(keys) => listeners.index.remove(self.number, &keys.keys),
        }
    }
}

/// The entries after a position, up to the limit.
fn read_entries<'a>(
    entries: impl Iterator<Item = &'a Arc<Entry>>,
    position: Position,
    head: Position,
    limit: PageLimit,
) -> RingRead {
    let (mut meter, mut read) = (PageMeter::new(limit), Vec::new());
    for entry in entries {
        if !meter.take(entry.bytes) {
            // There are more entries, so that the position is that of the last one, not the head.
            let last = read.last();
            let last = last.map_or(position, |last: &Arc<Entry>| last.change.position);
            return RingRead::Entries(read, last);
        }
        read.push(Arc::clone(entry));
    }
    RingRead::Entries(read, head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::ring::{Frame, FrameKey, FrameKind, MAX_RING_BYTES};
    use crate::model::change::Action;
    use crate::model::record::{Fields, RecordKey};
    use crate::model::timestamp::Timestamp;
    use crate::schema::comparison::Comparison;
    use crate::schema::view::View;

    const LIMIT: PageLimit = PageLimit {
        rows: 10,
        bytes: 10_000,
    };

    fn position(offset: u64, tag: u32) -> Position {
        Position {
            epoch: 1,
            offset,
            tag,
        }
    }

    fn change(offset: u64, tag: u32) -> Arc<Change> {
        Arc::new(Change {
            position: position(offset, tag),
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
        let hub = Arc::new(Hub::new(position(head, 7)));
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
    fn the_figures_show_listeners_and_what_the_ring_lacks() {
        let hub = hub(0, 3);
        let listeners = [
            hub.listen(None),
            hub.listen(Some(vec![IndexKey::of_record(&1.into())])),
        ];
        hub.note_store_head(position(5, 7));
        let figures = hub.figures();
        assert_eq!((figures.head.offset, figures.lag), (3, 2));
        assert_eq!(figures.subscriptions, 2);
        drop(listeners);
        assert!(hub.append(&[change(4, 7), change(5, 7)]));
        hub.note_store_head(position(5, 7));
        assert_eq!((hub.figures().lag, hub.figures().subscriptions), (0, 0));
    }

    /// Encodes a frame of this size of an entry.
    fn encode(entry: &Entry, sub: &str, bytes: usize) {
        let key = FrameKey {
            kind: FrameKind::Whole(sub.into(), 1),
            view: View::full(),
            action: Action::Create,
        };
        let json = vec![b'x'; bytes].into();
        entry.frame(key, || Frame::without_cursor(json));
    }

    #[test]
    fn frames_count_as_memory_of_the_ring_and_go_with_their_change() {
        const MIB: usize = 1024 * 1024;
        let hub = hub(0, 1);
        let RingRead::Entries(pinned, _) = hub.listen(None).read_after(position(0, 7), LIMIT)
        else {
            panic!("entries")
        };
        let before = hub.figures().ring_bytes;
        for sub in 0..8 {
            encode(&pinned[0], &sub.to_string(), MIB);
        }
        assert_eq!(hub.figures().ring_bytes, before + 8 * MIB);
        // The same frame is kept once.
        encode(&pinned[0], "0", MIB);
        assert_eq!(hub.figures().ring_bytes, before + 8 * MIB);
        for offset in 2..100 {
            assert!(hub.append(&[change(offset, 7)]));
            let ring = hub.read();
            let newest = Arc::clone(ring.entries.back().unwrap());
            drop(ring);
            for sub in 0..4 {
                encode(&newest, &sub.to_string(), MIB);
            }
            assert!(hub.figures().ring_bytes <= 2 * MAX_RING_BYTES);
        }
        assert!(hub.append(&[change(100, 7)]));
        assert!(hub.figures().ring_bytes <= MAX_RING_BYTES);
        // A subscriber that has not taken the first change holds only the change.
        let key = FrameKey {
            kind: FrameKind::Whole("0".into(), 1),
            view: View::full(),
            action: Action::Create,
        };
        assert!(pinned[0].encoded(&key).is_none());
        encode(&pinned[0], "0", MIB);
        assert!(pinned[0].encoded(&key).is_none());
    }

    #[test]
    fn only_changes_that_follow_the_head_are_appended() {
        let hub = hub(0, 3);
        assert!(hub.append(&[change(2, 7), change(3, 7), change(4, 7)]));
        assert!(!hub.append(&[change(6, 7)]));
        assert_eq!(hub.head(), position(4, 7));
    }

    #[test]
    fn changes_of_a_restored_log_are_not_appended_to_the_lost_log() {
        let hub = hub(97, 3);
        assert!(
            !hub.append(
                &(98..=102)
                    .map(|offset| change(offset, 8))
                    .collect::<Vec<_>>()
            )
        );
        assert_eq!(hub.head(), position(100, 7));
        // A subscriber that has read the restored log receives nothing of the lost log.
        let RingRead::Entries(entries, _) = hub.listen(None).read_after(position(98, 8), LIMIT)
        else {
            panic!("entries")
        };
        assert!(entries.is_empty());
    }

    #[test]
    fn subscribers_of_an_unchanged_record_stay_live_when_changes_are_evicted() {
        let hub = hub(0, 1);
        let (one, two) = (
            hub.listen(Some(vec![IndexKey::of_record(&1.into())])),
            hub.listen(Some(vec![IndexKey::of_record(&2.into())])),
        );
        let all: Vec<_> = (2..4000).map(|offset| change(offset, 7)).collect();
        all.chunks(100)
            .for_each(|changes| assert!(hub.append(changes)));
        assert!(matches!(
            one.read_after(position(1, 7), LIMIT),
            RingRead::Evicted
        ));
        assert!(
            matches!(two.read_after(position(1, 7), LIMIT), RingRead::Entries(entries, _) if entries.is_empty())
        );
        // After a reset the evicted changes of the other log do not count.
        let mut one = one;
        hub.reset(position(50, 9), ResetReason::Restored);
        assert!(matches!(
            one.read_after(position(1, 7), LIMIT),
            RingRead::Reset(ResetReason::Restored)
        ));
        one.accept_reset();
        assert!(hub.append(&[change(51, 9)]));
        assert!(
            matches!(one.read_after(position(50, 9), LIMIT), RingRead::Entries(entries, _) if entries.len() == 1)
        );
    }

    fn task(offset: u64, project: i64, before: Option<i64>) -> Arc<Change> {
        let fields = |project: i64| {
            let fields = serde_json::json!({"project_id": project});
            fields.as_object().unwrap().clone()
        };
        let (action, previous) = match before {
            None => (Action::Create, Fields::new()),
            Some(before) => (Action::Update, fields(before)),
        };
        let created = change(offset, 7);
        Arc::new(Change {
            action,
            previous,
            after: fields(project),
            ..Change::clone(&created)
        })
    }

    fn of_project(project: i64) -> Option<Vec<IndexKey>> {
        let key = IndexKey::of("project_id", Comparison::Decimal, &project.into());
        Some(vec![key.unwrap()])
    }

    #[track_caller]
    fn check_read(listener: &Listener, after: u64, offsets: &[u64], head: u64) {
        let RingRead::Entries(entries, end) = listener.read_after(position(after, 7), LIMIT) else {
            panic!("entries")
        };
        let read: Vec<u64> = entries
            .iter()
            .map(|entry| entry.change.position.offset)
            .collect();
        assert_eq!((read.as_slice(), end.offset), (offsets, head));
    }

    #[test]
    fn a_listener_of_a_value_reads_what_had_it_before_or_after_and_what_is_unknown() {
        let hub = hub(0, 1);
        assert!(hub.append(&[task(2, 5, None)]));
        let (five, six) = (hub.listen(of_project(5)), hub.listen(of_project(6)));
        let both = hub.listen(Some(
            [of_project(5).unwrap(), of_project(6).unwrap()].concat(),
        ));
        // From before it was registered, the ring is searched.
        check_read(&five, 1, &[2], 2);
        check_read(&six, 1, &[], 2);
        let unknown = Arc::new(Change {
            action: Action::Update,
            ..Change::clone(&change(5, 7))
        });
        assert!(hub.append(&[
            task(3, 6, Some(5)),
            task(4, 7, Some(8)),
            unknown,
            task(6, 6, Some(6))
        ]));
        check_read(&five, 2, &[3, 5], 6);
        check_read(&six, 2, &[3, 5, 6], 6);
        check_read(&both, 2, &[3, 5, 6], 6);
        check_read(&five, 5, &[], 6);
        // Not so far back that it is not known what was in the ring before.
        let late = Arc::new(Hub::new(position(0, 7)));
        for offset in 1..3000 {
            assert!(late.append(&[task(offset, 9, None)]));
        }
        let registered = late.listen(of_project(5));
        assert!(matches!(
            registered.read_after(position(1, 7), LIMIT),
            RingRead::Evicted
        ));
        // Others' changes do not wake it, and their eviction does not concern it.
        let woken = futures_util::task::noop_waker();
        five.waiter.waker.register(&woken);
        six.waiter.waker.register(&woken);
        assert!(hub.append(&[task(7, 6, None)]));
        assert!(five.waiter.waker.take().is_some());
        assert!(six.waiter.waker.take().is_none());
        for offset in 8..3000 {
            assert!(hub.append(&[task(offset, 9, None)]));
        }
        check_read(&five, 6, &[], 2999);
        assert!(matches!(
            six.read_after(position(6, 7), LIMIT),
            RingRead::Evicted
        ));
        assert!(matches!(
            both.read_after(position(6, 7), LIMIT),
            RingRead::Evicted
        ));
    }
}
