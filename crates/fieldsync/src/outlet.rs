//! One subscription on its way out: its updates as messages, in the words of the protocol or of the plain feed.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::live::feed::Feed;
use crate::live::ring::{Entry, FrameKey, FrameKind};
use crate::live::subscription::{Event, Subscription};
use crate::live::update::Update;
use crate::model::cursor::Cursor;
use crate::protocol::{Close, Envelope, live_message, update_message};

#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) topic: String,
    subscription: Subscription,
    form: Form,
    /// More messages of the same update.
    waiting: std::collections::VecDeque<Bytes>,
}

/// In which form updates leave.
#[derive(Debug)]
pub(crate) enum Form {
    /// Messages of the protocol as frames of a socket.
    Frames,
    /// Messages of the protocol as server-sent events.
    Events,
    /// Messages that the app shapes, as frames of a socket.
    Feed(Feed),
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
    pub(crate) fn new(subscription: Subscription, form: Form) -> Self {
        Self {
            topic: subscription.topic().to_string(),
            subscription,
            form,
            waiting: std::collections::VecDeque::new(),
        }
    }

    /// What to say at a heartbeat: up to where all is known.
    pub(crate) fn heartbeat(&self) -> Option<Bytes> {
        let envelope = self.form.envelope()?;
        let live = Update::Live {
            cursor: self.subscription.live_cursor()?,
        };
        let grant = self.subscription.grant();
        Some(update_message(&self.topic, live, grant, envelope))
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
                Event::Other(update) => match &self.form {
                    Form::Frames => return Poll::Ready(self.message(update, Envelope::Frame)),
                    Form::Events => return Poll::Ready(self.message(update, Envelope::Event)),
                    Form::Feed(feed) => match update {
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

    fn message(&self, update: Update, envelope: Envelope) -> Output {
        let grant = self.subscription.grant();
        Output::Frame(update_message(&self.topic, update, grant, envelope))
    }

    /// The frame of a live change: made once for all who see it alike.
    fn shared_frame(&self, entry: &Arc<Entry>, action: crate::Action) -> Bytes {
        let (grant, shape) = (self.subscription.grant(), self.subscription.shape());
        let kind = match (&self.form, self.subscription.topic().id) {
            (Form::Feed(_), _) => FrameKind::Feed,
            (Form::Frames, None) => FrameKind::CollectionTopic,
            (Form::Frames, Some(_)) => FrameKind::RecordTopic,
            (Form::Events, None) => FrameKind::CollectionEvent,
            (Form::Events, Some(_)) => FrameKind::RecordEvent,
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
                .expect("it was seen so when it was taken");
            let cursor = Cursor {
                position: entry.change.position,
                shape,
            };
            match &self.form {
                Form::Feed(feed) => feed.message(&seen, grant).into(),
                Form::Frames => live_message(&self.topic, &seen, grant, cursor, Envelope::Frame),
                Form::Events => live_message(&self.topic, &seen, grant, cursor, Envelope::Event),
            }
        })
    }
}

impl Form {
    /// What the protocol's messages are sent in; the plain feed has none.
    fn envelope(&self) -> Option<Envelope> {
        match self {
            Self::Frames => Some(Envelope::Frame),
            Self::Events => Some(Envelope::Event),
            Self::Feed(_) => None,
        }
    }
}
