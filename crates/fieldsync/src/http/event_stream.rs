//! Server-sent events (WHATWG HTML, section 9.2): the messages of the protocol over plain HTTP, for one topic.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::protocol::message_stream::{Form, Outlet, Output};
use crate::subscription::Subscription;

/// The body of a reply that goes on: events, until the engine drains or the client leaves.
///
/// Nothing is read ahead: while the client takes nothing, nothing is taken from the hub. Dropping it ends the
/// subscription.
pub struct Events {
    /// What is said before all else.
    first: Option<Bytes>,
    outlet: Outlet,
    heartbeats: Pin<Box<Interval>>,
    ended: bool,
}

impl Events {
    pub(crate) fn new(subscription: Subscription, heartbeat: Duration) -> Self {
        let first_beat = Instant::now() + heartbeat.mul_f64(fastrand::f64());
        let mut heartbeats = tokio::time::interval_at(first_beat, heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After how long to come back, drawn by lot so that not all come at once.
        let retry = format!("retry: {}\n\n", fastrand::u32(1000..4000));
        Self {
            first: Some(retry.into()),
            outlet: Outlet::new(subscription, Form::Events),
            heartbeats: Box::pin(heartbeats),
            ended: false,
        }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        match self.outlet.poll_output(context) {
            Poll::Ready(Output::Frame(event)) => return Poll::Ready(Some(Ok(event))),
            Poll::Ready(Output::Close(_) | Output::End) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        if self.heartbeats.poll_tick(context).is_ready() {
            let comment = || Bytes::from_static(b":\n\n");
            return Poll::Ready(Some(Ok(self.outlet.heartbeat().unwrap_or_else(comment))));
        }
        Poll::Pending
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
