//! The gate of a stream: it is open while the answer holds on which the stream stands, and while this node knows what rules read.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::live::standing::{Answer, Asked, Standing};

/// The gate of a stream. What the stream has read before it is found open may be delivered: changes are read after those of rules
/// that came before them have closed the gates that they concern.
#[derive(Debug)]
pub(crate) struct Gate {
    standing: Arc<Standing>,
    /// The version of the answer on which the stream stands.
    version: u64,
    number: u64,
    waker: Arc<AtomicWaker>,
}

/// What a gate that is not closed lets through.
#[derive(Debug)]
pub(crate) enum Passage {
    Open,
    /// Nothing, until the stream stands on this answer.
    Answered(Box<Answer>),
}

impl Gate {
    /// The gate of a stream that stands on this answer.
    pub(crate) fn new(asked: Asked) -> Self {
        let Asked { standing, version } = asked;
        let (number, waker) = standing.add_stream(version);
        Self {
            standing,
            version,
            number,
            waker,
        }
    }

    /// A gate of another stream that stands on the same answer.
    pub(crate) fn another(&self) -> Self {
        Self::new(Asked {
            standing: Arc::clone(&self.standing),
            version: self.version,
        })
    }

    /// Polls until the gate is not closed.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Passage> {
        self.waker.register(context.waker());
        if self.version != self.standing.version() {
            let Some((version, answer)) = self.standing.current() else {
                return Poll::Pending;
            };
            self.version = version;
            return Poll::Ready(Passage::Answered(Box::new(answer)));
        }
        match self.standing.looks().are_recent() {
            true => Poll::Ready(Passage::Open),
            false => Poll::Pending,
        }
    }

    /// Whether the stream may deliver what it has.
    pub(crate) fn is_open(&self) -> bool {
        self.version == self.standing.version() && self.standing.looks().are_recent()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.standing.remove_stream(self.number);
    }
}
