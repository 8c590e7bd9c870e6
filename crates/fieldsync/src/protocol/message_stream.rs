//! The messages for one subscription, in the format that its subscriber reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::live::feed::Feed;
use crate::live::ring::{Entry, FrameKey, FrameKind};
use crate::live::subscription::{Event, Subscription};
use crate::live::update::Update;
use crate::model::change::Action;
use crate::model::cursor::{Cursor, Place};
use crate::protocol::close::Close;
use crate::protocol::messages::{ServerMessage, live_message};

/// Reads a subscription's updates as messages.
///
/// It reads an update only when it is polled, and buffers at most the messages of that update.
#[derive(Debug)]
pub(crate) struct MessageStream {
    pub(crate) topic: String,
    subscription: Subscription,
    /// The app's format of messages. Without it they are those of `fieldsync.v1`.
    feed: Option<Feed>,
    /// The messages of the current update that were not sent yet.
    pending: VecDeque<Bytes>,
}

/// A message, and what a server-sent event says of it besides.
#[derive(Debug)]
pub(crate) struct Message {
    /// The message, without line breaks.
    pub(crate) json: Bytes,
    /// The value of its `type`. Empty for a feed.
    pub(crate) name: &'static str,
    /// Where its subscriber can go on.
    pub(crate) place: Option<Place>,
}

impl MessageStream {
    /// The messages of `fieldsync.v1`.
    pub(crate) fn new(subscription: Subscription) -> Self {
        // They have the changed fields; only those of a feed have records.
        Self::with(subscription.without_records(), None)
    }

    /// The messages that the app's feed makes.
    pub(crate) fn of_feed(subscription: Subscription, feed: Feed) -> Self {
        Self::with(subscription, Some(feed))
    }

    fn with(subscription: Subscription, feed: Option<Feed>) -> Self {
        Self {
            topic: subscription.topic().to_string(),
            subscription,
            feed,
            pending: VecDeque::new(),
        }
    }

    /// The message for a heartbeat: a `live` with the current cursor. `None` for a feed, and while the subscription
    /// catches up.
    pub(crate) fn heartbeat(&self) -> Option<Message> {
        if self.feed.is_some() {
            return None;
        }
        let live = Update::Live {
            cursor: self.subscription.live_cursor()?,
        };
        Some(self.message(live, None))
    }

    /// The next message, or why the connection is to be closed.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, Close>> {
        loop {
            if let Some(json) = self.pending.pop_front() {
                return Poll::Ready(Ok(Message {
                    json,
                    name: "",
                    place: None,
                }));
            }
            let Some(event) = ready!(self.subscription.poll_event(context)) else {
                // The engine drains.
                return Poll::Ready(Err(Close::Restart));
            };
            let (update, place) = match event {
                Event::Change(entry, action) => {
                    return Poll::Ready(Ok(self.shared_message(&entry, action)));
                }
                Event::InSnapshot(part) => {
                    let (update, resume) = *part;
                    (update, Some(Place::InSnapshot(resume)))
                }
                Event::Other(update) => (*update, None),
            };
            let Some(feed) = &self.feed else {
                return Poll::Ready(Ok(self.message(update, place)));
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

    /// The message for an update, and its place if it is within a snapshot.
    fn message(&self, update: Update, place: Option<Place>) -> Message {
        let place = place.or_else(|| update.cursor().map(Place::Cursor));
        let grant = self.subscription.grant();
        let message = ServerMessage::of_update(&self.topic, update, place.as_ref(), grant);
        Message {
            json: message.encode(),
            name: message.name(),
            place,
        }
    }

    /// The message for a live change. It is encoded once for all subscribers with the same view and topic.
    fn shared_message(&self, entry: &Arc<Entry>, action: Action) -> Message {
        let (grant, shape) = (self.subscription.grant(), self.subscription.shape());
        let kind = match (&self.feed, &self.subscription.topic().id) {
            (Some(_), _) => FrameKind::Feed,
            (None, None) => FrameKind::CollectionTopic,
            (None, Some(_)) => FrameKind::RecordTopic,
        };
        let key = FrameKey {
            kind,
            view: grant.view.clone(),
            view_hash: shape.view,
            action,
        };
        let cursor = Cursor {
            position: entry.change.position,
            shape,
        };
        let json = entry.frame(key, || {
            let seen = entry
                .change
                .view_as(action, grant)
                .expect("the subscription takes only changes that its grant shows");
            match &self.feed {
                Some(feed) => feed.message(&seen, grant).into(),
                None => live_message(&self.topic, &seen, grant, cursor),
            }
        });
        Message {
            json,
            name: "change",
            place: Some(Place::Cursor(cursor)),
        }
    }
}
