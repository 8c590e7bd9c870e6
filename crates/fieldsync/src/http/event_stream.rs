//! Server-sent events (WHATWG HTML, section 9.2): the messages of the protocol for one topic, over plain HTTP.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::live::subscription::Subscription;
use crate::protocol::{Encoding, MessageStream};

/// The events of one subscription, until the engine drains or the client disconnects.
///
/// It reads nothing ahead: while the client does not read, nothing is taken from the hub.
pub(crate) struct EventStream {
    /// The line that is sent before the first event.
    first: Option<Bytes>,
    messages: MessageStream,
    heartbeats: Pin<Box<Interval>>,
    ended: bool,
}

impl EventStream {
    pub(crate) fn new(subscription: Subscription, heartbeat: Duration) -> Self {
        // Random, so that clients do not act all at once.
        let first_heartbeat = Instant::now() + heartbeat.mul_f64(fastrand::f64());
        let mut heartbeats = tokio::time::interval_at(first_heartbeat, heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            first: Some(retry()),
            messages: MessageStream::new(subscription, Encoding::Events),
            heartbeats: Box::pin(heartbeats),
            ended: false,
        }
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        match self.messages.poll_next(context) {
            Poll::Ready(Ok(event)) => return Poll::Ready(Some(event)),
            Poll::Ready(Err(_)) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        ready!(self.heartbeats.poll_tick(context));
        let comment = || Bytes::from_static(b":\n\n");
        Poll::Ready(Some(self.messages.heartbeat().unwrap_or_else(comment)))
    }
}

/// The event that says when to connect again: after a random delay, so that clients do not act all at once.
pub(crate) fn retry() -> Bytes {
    format!("retry: {}\n\n", fastrand::u32(1000..4000)).into()
}
