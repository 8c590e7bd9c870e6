//! The answers of rules on which open streams stand: who has asked about which collection, and whether the answer still holds.
//!
//! A change of what a rule reads makes answers invalid. `gate` holds the streams that stand on them, and `engine::reasking` asks
//! again. Who asks for the first time is known here before the rule is asked, so that no change in between is missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::mpsc;

use crate::live::dependencies::Concerned;
use crate::live::looks::Looks;
use crate::model::principal::Principal;
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;

/// The delay before a rule that has failed is asked again. It doubles with each failure up to the maximum.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// What a rule answers to a principal that asks to read.
pub(crate) type Answer = Result<Grant, Refusal>;

/// The standings of a node.
#[derive(Debug)]
pub(crate) struct Standings {
    /// For each collection whose rule reads something.
    collections: HashMap<Arc<str>, Mutex<ByName>>,
    /// Those to be asked again. Each is in it once at most.
    queue: mpsc::UnboundedSender<Arc<Standing>>,
    pub(crate) looks: Arc<Looks>,
}

/// By the names of the principals. Those of one name may have different claims.
type ByName = HashMap<Option<Arc<str>>, Vec<Weak<Standing>>>;

/// What a principal may read of a collection, as long as somebody wants to know.
#[derive(Debug)]
pub(crate) struct Standing {
    standings: Arc<Standings>,
    pub(crate) collection: Arc<Collection>,
    pub(crate) principal: Principal,
    /// The number of changes since which an earlier answer does not hold. It changes under the lock.
    version: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The tasks of the streams that stand on the answer.
    streams: BTreeMap<u64, Arc<AtomicWaker>>,
    /// The number of the next stream.
    next_number: u64,
    /// Whether the rule is being asked, or will be.
    is_asked: bool,
    /// The last answer, and the version as of which it was asked for.
    answer: Option<(u64, Answer)>,
    /// How often the rule has failed since it last answered.
    failures: u32,
}

/// An answer that somebody has asked for, and the version as of then.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) standing: Arc<Standing>,
    pub(crate) version: u64,
}

impl Standings {
    /// The standings with the collections of these names, and what is to be asked again.
    pub(crate) fn new(
        collections: impl Iterator<Item = Arc<str>>,
        looks: Arc<Looks>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<Standing>>) {
        let (queue, queued) = mpsc::unbounded_channel();
        let standings = Self {
            collections: collections.map(|name| (name, Mutex::default())).collect(),
            queue,
            looks,
        };
        (Arc::new(standings), queued)
    }

    /// To be called before the rule is asked. `None` if its answers do not depend on changes.
    pub(crate) fn ask(
        self: &Arc<Self>,
        collection: &Arc<Collection>,
        principal: &Principal,
    ) -> Option<Asked> {
        let by_name = self.collections.get(collection.name())?;
        let mut locked = lock(by_name);
        let named = locked.entry(principal.name().map(Arc::from)).or_default();
        // These are dropped after the lock is released: the last one takes it.
        let known: Vec<_> = named.iter().filter_map(Weak::upgrade).collect();
        let is_same = |standing: &&Arc<Standing>| standing.principal.is_same(principal);
        let standing = known.iter().find(is_same).cloned().unwrap_or_else(|| {
            let standing = Arc::new(Standing {
                standings: Arc::clone(self),
                collection: Arc::clone(collection),
                principal: principal.clone(),
                version: AtomicU64::new(0),
                state: Mutex::default(),
            });
            named.push(Arc::downgrade(&standing));
            standing
        });
        drop(locked);
        let version = standing.version();
        Some(Asked { standing, version })
    }

    /// Makes answers invalid: from now on, the streams that stand on them deliver nothing.
    pub(crate) fn invalidate(&self, collection: &str, concerned: &Concerned) {
        let Some(by_name) = self.collections.get(collection) else {
            return;
        };
        let locked = lock(by_name);
        let standings: Vec<_> = match concerned {
            Concerned::All => locked
                .values()
                .flatten()
                .filter_map(Weak::upgrade)
                .collect(),
            Concerned::Named(names) => {
                let named = names
                    .iter()
                    .filter_map(|name| locked.get(&Some(Arc::clone(name))));
                named.flatten().filter_map(Weak::upgrade).collect()
            }
        };
        drop(locked);
        standings.iter().for_each(Standing::invalidate);
    }

    /// Wakes all streams.
    pub(crate) fn wake_all(&self) {
        for by_name in self.collections.values() {
            let locked = lock(by_name);
            let standings: Vec<_> = locked
                .values()
                .flatten()
                .filter_map(Weak::upgrade)
                .collect();
            drop(locked);
            for standing in standings {
                let wakers = lock(&standing.state).take_wakers();
                wakers.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn remove(&self, standing: &Standing) {
        let Some(by_name) = self.collections.get(standing.collection.name()) else {
            return;
        };
        let name = standing.principal.name().map(Arc::from);
        let mut locked = lock(by_name);
        if let Some(named) = locked.get_mut(&name) {
            named.retain(|one| one.strong_count() > 0);
            if named.is_empty() {
                locked.remove(&name);
            }
        }
    }
}

impl Standing {
    /// The version that an answer must have to hold.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn looks(&self) -> &Arc<Looks> {
        &self.standings.looks
    }

    fn invalidate(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        self.version.fetch_add(1, Ordering::AcqRel);
        let is_due = state.becomes_due();
        drop(state);
        self.ask_if(is_due);
    }

    /// Has the rule asked. No lock is held: this wakes a task.
    fn ask_if(self: &Arc<Self>, is_due: bool) {
        if is_due {
            // It fails when the engine has ended.
            let _ = self.standings.queue.send(Arc::clone(self));
        }
    }

    /// The version to ask for. `None` if nobody waits for the answer.
    pub(crate) fn begin(&self) -> Option<u64> {
        let mut state = lock(&self.state);
        state.is_asked = !state.streams.is_empty();
        state.is_asked.then(|| self.version())
    }

    /// The rule has answered what was asked for as of this version. It is asked again if something has changed since.
    pub(crate) fn answer(self: &Arc<Self>, version: u64, answer: Answer) {
        let mut state = lock(&self.state);
        (state.is_asked, state.failures) = (false, 0);
        if version != self.version() {
            let is_due = state.becomes_due();
            drop(state);
            return self.ask_if(is_due);
        }
        state.answer = Some((version, answer));
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The rule has failed. It is to be asked again after this delay. Returns also whether it had not failed before.
    pub(crate) fn fail(&self) -> (Duration, bool) {
        let mut state = lock(&self.state);
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(state.failures));
        state.failures = state.failures.saturating_add(1);
        (delay.min(MAX_DELAY), state.failures == 1)
    }

    /// The answer that holds, if the rule has given it.
    pub(crate) fn current(&self) -> Option<(u64, Answer)> {
        let state = lock(&self.state);
        let version = self.version();
        state.answer.clone().filter(|(as_of, _)| *as_of == version)
    }

    /// Adds a stream that stands on an answer of this version, and returns its number and what to wake it by.
    pub(crate) fn add_stream(self: &Arc<Self>, version: u64) -> (u64, Arc<AtomicWaker>) {
        let (mut state, waker) = (lock(&self.state), Arc::new(AtomicWaker::new()));
        let number = state.next_number;
        state.next_number += 1;
        state.streams.insert(number, Arc::clone(&waker));
        let current = self.version();
        let is_answered = state
            .answer
            .as_ref()
            .is_some_and(|(as_of, _)| *as_of == current);
        let is_due = version != current && !is_answered && state.becomes_due();
        drop(state);
        self.ask_if(is_due);
        (number, waker)
    }

    pub(crate) fn remove_stream(&self, number: u64) {
        lock(&self.state).streams.remove(&number);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.standings.remove(self);
    }
}

impl State {
    /// Whether the rule is to be asked now: somebody waits for the answer, and it is not being asked already.
    fn becomes_due(&mut self) -> bool {
        let is_due = !self.streams.is_empty() && !self.is_asked;
        self.is_asked |= is_due;
        is_due
    }

    fn take_wakers(&self) -> Vec<Waker> {
        let streams = self.streams.values();
        streams.filter_map(|waker| waker.take()).collect()
    }
}

impl Asked {
    /// Whether the answer holds no more.
    pub(crate) fn is_stale(&self) -> bool {
        self.version != self.standing.version()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
