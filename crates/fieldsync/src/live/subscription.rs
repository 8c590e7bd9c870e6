//! One subscriber's way through a log: a snapshot or the changes since its cursor, then live; no gap, no double.
//!
//! It listens at the hub first and reads the store then, so that nothing falls between. A subscriber is a place in the
//! log: what it has not read yet is kept by the hub's ring, and beyond that by the store.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::live::hub::{Hub, Listener, News};
use crate::live::reading::{Next, READ_CHANGES, Reading, read_piece, sent_before};
use crate::live::ring::Entry;
use crate::live::update::Update;
use crate::model::change::{Action, Change, FoldedChange, fold};
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::{Cursor, Position, ResetReason, Shape};
use crate::model::record::Record;
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::store::error::StoreError;
use crate::store::reading::read_changes;
use crate::store::store::Store;

/// A folded page ends after so many bytes of fields.
const PAGE_BYTES: usize = 64 * 1024;

/// How long a failed reading waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is new to a subscriber; live changes still shared with all others.
#[derive(Debug)]
pub(crate) enum Event {
    Change(Arc<Entry>, Action),
    Other(Update),
}

/// A stream of [`Update`]s. It never fails: when the store can't be read it tries again. It ends when the engine drains
/// or is dropped, after what it has read already.
///
/// Dropping it ends the subscription. A subscriber that does not poll costs its place, and what it has read already.
pub struct Subscription {
    topic: Topic,
    collection: Arc<Collection>,
    grant: Grant,
    shape: Shape,
    store: Arc<dyn Store>,
    listener: Listener,
    at: Position,
    events: VecDeque<Event>,
    phase: Phase,
}

enum Phase {
    Reading(BoxFuture<'static, Result<Reading, StoreError>>, Next),
    /// The last reading failed; what to do once it is time.
    Waiting(Pin<Box<tokio::time::Sleep>>, Next),
    Live,
    Ended,
}

impl Subscription {
    pub(crate) fn new(
        topic: Topic,
        collection: &Arc<Collection>,
        grant: Grant,
        hub: &Arc<Hub>,
        store: Arc<dyn Store>,
        since: Since,
    ) -> Self {
        let shape = collection.shape(&grant);
        let listener = hub.listen(topic.id);
        let at = hub.head();
        let mut subscription = Self {
            topic,
            collection: Arc::clone(collection),
            grant,
            shape,
            store,
            listener,
            at,
            events: VecDeque::new(),
            phase: Phase::Ended,
        };
        match since {
            Since::Snapshot => subscription.read(Next::Piece { after: None }),
            Since::Place(place) => {
                // One of a log that was reset since is nothing to begin with.
                if place.epoch == at.epoch && place.offset <= at.offset {
                    subscription.at = place;
                }
                subscription.phase = Phase::Live;
            }
            Since::Cursor(cursor) if cursor.shape == shape => {
                subscription.at = cursor.position;
                subscription.read(Next::CatchUp);
            }
            Since::Cursor(cursor) if cursor.shape.schema == shape.schema => {
                subscription.reset(ResetReason::View);
            }
            Since::Cursor(_) => subscription.reset(ResetReason::Schema),
        }
        subscription
    }

    /// What is subscribed to.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The place up to which a live subscriber knows all; `None` while it is catching up.
    pub(crate) fn live_cursor(&self) -> Option<Cursor> {
        (matches!(self.phase, Phase::Live) && self.events.is_empty()).then(|| self.cursor(self.at))
    }

    fn cursor(&self, position: Position) -> Cursor {
        Cursor {
            position,
            shape: self.shape,
        }
    }

    pub(crate) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            // Registered before the hub is looked at, so that no change is slept through.
            self.listener.waker.register(context.waker());
            let is_live = matches!(self.phase, Phase::Live);
            if !is_live && self.listener.is_closed() {
                self.phase = Phase::Ended;
            }
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Live => match self.listener.news(self.at, READ_CHANGES) {
                    News::Entries(entries, at) => {
                        if entries.is_empty() {
                            self.at = at;
                            return Poll::Pending;
                        }
                        self.at = at;
                        self.take(&entries);
                    }
                    News::Behind => self.read(Next::CatchUp),
                    News::Closed => self.phase = Phase::Ended,
                    News::Reset(reason) => self.reset(reason),
                },
                Phase::Reading(reading, next) => {
                    let next = *next;
                    match ready!(reading.poll_unpin(context)) {
                        Ok(reading) => self.absorb(reading),
                        Err(error) => {
                            tracing::warn!(error = &error as &dyn std::error::Error, topic = %self.topic, "a subscription can't read the store, and will try again");
                            self.phase = Phase::Waiting(Box::pin(tokio::time::sleep(RETRY)), next);
                        }
                    }
                }
                Phase::Waiting(until, next) => {
                    let next = *next;
                    ready!(until.poll_unpin(context));
                    self.read(next);
                }
            }
        }
    }

    fn take(&mut self, entries: &[Arc<Entry>]) {
        for entry in entries {
            if let Some(action) = entry.change.visible_action(&self.grant) {
                self.events
                    .push_back(Event::Change(Arc::clone(entry), action));
            }
        }
    }

    fn reset(&mut self, reason: ResetReason) {
        self.listener.begin_again();
        self.events.push_back(Event::Other(Update::Reset(reason)));
        self.read(Next::Piece { after: None });
    }

    fn read(&mut self, next: Next) {
        let (store, topic, at) = (Arc::clone(&self.store), self.topic.clone(), self.at);
        let collection = Arc::clone(&self.collection);
        let reading = async move {
            match next {
                Next::CatchUp => read_changes(&*store, &collection, at, READ_CHANGES)
                    .await
                    .map(Reading::CaughtUp),
                Next::Between { after } => {
                    let backlog = read_changes(&*store, &collection, at, READ_CHANGES).await?;
                    Ok(Reading::Between { backlog, after })
                }
                Next::Piece { after } => read_piece(&*store, &collection, &topic, after, at).await,
            }
        };
        self.phase = Phase::Reading(Box::pin(reading), next);
    }

    fn absorb(&mut self, reading: Reading) {
        match reading {
            Reading::CaughtUp(ChangesSince::OutOfRange(reason))
            | Reading::Between {
                backlog: ChangesSince::OutOfRange(reason),
                ..
            }
            | Reading::Piece {
                between: ChangesSince::OutOfRange(reason),
                ..
            } => {
                self.reset(reason);
            }
            Reading::Between {
                backlog: ChangesSince::Changes { changes, more },
                after,
            } => {
                self.fold(&changes, sent_before(after), false);
                self.read(if more {
                    Next::Between { after }
                } else {
                    Next::Piece { after }
                });
            }
            Reading::CaughtUp(ChangesSince::Changes { changes, more }) => {
                self.fold(&changes, |_| true, true);
                if more {
                    self.read(Next::CatchUp);
                } else {
                    self.go_live();
                }
            }
            Reading::Piece {
                between: ChangesSince::Changes { changes, .. },
                records,
                position,
                after,
                last,
            } => {
                self.fold(&changes, sent_before(after), false);
                let after = records.last().map(|record| record.id).or(after);
                let admitted = records
                    .into_iter()
                    .filter(|record| self.grant.admits(record));
                let view = &self.grant.view;
                let records = admitted.map(|record| Record {
                    id: record.id,
                    fields: view.project_fields(&record.fields),
                });
                let records = records.collect();
                self.at = position;
                let cursor = last.then(|| self.cursor(position));
                self.events
                    .push_back(Event::Other(Update::Snapshot { records, cursor }));
                if last {
                    self.go_live();
                } else {
                    self.read(Next::Piece { after });
                }
            }
        }
    }

    fn go_live(&mut self) {
        self.phase = Phase::Live;
        self.events.push_back(Event::Other(Update::Live {
            cursor: self.cursor(self.at),
        }));
    }

    /// Folds changes into pages and moves on to the place after them.
    fn fold(&mut self, changes: &[Change], wanted: impl Fn(&Change) -> bool, with_cursor: bool) {
        let mut page = Vec::new();
        let mut bytes = 0;
        for (number, change) in changes.iter().enumerate() {
            self.at = change.position;
            let on_topic = self.topic.id.is_none_or(|id| change.key.id == id) && wanted(change);
            if let Some(seen) = change.view(&self.grant).filter(|_| on_topic) {
                let folded = FoldedChange::of(&seen, &self.grant);
                bytes += serde_json::to_vec(&folded.fields).map_or(0, |json| json.len()) + 100;
                page.push(folded);
            }
            if (bytes >= PAGE_BYTES || number + 1 == changes.len()) && !page.is_empty() {
                bytes = 0;
                let cursor = with_cursor.then(|| self.cursor(self.at));
                let changes = fold(std::mem::take(&mut page));
                self.events
                    .push_back(Event::Other(Update::Changes { changes, cursor }));
            }
        }
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    /// With all there is.
    Snapshot,
    /// With what comes after a place of a moment ago.
    Place(Position),
    /// After what is known.
    Cursor(Cursor),
}

impl From<Option<Cursor>> for Since {
    fn from(cursor: Option<Cursor>) -> Self {
        cursor.map_or(Self::Snapshot, Self::Cursor)
    }
}

impl Stream for Subscription {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        let event = ready!(self.poll_event(context));
        Poll::Ready(event.map(|event| match event {
            Event::Other(update) => update,
            Event::Change(entry, action) => {
                let seen = entry
                    .change
                    .view_as(action, &self.grant)
                    .expect("it was seen so when it was taken");
                let change = FoldedChange::of(&seen, &self.grant);
                Update::Change {
                    change,
                    cursor: self.cursor(entry.change.position),
                }
            }
        }))
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.topic)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
