//! A subscription as a stream of updates, for the app's own code.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;

use crate::live::subscription::{Event, Subscription};
use crate::live::update::Update;
use crate::live::validity::Validity;
use crate::model::change::FoldedChange;

impl Subscription {
    /// Ends the subscription with the validity of its principal.
    pub(crate) fn until(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }
}

impl Stream for Subscription {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        if self.validity.poll_lapse(context).is_ready() {
            return Poll::Ready(None);
        }
        let event = ready!(self.poll_event(context));
        Poll::Ready(event.and_then(|event| {
            Some(match event {
                Event::InSnapshot(part) => part.0,
                Event::Other(update) => *update,
                Event::Denied(_) => return None,
                Event::Change(entry, action) => {
                    let view = entry
                        .change
                        .view_as(action, self.grant())
                        .expect("the change was visible when it was queued");
                    let change = FoldedChange::of(&view, self.grant());
                    Update::Change {
                        change,
                        cursor: self.cursor(entry.change.position),
                    }
                }
            })
        }))
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", self.topic())
            .finish_non_exhaustive()
    }
}
