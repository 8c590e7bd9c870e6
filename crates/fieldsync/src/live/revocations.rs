//! Which principals and sessions were revoked: a log of the store, which every node follows, and the open streams of this node that
//! a revocation ends.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::live::hub::{Hub, Listener, RingRead};
use crate::live::lapse::Lapse;
use crate::model::canonical::CanonicalHasher;
use crate::model::change::{Action, Change};
use crate::model::cursor::Position;
use crate::model::principal::Principal;
use crate::schema::collection::Collection;
use crate::store::read_changes::SUBSCRIBER_PAGE;

/// How long a revocation is remembered: a principal that was checked before it may still be opening a stream.
const MEMORY: Duration = Duration::from_secs(60);

/// What a revocation names: the hash of a principal's name, or of a session's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target(u128);

impl Target {
    pub(crate) fn principal(name: &str) -> Self {
        Self::hash("principal", name)
    }

    pub(crate) fn session(id: &str) -> Self {
        Self::hash("session", id)
    }

    fn hash(kind: &str, text: &str) -> Self {
        let mut hasher = CanonicalHasher::new("revocation/1");
        hasher.text(kind);
        hasher.text(text);
        Self(hasher.wide_bits())
    }

    /// What names this principal.
    fn all_of(principal: &Principal) -> impl Iterator<Item = Self> {
        let name = principal.name().map(Self::principal);
        name.into_iter()
            .chain(principal.session_id().map(Self::session))
    }

    /// The value in the log.
    pub(crate) fn to_text(self) -> String {
        format!("{:032x}", self.0)
    }

    fn from_text(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

/// The streams of this node whose principals can be revoked, and the latest revocations.
#[derive(Debug)]
pub(crate) struct Revocations {
    pub(crate) collection: Arc<Collection>,
    state: Mutex<State>,
    /// The position up to which this node has followed the log.
    followed: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next stream.
    next_number: u64,
    streams: BTreeMap<(Target, u64), Arc<Revocable>>,
    latest: HashMap<Target, Instant>,
    in_order: VecDeque<(Instant, Target)>,
    /// When revocations were missed.
    missed_at: Option<Instant>,
}

/// A stream that a revocation ends.
#[derive(Debug, Default)]
struct Revocable {
    lapse: OnceLock<Lapse>,
    waker: AtomicWaker,
}

impl Revocations {
    /// Follows the log of this hub, until the handle aborts that or the hub is closed.
    pub(crate) fn follow(hub: &Arc<Hub>, collection: Arc<Collection>) -> (Arc<Self>, AbortHandle) {
        let listener = hub.listen(None);
        let head = hub.head();
        let revocations = Arc::new(Self {
            collection,
            state: Mutex::default(),
            followed: watch::Sender::new(head),
        });
        let following = Arc::clone(&revocations).apply_all(Arc::clone(hub), listener, head);
        (revocations, tokio::spawn(following).abort_handle())
    }

    async fn apply_all(self: Arc<Self>, hub: Arc<Hub>, mut listener: Listener, head: Position) {
        let mut position = head;
        loop {
            let read = poll_fn(|context| {
                // The waker is registered before the ring is read, so that no change is missed.
                listener.register(context);
                match listener.read_after(position, SUBSCRIBER_PAGE) {
                    RingRead::Entries(entries, _) if entries.is_empty() => Poll::Pending,
                    read => Poll::Ready(read),
                }
            });
            match read.await {
                RingRead::Entries(entries, after) => {
                    entries.iter().for_each(|entry| self.apply(&entry.change));
                    position = after;
                }
                RingRead::Closed => return,
                RingRead::Evicted | RingRead::Reset(_) => {
                    listener.accept_reset();
                    position = hub.head();
                    tracing::warn!("revocations were missed: all who may be revoked connect again");
                    let all = self.lock().miss();
                    all.iter().for_each(|stream| stream.end(Lapse::Unknown));
                }
            }
            self.followed.send_replace(position);
        }
    }

    /// Resolves when this node has followed the log up to a position.
    pub(crate) async fn followed(&self, position: Position) {
        let mut followed = self.followed.subscribe();
        let is_past = |at: &Position| at.epoch != position.epoch || at.offset >= position.offset;
        // The sender lives as long as this.
        let _ = followed.wait_for(is_past).await;
    }

    fn apply(&self, change: &Change) {
        let target = change.after.get("target").and_then(Value::as_str);
        let Some(target) = target.and_then(Target::from_text) else {
            return;
        };
        if change.action == Action::Create {
            let streams = self.lock().revoke(target, Instant::now());
            // No lock is held here: waking a task may drop its entry, which takes the lock.
            streams.iter().for_each(|stream| stream.end(Lapse::Revoked));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes a revocation, for principals that were checked before and have yet to open a stream. Returns the streams to end.
    fn revoke(&mut self, target: Target, now: Instant) -> Vec<Arc<Revocable>> {
        self.latest.insert(target, now);
        self.in_order.push_back((now, target));
        while let Some((at, target)) = self.in_order.front() {
            if now.duration_since(*at) <= MEMORY {
                break;
            }
            if self.latest.get(target) == Some(at) {
                self.latest.remove(target);
            }
            self.in_order.pop_front();
        }
        let streams = self.streams.range((target, 0)..=(target, u64::MAX));
        streams.map(|(_, stream)| Arc::clone(stream)).collect()
    }

    /// Notes that revocations were missed. Returns the streams to end.
    fn miss(&mut self) -> Vec<Arc<Revocable>> {
        self.missed_at = Some(Instant::now());
        self.streams.values().cloned().collect()
    }

    /// What happened to a principal since it was checked.
    fn lapse_of(&self, principal: &Principal) -> Option<Lapse> {
        let checked_at = principal.was_checked_at();
        let is_since = |at: &Instant| *at >= checked_at && at.elapsed() <= MEMORY;
        let mut latest = Target::all_of(principal).filter_map(|target| self.latest.get(&target));
        if latest.any(is_since) {
            Some(Lapse::Revoked)
        } else {
            self.missed_at.filter(is_since).map(|_| Lapse::Unknown)
        }
    }
}

impl Revocable {
    fn end(&self, lapse: Lapse) {
        let _ = self.lapse.set(lapse);
        self.waker.wake();
    }
}

/// The entry of an open stream. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    revocations: Arc<Revocations>,
    targets: Vec<Target>,
    number: u64,
    stream: Arc<Revocable>,
}

impl Entry {
    /// Enters a stream of a principal, if the principal can be revoked.
    pub(crate) fn new(revocations: &Arc<Revocations>, principal: &Principal) -> Option<Self> {
        let targets: Vec<_> = Target::all_of(principal).collect();
        if targets.is_empty() {
            return None;
        }
        let stream = Arc::new(Revocable::default());
        // A revocation either finds the stream or is found here, since both are done under the lock.
        let mut state = revocations.lock();
        if let Some(lapse) = state.lapse_of(principal) {
            let _ = stream.lapse.set(lapse);
        }
        let number = state.next_number;
        state.next_number += 1;
        for target in &targets {
            state.streams.insert((*target, number), Arc::clone(&stream));
        }
        drop(state);
        Some(Self {
            revocations: Arc::clone(revocations),
            targets,
            number,
            stream,
        })
    }

    /// What happened to the principal. The task is woken when that changes.
    pub(crate) fn lapse(&self, context: &Context<'_>) -> Option<Lapse> {
        self.stream.waker.register(context.waker());
        self.stream.lapse.get().copied()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.revocations.lock();
        for target in &self.targets {
            state.streams.remove(&(*target, self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_of_other_versions_are_the_same() {
        let text = Target::principal("ada").to_text();
        assert_eq!(text, "81e61c48e4ecf3b1e05ea705638f1a87");
        assert_eq!(Target::from_text(&text), Some(Target::principal("ada")));
        assert_ne!(Target::session("ada"), Target::principal("ada"));
    }

    #[test]
    fn a_revocation_is_forgotten_when_no_opening_takes_that_long() {
        let (mut state, ada) = (State::default(), Target::principal("ada"));
        let first = Instant::now();
        let later = first + MEMORY + Duration::from_secs(1);
        state.revoke(ada, first);
        state.revoke(Target::principal("bob"), first);
        state.revoke(ada, later);
        assert_eq!(state.latest.len(), 1);
        assert_eq!(state.latest.get(&ada), Some(&later));
        assert_eq!(state.in_order.len(), 1);
    }
}
