//! The path of one subscriber through a log: a snapshot or the changes since its cursor, then live changes, without a
//! gap and without a duplicate.
//!
//! A subscription first registers with the hub and then reads the store, so that it misses no change in between. It is
//! a position in the log. The changes that it has not read yet are in the hub's ring or, if they are older, in the
//! store.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::live::gate::Gate;
use crate::live::hub::{Hub, Listener, RingRead};
use crate::live::read_step::{Piece, ReadStep, Reader, StepResult, Then, is_in_pieces_up_to};
use crate::live::ring::Entry;
use crate::live::since::Since;
use crate::live::subscriber_reads::{SubscriberReads, Turn};
use crate::live::update::Update;
use crate::live::validity::Validity;
use crate::live::window::{Phase, Window};
use crate::metrics;
use crate::model::change::{Action, Change};
use crate::model::cursor::{Cursor, Position, ResetReason, Resume, Shape};
use crate::model::record::{Record, RecordId};
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::schema::change_view::UnknownMembership;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::index_key::IndexKey;
use crate::schema::sorting::SortKey;
use crate::store::error::StoreError;
use crate::store::read_changes::{Fill, LogPage, LogRead, SUBSCRIBER_PAGE};

/// The delay before a failed read is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What a subscription delivers next. What is rare is boxed: the queue of a live subscription takes little memory.
#[derive(Debug)]
pub(crate) enum Event {
    /// A live change, shared with all subscribers of the hub, and what it does to the records that this one sees.
    Change(Arc<Entry>, Action),
    /// A part of a snapshot that is not its last, or changes before its next part. The snapshot can go on from here.
    InSnapshot(Box<(Update, Resume)>),
    Other(Box<Update>),
    /// The rule was asked again, and denies it. The subscription has ended.
    Denied(Box<Refusal>),
}

/// A stream of [`Update`]s.
///
/// The stream never fails: while the store can't be read, it retries. It ends when the engine drains or is dropped, after the
/// updates that it has already read; and at once when its principal [expires](crate::Principal::expires_at) or is
/// [revoked](crate::Engine::revoke), or may not read the topic any more ([`Collection::reads`](crate::Collection::reads)). Dropping the
/// stream ends the subscription.
///
/// A subscriber that does not poll uses memory only for its position and for the updates that it has already read: at most
/// about 256 KiB, or one change or record.
pub struct Subscription {
    pub(super) topic: Topic,
    pub(super) collection: Arc<Collection>,
    pub(super) grant: Arc<Grant>,
    pub(crate) shape: Shape,
    /// The shape of the collection under the grant. Its cursors serve for every query.
    pub(crate) collection_shape: Shape,
    pub(super) reads: Arc<SubscriberReads>,
    /// Which partial changes the subscriber needs whole.
    pub(super) fill: Fill,
    pub(super) listener: Listener,
    /// The position up to which the log has been read.
    pub(super) position: Position,
    /// Whether the ring had nothing more when it was polled last.
    pub(super) is_level: bool,
    /// What has been read and not delivered yet.
    pub(super) events: VecDeque<Event>,
    /// The turn in which the events were read. It ends when they are delivered.
    turn: Option<Turn>,
    pub(super) state: State,
    /// Which records the subscriber has, if it has asked for the first of an order.
    window: Option<Box<Window>>,
    /// Closed while the rule is asked again on which the subscription stands.
    pub(super) gate: Option<Box<Gate>>,
    /// The subscription ends with it.
    pub(crate) validity: Validity,
}

pub(super) enum State {
    /// Reads the store next, when everything read so far is delivered.
    Next(ReadStep),
    /// Reads the store.
    Reading(Turn, ReadStep),
    /// The step has failed, and is retried after the delay.
    Retrying(Pin<Box<tokio::time::Sleep>>, ReadStep),
    /// Reads the hub's ring.
    Live,
    /// Is given what others read of the ring, too.
    Waiting,
    Ended,
}

impl Subscription {
    pub(crate) fn new(
        topic: Topic,
        collection: &Arc<Collection>,
        mut grant: Grant,
        collection_shape: Shape,
        hub: &Arc<Hub>,
        reads: Arc<SubscriberReads>,
        since: Since,
    ) -> Self {
        // Only the records of a window have an order: who has all sorts them.
        grant.sorting = grant.sorting.filter(|_| grant.window.is_some());
        let shape = collection.shape(&grant);
        let of_record = topic.id.as_ref().map(|id| vec![IndexKey::of_record(id)]);
        let listener = hub.listen(of_record.or_else(|| grant.keys()));
        let (position, window) = (hub.head(), Window::of(&grant).map(Box::new));
        let mut subscription = Self {
            topic,
            collection: Arc::clone(collection),
            grant: Arc::new(grant),
            shape,
            collection_shape,
            reads,
            fill: Fill::All,
            listener,
            position,
            is_level: false,
            events: VecDeque::new(),
            turn: None,
            state: State::Ended,
            window,
            validity: Validity::unlimited(),
            gate: None,
        };
        match since {
            Since::Snapshot => subscription.start(ReadStep::SnapshotPiece { after: None }),
            // A window is small: its snapshot is read as a whole.
            Since::InSnapshot(..) if subscription.window.is_some() => {
                subscription.reset(ResetReason::View);
            }
            Since::Lost(reason) => subscription.reset(reason),
            Since::Position(since) => {
                // After a reset of the log the position is useless, and the subscription starts at the head.
                if since.epoch == position.epoch && since.offset <= position.offset {
                    subscription.position = since;
                }
                subscription.state = State::Live;
            }
            Since::Cursor(cursor) => subscription.resume(cursor, ReadStep::CatchUp),
            Since::InSnapshot(cursor, after) => {
                let after = Some(after.into());
                subscription.resume(cursor, ReadStep::SnapshotPiece { after });
            }
        }
        subscription
    }

    /// Goes on from a cursor with this step, if the subscriber still sees what it saw then.
    fn resume(&mut self, cursor: Cursor, step: ReadStep) {
        if cursor.shape == self.shape || cursor.shape == self.collection_shape {
            self.position = cursor.position;
            match &mut self.window {
                // The table may have changes of others that the log does not have yet: what the subscriber has can't be told from it.
                Some(_) if self.collection.may_be_captured() => {
                    self.start(ReadStep::SnapshotPiece { after: None });
                }
                Some(window) => {
                    window.phase = Phase::Resuming;
                    self.start(step);
                }
                None => self.start(step),
            }
        } else if cursor.shape.schema == self.shape.schema {
            self.reset(ResetReason::View);
        } else {
            self.reset(ResetReason::Schema);
        }
    }

    /// The topic of the subscription.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// A cursor of this subscription.
    pub(crate) fn cursor(&self, position: Position) -> Cursor {
        Cursor {
            position,
            shape: self.shape,
        }
    }

    /// Polls for the next event. `None` when the subscription has ended.
    pub(crate) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.is_level = false;
        loop {
            // Before anything is delivered, and after it was read.
            if let Some(last) = ready!(self.poll_gate(context)) {
                return Poll::Ready(last);
            }
            let event = self.events.pop_front();
            if self.events.is_empty() {
                self.turn = None;
            }
            if event.is_some() {
                return Poll::Ready(event);
            }
            // The waker is registered before the ring is read, so that no change is missed.
            self.listener.register(context);
            let is_live = matches!(self.state, State::Live | State::Waiting);
            if !is_live && self.listener.is_closed() {
                self.state = State::Ended;
            }
            match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Waiting => return Poll::Pending,
                State::Live => match self.listener.read_after(self.position, SUBSCRIBER_PAGE) {
                    RingRead::Entries(entries, position) if entries.is_empty() => {
                        (self.position, self.is_level) = (position, true);
                        return Poll::Pending;
                    }
                    RingRead::Entries(entries, position) => self.queue_entries(&entries, position),
                    RingRead::Evicted => self.start(ReadStep::CatchUp),
                    RingRead::Closed => self.state = State::Ended,
                    RingRead::Reset(reason) => self.reset(reason),
                },
                State::Next(step) => {
                    let step = step.clone();
                    let reader = Reader {
                        collection: Arc::clone(&self.collection),
                        topic: self.topic.clone(),
                        grant: Arc::clone(&self.grant),
                        position: self.position,
                        head: self.listener.head(),
                        fill: self.fill.clone(),
                        window: self.window.as_deref().map(Piece::of),
                    };
                    self.state = State::Reading(self.reads.start(step.clone(), reader), step);
                }
                State::Reading(reading, step) => {
                    let step = step.clone();
                    match ready!(reading.poll_result(context)) {
                        Ok(result) => {
                            let read = std::mem::replace(&mut self.state, State::Next(step));
                            if let State::Reading(turn, _) = read {
                                self.turn = Some(turn);
                            }
                            self.apply(result);
                        }
                        Err(error) => {
                            if let Some(last) = self.fail(&error, step) {
                                return Poll::Ready(Some(last));
                            }
                        }
                    }
                }
                State::Retrying(delay, step) => {
                    let step = step.clone();
                    ready!(delay.poll_unpin(context));
                    self.start(step);
                }
            }
        }
    }

    /// Tries a step again later that has failed. If it would fail again, the subscription ends with this.
    fn fail(&mut self, error: &StoreError, step: ReadStep) -> Option<Event> {
        if let Some(refusal) = error.bad_query() {
            (self.state, self.gate) = (State::Ended, None);
            self.events.clear();
            return Some(Event::Denied(Box::new(refusal)));
        }
        tracing::warn!(
            error = error as &dyn std::error::Error,
            collection = %self.topic.collection,
            "a subscription could not read the store, retrying"
        );
        let delay = Box::pin(tokio::time::sleep(RETRY_DELAY));
        self.state = State::Retrying(delay, step);
        None
    }

    /// Queues the live changes of which the subscriber sees something, and moves to the position after them.
    pub(super) fn queue_entries(&mut self, entries: &[Arc<Entry>], position: Position) {
        if let Some(window) = self.window.take() {
            self.window = Some(self.queue_in_window(window, entries, position));
            return;
        }
        for entry in entries {
            if self.fill.includes(&entry.change, &self.collection) {
                // Another node has logged the change without values that this subscriber needs.
                return self.start(ReadStep::CatchUp);
            }
            self.position = entry.change.position;
            match entry.change.visible_action(&self.grant) {
                Ok(None) => {}
                Ok(Some(action)) => {
                    let change = Event::Change(Arc::clone(entry), action);
                    self.events.push_back(change);
                }
                Err(UnknownMembership) => return self.reset(ResetReason::View),
            }
        }
        self.position = position;
    }

    /// Queues a reset and starts again with a snapshot.
    fn reset(&mut self, reason: ResetReason) {
        metrics::reset(self.collection.name(), reason.word());
        self.listener.accept_reset();
        self.push(Update::Reset(reason));
        if let Some(window) = &mut self.window {
            window.restart();
        }
        self.start(ReadStep::SnapshotPiece { after: None });
    }

    /// Starts a step, when everything read so far is delivered.
    pub(super) fn start(&mut self, step: ReadStep) {
        self.state = State::Next(step);
    }

    /// Queues what a step has read, and starts the next step or goes live.
    fn apply(&mut self, StepResult { log, then }: StepResult) {
        let LogRead { page, rows } = log;
        match page {
            LogPage::OutOfRange(reason) => self.reset(reason),
            LogPage::Changes { changes, more } => {
                if let Some(window) = self.window.take() {
                    self.window = Some(self.apply_to_window(window, &changes, more, &rows, then));
                    return;
                }
                let applied = self.apply_changes(&changes, more, &rows, then);
                if let Err(UnknownMembership) = applied {
                    self.reset(ResetReason::View);
                }
            }
        }
    }

    fn apply_changes(
        &mut self,
        changes: &[Arc<Change>],
        more: bool,
        rows: &HashMap<RecordId, Option<Record>>,
        then: Then,
    ) -> Result<(), UnknownMembership> {
        match then {
            Then::CatchUp => {
                self.queue_changes(changes, rows, |_| true, None)?;
                if more {
                    self.start(ReadStep::CatchUp);
                } else {
                    self.go_live();
                }
            }
            Then::ChangesBetweenPieces { after } => {
                let last = after.as_ref().map(|after| &after.id);
                let is_selected = is_in_pieces_up_to(last.cloned());
                self.queue_changes(changes, rows, is_selected, last)?;
                self.start(if more {
                    ReadStep::ChangesBetweenPieces { after }
                } else {
                    ReadStep::SnapshotPiece { after }
                });
            }
            Then::SnapshotPiece {
                records,
                position,
                after,
                is_last,
            } => {
                let after = after.map(|after| after.id);
                let is_selected = is_in_pieces_up_to(after.clone());
                self.queue_changes(changes, rows, is_selected, after.as_ref())?;
                let after = records.last().map(|record| record.id.clone()).or(after);
                self.position = position;
                self.queue_records(records, after.as_ref().filter(|_| !is_last));
                if is_last {
                    self.go_live();
                } else {
                    let after = after.map(SortKey::from);
                    self.start(ReadStep::SnapshotPiece { after });
                }
            }
        }
        Ok(())
    }

    pub(super) fn go_live(&mut self) {
        self.go_on_live();
        let cursor = self.cursor(self.position);
        self.push(Update::Live { cursor });
    }

    pub(super) fn go_on_live(&mut self) {
        self.state = State::Live;
    }

    pub(super) fn push(&mut self, update: Update) {
        self.events.push_back(Event::Other(Box::new(update)));
    }
}
