//! How long what a principal has opened may stay open: until its credential expires, or is revoked.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use tokio::time::{Sleep, sleep};

use crate::live::lapse::Lapse;
use crate::live::revocations::{Entry, Revocations};
use crate::model::principal::Principal;

/// The system's clock is looked at this often: it may be set, or the machine may have slept.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Whether a stream's principal is still what it was. It takes two words for a principal that can neither expire nor be revoked.
#[derive(Debug)]
pub(crate) struct Validity {
    expiry: Option<Box<Expiry>>,
    entry: Option<Box<Entry>>,
}

#[derive(Debug)]
struct Expiry {
    at: SystemTime,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Validity {
    /// The validity of a principal, from now on.
    pub(crate) fn of(principal: &Principal, revocations: &Arc<Revocations>) -> Self {
        let expiry = principal.expiry().map(Expiry::new);
        Self {
            expiry: expiry.map(Box::new),
            entry: Entry::new(revocations, principal).map(Box::new),
        }
    }

    /// A validity that does not end.
    pub(crate) fn unlimited() -> Self {
        Self {
            expiry: None,
            entry: None,
        }
    }

    /// Polls for its end.
    pub(crate) fn poll_lapse(&mut self, context: &mut Context<'_>) -> Poll<Lapse> {
        if let Some(lapse) = self.entry.as_ref().and_then(|entry| entry.lapse(context)) {
            return Poll::Ready(lapse);
        }
        match &mut self.expiry {
            Some(expiry) => expiry.poll(context).map(|()| Lapse::Expired),
            None => Poll::Pending,
        }
    }
}

impl Expiry {
    fn new(at: SystemTime) -> Self {
        Self { at, timer: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = self.at.duration_since(SystemTime::now());
            let left = left.unwrap_or_default().min(MAX_SLEEP);
            if left.is_zero() {
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(left)));
            ready!(timer.poll_unpin(context));
            self.timer = None;
        }
    }
}
