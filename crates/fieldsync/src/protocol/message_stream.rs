//! The messages for one subscription, in the format that its subscriber reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::live::feed::Feed;
use crate::live::ring::{Entry, Frame, FrameKey, FrameKind};
use crate::live::subscription::{Event, Subscription};
use crate::live::update::Update;
use crate::model::change::{Action, FoldedChange};
use crate::model::cursor::{Cursor, Place};
use crate::model::cursor_seal::CursorKeys;
use crate::model::refusal::Refusal;
use crate::protocol::close::Close;
use crate::protocol::messages::{ServerMessage, change_body, change_message};

/// Reads a subscription's updates as messages.
///
/// It reads an update only when it is polled, and buffers at most the messages of that update.
#[derive(Debug)]
pub(crate) struct MessageStream {
    /// The name that its messages have, so that the client can tell them from those of others.
    pub(crate) sub: Arc<str>,
    subscription: Subscription,
    keys: CursorKeys,
    /// The app's format of messages. Without it they are those of `fieldsync.v1`.
    feed: Option<Feed>,
    /// The messages of the current update that were not sent yet.
    pending: VecDeque<Bytes>,
}

/// What a stream has next.
#[derive(Debug)]
pub(crate) enum Next {
    Message(Message),
    /// It has caught up: everything that follows is live.
    Live,
    /// The rule was asked again, and denies the subscription by now. Nothing follows.
    Denied(Box<Refusal>),
}

/// A message, and what a server-sent event says of it besides.
#[derive(Debug)]
pub(crate) struct Message {
    /// The message, without line breaks.
    pub(crate) json: Bytes,
    /// The value of its `type`. Empty for a feed.
    pub(crate) name: &'static str,
    /// Where its subscriber can go on, as text.
    pub(crate) place: Option<Arc<str>>,
}

impl MessageStream {
    /// The messages of `fieldsync.v1`.
    pub(crate) fn new(
        subscription: Subscription,
        sub: impl Into<Arc<str>>,
        keys: CursorKeys,
    ) -> Self {
        // They have the changed fields; only those of a feed have records.
        Self::with(subscription.without_records(), sub.into(), keys, None)
    }

    /// The messages that the app's feed makes.
    pub(crate) fn of_feed(subscription: Subscription, keys: CursorKeys, feed: Feed) -> Self {
        Self::with(subscription, Arc::default(), keys, Some(feed))
    }

    fn with(
        subscription: Subscription,
        sub: Arc<str>,
        keys: CursorKeys,
        feed: Option<Feed>,
    ) -> Self {
        Self {
            sub,
            subscription,
            keys,
            feed,
            pending: VecDeque::new(),
        }
    }

    pub(crate) fn collection(&self) -> &Arc<str> {
        &self.subscription.topic().collection
    }

    /// The cursor up to which its subscriber has received everything. `None` while it catches up.
    pub(crate) fn live_cursor(&self) -> Option<Cursor> {
        self.subscription.live_cursor()
    }

    pub(crate) fn is_feed(&self) -> bool {
        self.feed.is_some()
    }

    pub(crate) fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    pub(crate) fn subscription_mut(&mut self) -> &mut Subscription {
        &mut self.subscription
    }

    /// Whether it has nothing more to send.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending.is_empty() && self.subscription.is_drained()
    }

    /// Goes on with another subscription.
    pub(crate) fn replace(&mut self, mut subscription: Subscription) {
        subscription.join_like(&self.subscription);
        self.subscription = subscription.without_records();
    }

    /// What is next, or why the connection is to be closed.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Next, Close>> {
        loop {
            if let Some(ended) = ready!(self.poll_pending(context)) {
                return Poll::Ready(ended);
            }
            if let Some(json) = self.pending.pop_front() {
                return Poll::Ready(Ok(Next::Message(Message {
                    json,
                    name: "",
                    place: None,
                })));
            }
            let Some(event) = ready!(self.subscription.poll_event(context)) else {
                // The engine drains.
                return Poll::Ready(Err(Close::Restart));
            };
            let (update, place) = match event {
                Event::Change(entry, action) => {
                    let message = self.shared_message(&entry, action);
                    return Poll::Ready(Ok(Next::Message(message)));
                }
                Event::InSnapshot(part) => {
                    let (update, resume) = *part;
                    (update, Some(Place::InSnapshot(resume)))
                }
                Event::Other(update) => (*update, None),
                Event::Denied(refusal) => return Poll::Ready(Ok(Next::Denied(refusal))),
            };
            let Some(feed) = &self.feed else {
                return Poll::Ready(Ok(match update {
                    Update::Live { .. } => Next::Live,
                    update => Next::Message(self.message(update, place)),
                }));
            };
            match update {
                Update::Changes { changes, .. } => {
                    let grant = self.subscription.grant();
                    let messages = changes
                        .iter()
                        .map(|change| feed.folded_message(change, grant));
                    self.pending = messages.map(Bytes::from).collect();
                }
                Update::Reset(_) => return Poll::Ready(Err(Close::TryAgain)),
                Update::Snapshot { .. } | Update::Change { .. } | Update::Live { .. } => {}
            }
        }
    }

    /// Polls until the messages that were made before may be sent. If the stream has ended, this is what it ends with.
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Next, Close>>> {
        if self.pending.is_empty() {
            return Poll::Ready(None);
        }
        let shape = self.subscription.collection_shape;
        let last = ready!(self.subscription.poll_gate(context));
        if last.is_some() || self.subscription.collection_shape != shape {
            self.pending.clear();
        }
        Poll::Ready(last.map(|last| match last {
            Some(Event::Denied(refusal)) => Ok(Next::Denied(refusal)),
            _ => Err(Close::Restart),
        }))
    }

    /// The message for an update, and its place if it is within a snapshot.
    fn message(&self, update: Update, place: Option<Place>) -> Message {
        let place = place.or_else(|| update.cursor().map(Place::Cursor));
        let place = place.map(|place| self.seal(&place));
        let grant = self.subscription.grant();
        let collection = self.collection();
        let text = place.as_deref();
        let message = ServerMessage::of_update(&self.sub, collection, update, text, grant);
        Message {
            json: message.encode(),
            name: message.name(),
            place,
        }
    }

    /// The message for a live change. It is encoded, and its cursor sealed, once for all subscriptions with the same view and name, and
    /// all but its name and its cursor once for all with the same view.
    fn shared_message(&self, entry: &Arc<Entry>, action: Action) -> Message {
        let (grant, shape) = (self.subscription.grant(), self.subscription.shape);
        let key = |kind| FrameKey {
            kind,
            view: grant.view.clone(),
            action,
        };
        let seen = || {
            let seen = entry.change.view_as(action, grant);
            seen.expect("the subscription takes only changes that its grant shows")
        };
        if let Some(feed) = &self.feed {
            let message = || Frame::without_cursor(feed.message(&seen(), grant).into());
            return Message {
                json: entry.frame(key(FrameKind::Feed), message).json,
                name: "",
                place: None,
            };
        }
        let whole = key(FrameKind::Whole(Arc::clone(&self.sub), shape.view));
        let frame = entry.encoded(&whole).unwrap_or_else(|| {
            let body = || Frame::without_cursor(change_body(FoldedChange::of(&seen(), grant)));
            let body = entry.frame(key(FrameKind::Body), body).json;
            let position = entry.change.position;
            let cursor = self.seal(&Place::Cursor(Cursor { position, shape }));
            entry.frame(whole, || Frame {
                json: change_message(&self.sub, &body, &cursor),
                cursor,
            })
        });
        Message {
            json: frame.json,
            name: "change",
            place: Some(frame.cursor),
        }
    }

    /// The text of a place.
    pub(crate) fn seal(&self, place: &Place) -> Arc<str> {
        self.keys.seal(self.collection(), place).into()
    }
}
