//! Which listeners a change concerns. Those of one record, and those whose filters require certain values, are found by these; so a
//! change costs its matches, not all subscriptions.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::live::ring::Entry;
use crate::live::waiter::Waiter;
use crate::model::change::Change;
use crate::schema::comparison::Comparison;
use crate::schema::index_key::{IndexKey, KeysOfChange};

/// The listeners that wait for certain values, by field and value.
#[derive(Debug, Default)]
pub(crate) struct HubIndex(HashMap<String, OfField>);

#[derive(Debug)]
struct OfField {
    comparison: Comparison,
    keys: HashMap<String, OfKey>,
}

#[derive(Debug)]
struct OfKey {
    state: Arc<KeyState>,
    /// By the number of the listener: who waits, and its number there.
    waiters: HashMap<u64, (Arc<Waiter>, usize)>,
}

/// What the ring has of the changes with one key.
#[derive(Debug)]
pub(crate) struct KeyState {
    /// The highest offset of such a change that was evicted from the ring.
    pub(crate) evicted: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Recent {
    /// Every such change after this offset that is in the ring is in the entries.
    complete_after: u64,
    entries: VecDeque<Arc<Entry>>,
}

impl KeyState {
    fn new(complete_after: u64) -> Self {
        Self {
            evicted: AtomicU64::new(0),
            recent: Mutex::new(Recent {
                complete_after,
                entries: VecDeque::new(),
            }),
        }
    }

    /// The changes after an offset that are in the ring, at most this many. `None` if they are not all known here.
    pub(crate) fn after(&self, offset: u64, most: usize) -> Option<Vec<Arc<Entry>>> {
        let recent = self.recent();
        if offset < recent.complete_after {
            return None;
        }
        let is_before = |entry: &Arc<Entry>| entry.change.position.offset <= offset;
        let first = recent.entries.partition_point(is_before);
        let after = recent.entries.range(first..).take(most);
        Some(after.cloned().collect())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HubIndex {
    /// Adds a listener. `head`: the offset of the ring's newest change.
    pub(crate) fn add(
        &mut self,
        number: u64,
        keys: &[IndexKey],
        waiter: (&Arc<Waiter>, usize),
        head: u64,
    ) -> Vec<Arc<KeyState>> {
        let add = |key: &IndexKey| {
            let of_field = self.0.entry(key.field.clone()).or_insert_with(|| OfField {
                comparison: key.comparison,
                keys: HashMap::new(),
            });
            let of_key = of_field.keys.entry(key.value.clone());
            let of_key = of_key.or_insert_with(|| OfKey {
                state: Arc::new(KeyState::new(head)),
                waiters: HashMap::new(),
            });
            let (waiter, own_number) = waiter;
            let waiter = (Arc::clone(waiter), own_number);
            of_key.waiters.insert(number, waiter);
            Arc::clone(&of_key.state)
        };
        keys.iter().map(add).collect()
    }

    /// Removes a listener that was added with these keys.
    pub(crate) fn remove(&mut self, number: u64, keys: &[IndexKey]) {
        for key in keys {
            let Some(of_field) = self.0.get_mut(&key.field) else {
                continue;
            };
            if let Some(of_key) = of_field.keys.get_mut(&key.value) {
                of_key.waiters.remove(&number);
                if of_key.waiters.is_empty() {
                    of_field.keys.remove(&key.value);
                }
            }
            if of_field.keys.is_empty() {
                self.0.remove(&key.field);
            }
        }
    }

    /// Notes a change that was appended to the ring, and collects who waits for it.
    pub(crate) fn note(&self, entry: &Arc<Entry>, concerned: &mut Vec<Arc<Waiter>>) {
        self.for_each_key(&entry.change, |of_key| {
            let mut recent = of_key.state.recent();
            // A value that did not change is found twice.
            if recent
                .entries
                .back()
                .is_none_or(|last| !Arc::ptr_eq(last, entry))
            {
                recent.entries.push_back(Arc::clone(entry));
                drop(recent);
                for (waiter, number) in of_key.waiters.values() {
                    waiter.mark(*number);
                    concerned.push(Arc::clone(waiter));
                }
            }
        });
    }

    /// Notes a change that was evicted from the ring.
    pub(crate) fn evict(&self, change: &Change) {
        let offset = change.position.offset;
        self.for_each_key(change, |of_key| {
            of_key.state.evicted.fetch_max(offset, Ordering::AcqRel);
            let mut recent = of_key.state.recent();
            let is_evicted = |entry: &Arc<Entry>| entry.change.position.offset <= offset;
            while recent.entries.front().is_some_and(is_evicted) {
                recent.entries.pop_front();
            }
        });
    }

    /// Forgets the changes: the ring starts at this offset of another log.
    pub(crate) fn reset(&self, head: u64) {
        for of_key in self.0.values().flat_map(|of_field| of_field.keys.values()) {
            of_key.state.evicted.store(0, Ordering::Release);
            let mut recent = of_key.state.recent();
            recent.entries.clear();
            recent.complete_after = head;
        }
    }

    /// All who wait.
    pub(crate) fn waiters(&self) -> impl Iterator<Item = &Arc<Waiter>> {
        let of_fields = self.0.values();
        of_fields
            .flat_map(|of_field| of_field.keys.values())
            .flat_map(|of_key| of_key.waiters.values())
            .map(|(waiter, _)| waiter)
    }

    fn for_each_key(&self, change: &Change, mut visit: impl FnMut(&OfKey)) {
        for (field, of_field) in &self.0 {
            match KeysOfChange::of(change, field, of_field.comparison) {
                KeysOfChange::Unknown => of_field.keys.values().for_each(&mut visit),
                KeysOfChange::Known(values) => {
                    let found = values.iter().flatten();
                    found
                        .filter_map(|value| of_field.keys.get(value))
                        .for_each(&mut visit);
                }
            }
        }
    }
}
