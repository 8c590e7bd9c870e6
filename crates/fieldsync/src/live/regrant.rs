//! A subscription under a rule that is asked again: it is held until the rule has answered, and then goes on, starts anew under
//! another grant, or ends.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::live::gate::{Gate, Passage};
use crate::live::since::Since;
use crate::live::standing::{Answer, Asked};
use crate::live::subscription::{Event, State, Subscription};
use crate::live::validity::Validity;
use crate::model::cursor::{Cursor, ResetReason};
use crate::model::refusal::Refusal;
use crate::schema::grant::Grant;
use crate::store::read_changes::Fill;

impl Subscription {
    /// Holds the subscription from when a change makes this answer invalid, until there is another one.
    pub(crate) fn standing_on(mut self, asked: Option<Asked>) -> Self {
        self.gate = asked.map(|asked| Box::new(Gate::new(asked)));
        self
    }

    /// Polls until something may be delivered. If the subscription has ended, because the rule denies it by now or because the engine
    /// drains, this is what it ends with.
    pub(crate) fn poll_gate(&mut self, context: &Context<'_>) -> Poll<Option<Option<Event>>> {
        loop {
            let Some(gate) = &mut self.gate else {
                return Poll::Ready(None);
            };
            match gate.poll(context) {
                Poll::Ready(Passage::Open) => return Poll::Ready(None),
                Poll::Ready(Passage::Answered(answer)) => {
                    if let Err(refusal) = self.apply_answer(*answer) {
                        (self.state, self.gate) = (State::Ended, None);
                        self.events.clear();
                        return Poll::Ready(Some(Some(Event::Denied(Box::new(refusal)))));
                    }
                }
                Poll::Pending => {
                    self.listener.register(context);
                    let is_closed = self.listener.is_closed();
                    return if is_closed {
                        Poll::Ready(Some(None))
                    } else {
                        Poll::Pending
                    };
                }
            }
        }
    }

    /// Goes on under this grant: where it is if it shows the same, and otherwise with a reset and a snapshot.
    fn apply_answer(&mut self, answer: Answer) -> Result<(), Refusal> {
        let grant = answer?;
        let shape = self.collection.shape(&grant);
        if shape == self.collection_shape {
            return Ok(());
        }
        let grant = grant.narrowed(&self.topic.query, &self.collection);
        let grant: Grant = grant.map_err(Refusal::BadQuery)?;
        let mut next = Self::new(
            self.topic.clone(),
            &self.collection,
            grant,
            shape,
            self.listener.hub(),
            Arc::clone(&self.reads),
            Since::Lost(ResetReason::View),
        );
        if matches!(self.fill, Fill::For(_)) {
            next = next.without_records();
        }
        next.validity = std::mem::replace(&mut self.validity, Validity::unlimited());
        next.gate = self.gate.take();
        next.join_like(self);
        *self = next;
        Ok(())
    }

    /// Is woken with the same others as another one.
    pub(crate) fn join_like(&mut self, other: &Self) {
        self.listener.join_like(&other.listener);
    }

    /// Reads no current rows for the sake of [`FoldedChange::record`](crate::FoldedChange::record), where nothing else needs them.
    /// The records of updates may then lack values.
    pub(crate) fn without_records(mut self) -> Self {
        self.fill = Fill::For(Arc::clone(&self.grant));
        self
    }

    /// The position up to which the subscriber has received everything, for every topic of the collection. `None` while it catches
    /// up, or is held.
    pub(crate) fn live_cursor(&self) -> Option<Cursor> {
        let is_held = self.gate.as_ref().is_some_and(|gate| !gate.is_open());
        let is_live = matches!(self.state, State::Live | State::Waiting) && self.is_drained();
        (is_live && !is_held).then_some(Cursor {
            position: self.position,
            shape: self.collection_shape,
        })
    }
}
