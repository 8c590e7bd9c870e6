//! The messages for one subscription, in the encoding that its subscriber reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::live::feed::Feed;
use crate::live::ring::{Entry, FrameKey, FrameKind};
use crate::live::subscription::{Event, Subscription};
use crate::live::update::Update;
use crate::model::change::Action;
use crate::model::cursor::{Cursor, Resume};
use crate::protocol::close::Close;
use crate::protocol::encoding::Envelope;
use crate::protocol::messages::{live_message, update_message};

/// Reads a subscription's updates as messages.
///
/// It reads an update only when it is polled, and buffers at most the messages of that update.
#[derive(Debug)]
pub(crate) struct MessageStream {
    pub(crate) topic: String,
    subscription: Subscription,
    encoding: Encoding,
    /// The messages of the current update that were not sent yet.
    pending: VecDeque<Bytes>,
}

/// How updates are written.
#[derive(Debug)]
pub(crate) enum Encoding {
    /// Messages of `fieldsync.v1`, each a WebSocket frame.
    Frames,
    /// Messages of `fieldsync.v1`, each a server-sent event.
    Events,
    /// Messages that the app's feed makes, each a WebSocket frame.
    Feed(Feed),
}

impl MessageStream {
    pub(crate) fn new(subscription: Subscription, encoding: Encoding) -> Self {
        // Messages of the protocol have the changed fields; only those of a feed have records.
        let subscription = match encoding {
            Encoding::Frames | Encoding::Events => subscription.without_records(),
            Encoding::Feed(_) => subscription,
        };
        Self {
            topic: subscription.topic().to_string(),
            subscription,
            encoding,
            pending: VecDeque::new(),
        }
    }

    /// The message for a heartbeat: a `live` with the current cursor. `None` for a feed, and while the subscription
    /// catches up.
    pub(crate) fn heartbeat(&self) -> Option<Bytes> {
        let envelope = self.encoding.envelope()?;
        let live = Update::Live {
            cursor: self.subscription.live_cursor()?,
        };
        Some(self.message(live, None, envelope))
    }

    /// The next message, or why the connection is to be closed.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Close>> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return Poll::Ready(Ok(message));
            }
            let Some(event) = ready!(self.subscription.poll_event(context)) else {
                // The engine drains.
                return Poll::Ready(Err(Close::Restart));
            };
            let (update, resume) = match event {
                Event::Change(entry, action) => {
                    return Poll::Ready(Ok(self.shared_message(&entry, action)));
                }
                Event::InSnapshot(update, resume) => (update, Some(resume)),
                Event::Other(update) => (update, None),
            };
            let feed = match &self.encoding {
                Encoding::Feed(feed) => feed,
                Encoding::Frames => {
                    return Poll::Ready(Ok(self.message(update, resume, Envelope::Frame)));
                }
                Encoding::Events => {
                    return Poll::Ready(Ok(self.message(update, resume, Envelope::Event)));
                }
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

    fn message(&self, update: Update, resume: Option<Resume>, envelope: Envelope) -> Bytes {
        let grant = self.subscription.grant();
        update_message(&self.topic, update, resume, grant, envelope)
    }

    /// The message for a live change. It is encoded once for all subscribers with the same view and topic.
    fn shared_message(&self, entry: &Arc<Entry>, action: Action) -> Bytes {
        let (grant, shape) = (self.subscription.grant(), self.subscription.shape());
        let kind = match (&self.encoding, self.subscription.topic().id.clone()) {
            (Encoding::Feed(_), _) => FrameKind::Feed,
            (Encoding::Frames, None) => FrameKind::CollectionTopic,
            (Encoding::Frames, Some(_)) => FrameKind::RecordTopic,
            (Encoding::Events, None) => FrameKind::CollectionEvent,
            (Encoding::Events, Some(_)) => FrameKind::RecordEvent,
        };
        let key = FrameKey {
            kind,
            view: grant.view.clone(),
            view_hash: shape.view,
            action,
        };
        entry.frame(key, || {
            let seen = entry
                .change
                .view_as(action, grant)
                .expect("the subscription takes only changes that its grant shows");
            let cursor = Cursor {
                position: entry.change.position,
                shape,
            };
            match &self.encoding {
                Encoding::Feed(feed) => feed.message(&seen, grant).into(),
                Encoding::Frames => {
                    live_message(&self.topic, &seen, grant, cursor, Envelope::Frame)
                }
                Encoding::Events => {
                    live_message(&self.topic, &seen, grant, cursor, Envelope::Event)
                }
            }
        })
    }
}

impl Encoding {
    /// The envelope of the protocol's messages. A feed has none, since its messages are the app's.
    fn envelope(&self) -> Option<Envelope> {
        match self {
            Self::Frames => Some(Envelope::Frame),
            Self::Events => Some(Envelope::Event),
            Self::Feed(_) => None,
        }
    }
}
