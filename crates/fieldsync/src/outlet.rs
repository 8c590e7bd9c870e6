//! One subscription on a connection: its updates as frames, in the words of the protocol or of the plain feed.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::cursor::Cursor;
use crate::feed::Feed;
use crate::hub::{Entry, FrameKey, FrameKind};
use crate::protocol::{Close, change_frame, update_frame};
use crate::subscription::{Event, Subscription, Update};

#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) topic: String,
    subscription: Subscription,
    /// Shapes the messages of a plain feed; without it the protocol does.
    feed: Option<Feed>,
    /// More messages of the same update.
    waiting: std::collections::VecDeque<Bytes>,
}

/// What an outlet gives.
#[derive(Debug)]
pub(crate) enum Output {
    Frame(Bytes),
    Close(Close),
    /// The subscription is over: the engine is stopping.
    End,
}

impl Outlet {
    pub(crate) fn new(subscription: Subscription, feed: Option<Feed>) -> Self {
        Self {
            topic: subscription.topic().to_string(),
            subscription,
            feed,
            waiting: std::collections::VecDeque::new(),
        }
    }

    /// What to say at a heartbeat: up to where all is known.
    pub(crate) fn heartbeat(&self) -> Option<Bytes> {
        let cursor = self
            .subscription
            .live_cursor()
            .filter(|_| self.feed.is_none())?;
        Some(update_frame(
            &self.topic,
            Update::Live { cursor },
            self.subscription.grant(),
        ))
    }

    pub(crate) fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<Output> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Poll::Ready(Output::Frame(frame));
            }
            let Some(event) = ready!(self.subscription.poll_event(context)) else {
                return Poll::Ready(Output::End);
            };
            match event {
                Event::Change(entry, action) => {
                    return Poll::Ready(Output::Frame(self.shared_frame(&entry, action)));
                }
                Event::Other(update) => match &self.feed {
                    None => {
                        return Poll::Ready(Output::Frame(update_frame(
                            &self.topic,
                            update,
                            self.subscription.grant(),
                        )));
                    }
                    Some(feed) => match update {
                        Update::Changes { changes, .. } => {
                            let message = |change| {
                                feed.folded_message(change, self.subscription.grant())
                                    .into()
                            };
                            self.waiting = changes.iter().map(message).collect();
                        }
                        Update::Reset(_) => return Poll::Ready(Output::Close(Close::TryAgain)),
                        Update::Snapshot { .. } | Update::Change { .. } | Update::Live { .. } => {}
                    },
                },
            }
        }
    }

    /// The frame of a live change: made once for all who see it alike.
    fn shared_frame(&self, entry: &Arc<Entry>, action: crate::Action) -> Bytes {
        let (grant, shape) = (self.subscription.grant(), self.subscription.shape());
        let kind = match (&self.feed, self.subscription.topic().id) {
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
        entry.frame(key, || {
            let seen = entry
                .change
                .seen_as(action, grant)
                .expect("it was seen so when it was taken");
            match &self.feed {
                Some(feed) => feed.message(&seen, grant).into(),
                None => {
                    let cursor = Cursor {
                        position: entry.change.position,
                        shape,
                    };
                    change_frame(&self.topic, &seen, grant, cursor)
                }
            }
        })
    }
}
