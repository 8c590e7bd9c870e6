//! The place in a log that the subscriptions of one connection to one collection share, once they are live.
//!
//! However many they are, the ring is read once for all of them, and only those are looked at that a change concerns. A subscription waits
//! here when it has read everything that the ring has. It goes on alone, from its own position, while it reads the store and while it is held.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::live::gate::{Gate, Passage};
use crate::live::hub::{Hub, KeysRead};
use crate::live::number_set::NumberSet;
use crate::live::ring::Entry;
use crate::live::subscription::{State, Subscription};
use crate::live::waiter::Waiter;
use crate::model::cursor::Position;
use crate::store::page::PageMeter;
use crate::store::read_changes::SUBSCRIBER_PAGE;

/// About how many times changes that were found by their values are noted for a subscription, in one reading of the ring.
const MAX_NOTES: usize = 4096;

/// What some subscriptions to a collection have all received.
#[derive(Debug)]
pub(crate) struct Follower {
    hub: Arc<Hub>,
    waiter: Arc<Waiter>,
    /// The numbers of the subscriptions that wait.
    waiting: NumberSet,
    /// Those of them that wait for every change, not for certain values.
    of_all: NumberSet,
    /// Those that wait have everything up to here.
    position: Position,
    generation: u64,
    page: Option<Box<Page>>,
    /// Closed while those that wait are held.
    gate: Option<Box<Gate>>,
}

/// Changes that were read and not handed over yet.
#[derive(Debug)]
struct Page {
    entries: std::vec::IntoIter<Arc<Entry>>,
    /// The offsets of those that concern certain subscriptions, with the numbers of these.
    notes: std::vec::IntoIter<(u64, usize)>,
    end: Position,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Followed {
    /// This change, for these subscriptions, which were given everything up to the position.
    Change(Arc<Entry>, NumberSet, Position),
    /// These subscriptions wait no more. They go on alone.
    Alone(NumberSet),
    Nothing,
}

impl Follower {
    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        Self {
            hub: Arc::clone(hub),
            waiter: Arc::default(),
            waiting: NumberSet::default(),
            of_all: NumberSet::default(),
            position: hub.head(),
            generation: 0,
            page: None,
            gate: None,
        }
    }

    /// Has this subscription woken with the others, under this number.
    pub(crate) fn join(&self, subscription: &mut Subscription, number: usize) {
        subscription.listener.join(&self.waiter, number);
    }

    /// Lets a subscription wait here that has read all that the ring has. Returns whether it does.
    pub(crate) fn wait(&mut self, number: usize, subscription: &mut Subscription) -> bool {
        let listener = &subscription.listener;
        if !listener.has_reached(subscription.position) {
            return false;
        }
        if self.waiting.is_empty() {
            self.page = None;
            self.position = subscription.position;
            self.generation = listener.generation();
            let gate = subscription.gate.as_deref();
            self.gate = gate.map(|gate| Box::new(gate.another()));
        } else if self.generation != listener.generation() || self.position().is_none() {
            return false;
        }
        self.waiting.insert(number);
        if listener.is_of_all() {
            self.of_all.insert(number);
        }
        subscription.wait();
        true
    }

    /// A subscription does not wait any more.
    pub(crate) fn leave(&mut self, number: usize) {
        self.waiting.remove(number);
        self.of_all.remove(number);
    }

    /// The position up to which those that wait have everything. `None` while they are held.
    pub(crate) fn position(&self) -> Option<Position> {
        let is_held = self.gate.as_ref().is_some_and(|gate| !gate.is_open());
        (!is_held).then_some(self.position)
    }

    /// The position up to which those that wait were given everything.
    pub(crate) fn reached(&self) -> Position {
        self.position
    }

    /// Polls for what comes next.
    pub(crate) fn poll<'a>(
        &mut self,
        context: &Context<'_>,
        subscription: impl Fn(usize) -> Option<&'a Subscription>,
    ) -> Followed {
        if self.waiting.is_empty() {
            return Followed::Nothing;
        }
        if let Some(gate) = &mut self.gate
            && !matches!(gate.poll(context), Poll::Ready(Passage::Open))
        {
            return self.dismiss();
        }
        if let Some(next) = self.take() {
            return next;
        }
        self.waiter.waker.register(context.waker());
        let alone = self.read(subscription);
        if alone.is_empty() {
            return self.take().unwrap_or(Followed::Nothing);
        }
        alone.iter().for_each(|number| self.leave(number));
        Followed::Alone(alone)
    }

    /// From now on nobody waits.
    fn dismiss(&mut self) -> Followed {
        self.of_all = NumberSet::default();
        Followed::Alone(std::mem::take(&mut self.waiting))
    }

    /// Takes a change of the page.
    fn take(&mut self) -> Option<Followed> {
        let page = self.page.as_mut()?;
        let Some(entry) = page.entries.next() else {
            self.position = page.end;
            self.page = None;
            return None;
        };
        let before = std::mem::replace(&mut self.position, entry.change.position);
        let mut concerned = self.of_all.clone();
        while let Some((offset, number)) = page.notes.as_slice().first()
            && *offset <= self.position.offset
        {
            if self.waiting.contains(*number) {
                concerned.insert(*number);
            }
            page.notes.next();
        }
        Some(Followed::Change(entry, concerned, before))
    }

    /// Reads a page of the ring. Returns who has to go on alone.
    fn read<'a>(&mut self, subscription: impl Fn(usize) -> Option<&'a Subscription>) -> NumberSet {
        let mut alone = NumberSet::default();
        let ring = self.hub.read();
        if ring.closed || ring.generation != self.generation {
            return self.waiting.clone();
        }
        let since = self.position;
        if since.offset >= ring.head.offset || ring.contradicts(since) {
            return alone;
        }
        // Those that wait for every change are not marked.
        let marked = match self.of_all == self.waiting {
            true => NumberSet::default(),
            false => self.waiter.take_marked(),
        };
        let most = (MAX_NOTES / marked.len().max(1)).max(1);
        let (mut entries, mut notes, mut end) = (Vec::new(), Vec::new(), ring.head.offset);
        for number in marked
            .iter()
            .filter(|number| self.waiting.contains(*number))
        {
            let Some(one) = subscription(number) else {
                continue;
            };
            let from = since.offset.max(one.position.offset);
            match one.listener.known_after(from, most) {
                Some(KeysRead::Entries(found)) => {
                    let offset = |entry: &Arc<Entry>| entry.change.position.offset;
                    if found.len() == most {
                        end = end.min(found.last().map_or(end, offset));
                    }
                    notes.extend(found.iter().map(|entry| (offset(entry), number)));
                    entries.extend(found);
                }
                Some(KeysRead::Evicted | KeysRead::Unknown) => alone.insert(number),
                None => {}
            }
        }
        if !self.of_all.is_empty() {
            match ring.after(since) {
                Some(all) => entries = all.cloned().collect(),
                None => alone.extend(&self.of_all),
            }
        }
        if !notes.is_empty() {
            entries.sort_by_key(|entry| entry.change.position.offset);
            entries.dedup_by_key(|entry| entry.change.position.offset);
            notes.sort_unstable();
        }
        let mut meter = PageMeter::new(SUBSCRIBER_PAGE);
        entries.retain(|entry| entry.change.position.offset <= end && meter.take(entry.bytes));
        let mut page_end = ring.head;
        if meter.is_full() || end < ring.head.offset {
            page_end = entries.last().map_or(since, |last| last.change.position);
            self.waiter.mark_all(&marked);
        }
        if entries.is_empty() && alone.is_empty() {
            self.position = page_end;
        } else {
            self.page = Some(Box::new(Page {
                entries: entries.into_iter(),
                notes: notes.into_iter(),
                end: page_end,
            }));
        }
        alone
    }
}

impl Subscription {
    /// Queues a live change that was read for this subscription and others, unless it has read it alone. Before it, the subscription was
    /// given everything up to this position.
    pub(crate) fn take_change(&mut self, entry: &Arc<Entry>, given: Position) {
        let position = entry.change.position;
        self.advance(given);
        if self.is_waiting() && position.offset > self.position.offset {
            self.queue_entries(std::slice::from_ref(entry), position);
        }
    }

    /// Waits from now on for what others read, too.
    pub(crate) fn wait(&mut self) {
        self.state = State::Waiting;
    }

    /// Reads the ring itself again, from this position, up to which it was given everything.
    pub(crate) fn go_alone(&mut self, given: Position) {
        self.advance(given);
        if self.is_waiting() {
            self.state = State::Live;
        }
    }

    fn advance(&mut self, given: Position) {
        if self.is_waiting() && given.offset > self.position.offset {
            self.position = given;
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Whether it has nothing more to deliver.
    pub(crate) fn is_drained(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether it has delivered everything, and the ring had nothing more when it was polled last.
    pub(crate) fn is_level(&self) -> bool {
        self.is_level && matches!(self.state, State::Live) && self.is_drained()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        self.listener.hub()
    }

    /// The position up to which it has read by itself.
    #[cfg(test)]
    pub(crate) fn position(&self) -> Position {
        self.position
    }
}
