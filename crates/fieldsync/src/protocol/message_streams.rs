//! The subscriptions of one connection. They take turns.

use std::task::{Context, Poll};

use crate::protocol::close::Close;
use crate::protocol::message_stream::{Message, MessageStream};

/// The messages for the subscriptions of one connection.
#[derive(Debug)]
pub(crate) struct MessageStreams {
    streams: Vec<MessageStream>,
    /// The stream that is polled first, so that a busy one does not starve the others.
    next: usize,
}

impl MessageStreams {
    pub(crate) fn new() -> Self {
        Self {
            // Most connections have one.
            streams: Vec::with_capacity(1),
            next: 0,
        }
    }

    pub(crate) fn push(&mut self, stream: MessageStream) {
        self.streams.push(stream);
    }

    /// Ends a subscription.
    pub(crate) fn remove(&mut self, topic: &str) {
        self.streams.retain(|stream| stream.topic != topic);
    }

    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.streams.iter().any(|stream| stream.topic == topic)
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The messages of a heartbeat, each with the number of its stream.
    pub(crate) fn heartbeats(&self) -> impl Iterator<Item = (usize, Message)> {
        let streams = self.streams.iter().enumerate();
        streams.filter_map(|(number, stream)| Some((number, stream.heartbeat()?)))
    }

    /// The next message with the number of its stream, or why the connection is to be closed.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(usize, Message), Close>> {
        let count = self.streams.len();
        for turn in 0..count {
            let number = (self.next + turn) % count;
            if let Poll::Ready(message) = self.streams[number].poll_next(context) {
                self.next = number + 1;
                return Poll::Ready(message.map(|message| (number, message)));
            }
        }
        Poll::Pending
    }
}
