//! The subscriptions of one connection. They take turns.

use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::StatusCode;

use crate::live::subscription::Subscription;
use crate::metrics::Limit;
use crate::model::cursor::{Cursor, Place};
use crate::model::refusal::Refusal;
use crate::protocol::close::Close;
use crate::protocol::message_stream::{Message, MessageStream, Next};
use crate::protocol::messages::live_message;
use crate::protocol::problem::Problem;

/// The most records of all windows of a connection: the server keeps the place of each.
const MAX_WINDOW_RECORDS: usize = 50_000;

/// The messages for the subscriptions of one connection.
#[derive(Debug)]
pub(crate) struct MessageStreams {
    streams: Vec<MessageStream>,
    /// The stream that is polled first, so that a busy one does not starve the others.
    next: usize,
    /// The collections with a subscription that has caught up, while another one was not live.
    owed: Vec<Arc<str>>,
    /// The names of the subscriptions that a rule has denied by now, with what it answered.
    denied: Vec<(Arc<str>, Refusal)>,
}

impl MessageStreams {
    pub(crate) fn new() -> Self {
        Self {
            // Most connections have one.
            streams: Vec::with_capacity(1),
            next: 0,
            owed: Vec::new(),
            denied: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, stream: MessageStream) {
        self.streams.push(stream);
    }

    /// Ends a subscription.
    pub(crate) fn remove(&mut self, sub: &str) {
        self.streams.retain(|stream| &*stream.sub != sub);
    }

    pub(crate) fn contains(&self, sub: &str) -> bool {
        self.streams.iter().any(|stream| &*stream.sub == sub)
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Refuses a window for whose places there is no room.
    pub(crate) fn with_room(&self, new: Subscription) -> Result<Subscription, Box<Problem>> {
        let windows = self.streams.iter().map(MessageStream::subscription);
        let windows = windows.filter_map(|subscription| subscription.grant().window);
        let asked = new.grant().window.unwrap_or_default();
        if asked == 0 || windows.sum::<usize>() + asked <= MAX_WINDOW_RECORDS {
            return Ok(new);
        }
        Limit::Subscriptions.reached();
        let detail =
            format!("the windows of a connection may have at most {MAX_WINDOW_RECORDS} records");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Err(Box::new(Problem::new(status, "limit", detail)))
    }

    /// The streams of this collection.
    fn of<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = &'a MessageStream> {
        let streams = self.streams.iter();
        streams.filter(move |stream| **stream.collection() == *collection)
    }

    /// Whether there is a stream of this collection.
    pub(crate) fn has(&self, collection: &str) -> bool {
        self.of(collection).next().is_some()
    }

    /// The collections that there are streams of.
    pub(crate) fn collections(&self) -> impl Iterator<Item = &Arc<str>> {
        self.streams.iter().map(MessageStream::collection)
    }

    /// The numbers of the streams with the same collection as this one.
    pub(crate) fn numbers_like(&self, number: usize) -> impl Iterator<Item = usize> {
        let collection = self.streams[number].collection();
        let streams = self.streams.iter().enumerate();
        let same = streams.filter(move |(_, stream)| stream.collection() == collection);
        same.map(|(number, _)| number)
    }

    /// Goes on with other subscriptions to a collection, where this gives one. Where it fails, the stream ends; returns the names of these
    /// with why.
    pub(crate) fn replace<E>(
        &mut self,
        collection: &str,
        with: impl Fn(&Subscription) -> Option<Result<Subscription, E>>,
    ) -> Vec<(Arc<str>, E)> {
        let mut ended = Vec::new();
        self.streams.retain_mut(|stream| {
            if **stream.collection() != *collection {
                return true;
            }
            match with(stream.subscription()) {
                None => true,
                Some(Ok(subscription)) => {
                    stream.replace(subscription);
                    true
                }
                Some(Err(error)) => {
                    ended.push((Arc::clone(&stream.sub), error));
                    false
                }
            }
        });
        ended
    }

    /// Takes the names of the subscriptions that a rule has denied meanwhile, with what it answered.
    pub(crate) fn take_denied(&mut self) -> Vec<(Arc<str>, Refusal)> {
        std::mem::take(&mut self.denied)
    }

    /// The cursor up to which all subscriptions to a collection have received everything. `None` while one of them catches up, or if
    /// there is none.
    pub(crate) fn live_cursor(&self, collection: &str) -> Option<Cursor> {
        let cursors = self.of(collection).map(MessageStream::live_cursor);
        let cursors: Option<Vec<_>> = cursors.collect();
        let cursors = cursors?.into_iter();
        cursors.min_by_key(|cursor| cursor.position.offset)
    }

    /// The messages of a heartbeat: a `live` for each collection whose subscriptions are live, each with the number of a stream.
    pub(crate) fn heartbeats(&self) -> Vec<(usize, Message)> {
        let mut seen: Vec<&Arc<str>> = Vec::new();
        let mut messages = Vec::new();
        for (number, stream) in self.streams.iter().enumerate() {
            if !seen.contains(&stream.collection()) {
                seen.push(stream.collection());
                messages.extend(self.live(number).map(|live| (number, live)));
            }
        }
        messages
    }

    /// The message that all subscriptions to the collection of this stream are live, if they are. A feed has none.
    fn live(&self, number: usize) -> Option<Message> {
        let stream = &self.streams[number];
        if stream.is_feed() {
            return None;
        }
        let cursor = self.live_cursor(stream.collection())?;
        let cursor = stream.seal(&Place::Cursor(cursor));
        Some(Message {
            json: live_message(stream.collection(), &cursor),
            name: "live",
            place: Some(cursor),
        })
    }

    /// The next message with the number of its stream, or why the connection is to be closed. A `live` is of all streams with the same
    /// collection.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(usize, Message), Close>> {
        let mut turn = 0;
        while turn < self.streams.len() {
            let number = (self.next + turn) % self.streams.len();
            match self.streams[number].poll_next(context) {
                Poll::Pending => turn += 1,
                Poll::Ready(Ok(Next::Live)) => {
                    // One says so for all, when all are.
                    let collection = self.streams[number].collection();
                    if !self.owed.contains(collection) {
                        self.owed.push(Arc::clone(collection));
                    }
                }
                Poll::Ready(Ok(Next::Denied(refusal))) => {
                    let sub = self.streams.remove(number).sub;
                    self.denied.push((sub, *refusal));
                    // The numbers have changed.
                    turn = 0;
                }
                Poll::Ready(Ok(Next::Message(message))) => {
                    self.next = number + 1;
                    return Poll::Ready(Ok((number, message)));
                }
                Poll::Ready(Err(close)) => return Poll::Ready(Err(close)),
            }
        }
        match self.take_owed() {
            Some(live) => Poll::Ready(Ok(live)),
            None => Poll::Pending,
        }
    }

    /// A `live` of a collection whose subscriptions are all live by now, with the number of one of them.
    fn take_owed(&mut self) -> Option<(usize, Message)> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.retain(|collection| self.has(collection));
        let mut live = None;
        owed.retain(|collection| {
            let mut streams = self.streams.iter();
            let number = streams.position(|stream| stream.collection() == collection);
            if live.is_none() {
                live = number.and_then(|number| Some((number, self.live(number)?)));
                return live.is_none();
            }
            true
        });
        self.owed = owed;
        live
    }
}
