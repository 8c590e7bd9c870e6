//! Server-sent events (WHATWG HTML, section 9.2): the messages of the protocol for some topics, over plain HTTP.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::Span;

use crate::engine::gauges::Share;
use crate::engine::usage::OpenConnection;
use crate::http::event_id::EventId;
use crate::live::validity::Validity;
use crate::protocol::{Message, MessageStream, MessageStreams};

/// The events of some subscriptions, until the engine drains, the principal's validity ends, or the client disconnects.
///
/// It reads nothing ahead: while the client does not read, nothing is taken from the hub.
pub(crate) struct EventStream {
    /// The line that is sent before the first event.
    first: Option<Bytes>,
    messages: MessageStreams,
    /// Where each subscription can go on.
    id: EventId,
    heartbeats: Pin<Box<Interval>>,
    validity: Validity,
    ended: bool,
    span: Span,
    _open: (OpenConnection, Share),
}

impl EventStream {
    /// The events of these streams, which go on from these places.
    pub(crate) fn new(
        streams: Vec<MessageStream>,
        id: EventId,
        heartbeat: Duration,
        validity: Validity,
        span: Span,
        open: (OpenConnection, Share),
    ) -> Self {
        // Random, so that clients do not act all at once.
        let first_heartbeat = Instant::now() + heartbeat.mul_f64(fastrand::f64());
        let mut heartbeats = tokio::time::interval_at(first_heartbeat, heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut messages = MessageStreams::new();
        for stream in streams {
            messages.push(stream);
        }
        span.in_scope(|| tracing::debug!("an event stream begins"));
        Self {
            first: Some(retry()),
            messages,
            id,
            heartbeats: Box::pin(heartbeats),
            validity,
            ended: false,
            span,
            _open: open,
        }
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let span = self.span.clone();
        let _entered = span.enter();
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        self.ended |= self.validity.poll_lapse(context).is_ready();
        if self.ended {
            return Poll::Ready(None);
        }
        let next = self.messages.poll_next(context);
        if !self.messages.take_denied().is_empty() {
            // The client asks again, and is told why.
            self.ended = true;
            return Poll::Ready(None);
        }
        match next {
            Poll::Ready(Ok((number, message))) => {
                let mut event = Vec::new();
                self.write_event(&mut event, number, &message);
                return Poll::Ready(Some(event.into()));
            }
            Poll::Ready(Err(_)) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        ready!(self.heartbeats.poll_tick(context));
        let mut events = Vec::new();
        for (number, live) in self.messages.heartbeats() {
            self.write_event(&mut events, number, &live);
        }
        if events.is_empty() {
            return Poll::Ready(Some(Bytes::from_static(b":\n\n")));
        }
        Poll::Ready(Some(events.into()))
    }

    /// Writes the event of a message from the stream with this number. Its id is where all of them can go on.
    fn write_event(&mut self, events: &mut Vec<u8>, number: usize, message: &Message) {
        let head = match &message.place {
            Some(place) => {
                if message.name == "live" {
                    // It is of all topics of the collection.
                    for number in self.messages.numbers_like(number) {
                        self.id.move_to(number, place);
                    }
                } else {
                    self.id.move_to(number, place);
                }
                format!("event: {}\nid: {}\ndata: ", message.name, self.id)
            }
            None => format!("event: {}\ndata: ", message.name),
        };
        events.reserve(head.len() + message.json.len() + 2);
        events.extend(head.as_bytes());
        events.extend(&message.json);
        events.extend(b"\n\n");
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.span
            .in_scope(|| tracing::debug!("an event stream has ended"));
    }
}

/// The event that says when to connect again: after a random delay, so that clients do not act all at once.
pub(crate) fn retry() -> Bytes {
    format!("retry: {}\n\n", fastrand::u32(1000..4000)).into()
}
