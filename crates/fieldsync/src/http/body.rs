//! The body of a response, which every framework on the `http` crate's types can send.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::http::event_stream::EventStream;

/// The body of a response: bytes, or a stream of server-sent events.
///
/// Each frame of an event stream is to be flushed as it comes. Dropping the body ends its subscription. Reading a body
/// never fails; the error type is one that every framework accepts.
#[derive(Default)]
pub struct Body(Content);

enum Content {
    Bytes(Bytes),
    /// The lock is never taken. It makes the body `Sync`, which some frameworks require.
    Events(Box<Mutex<EventStream>>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Body {
    pub(crate) fn events(events: EventStream) -> Self {
        Self(Content::Events(Box::new(Mutex::new(events))))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Content::Bytes(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.get_mut().0 {
            Content::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(std::mem::take(bytes))),
            Content::Events(events) => {
                let events = events.get_mut().unwrap_or_else(PoisonError::into_inner);
                events.poll_next(context)
            }
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Bytes(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Events(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::Bytes(bytes) => f.debug_tuple("Body").field(bytes).finish(),
            Content::Events(_) => f.write_str("Body(events)"),
        }
    }
}
