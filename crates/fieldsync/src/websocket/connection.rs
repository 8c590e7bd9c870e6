//! The state of one WebSocket: its subscriptions, and the loop that reads, pings and writes.
//!
//! A connection holds a position in each log and one bounded write buffer, but no queue: while the peer does not read,
//! nothing is taken from the hub. It writes everything that is new to its subscriptions, then flushes once.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::StatusCode;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_websockets::{Error, Message, WebSocketStream};

use crate::engine::engine::Engine;
use crate::engine::permissions::Permissions;
use crate::error::EngineError;
use crate::live::since::Since;
use crate::live::subscription::Subscription;
use crate::metrics::{self, Limit};
use crate::model::access::Denied;
use crate::model::cursor::{Position, ResetReason};
use crate::model::cursor_seal::CursorError;
use crate::model::principal::Principal;
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::protocol::{
    ClientMessage, Close, MessageStream, MessageStreams, Problem, Subscribe, error_message,
    subscribed_message, synced_message, unsubscribed_message,
};
use crate::websocket::counted_io::BytesWritten;
use crate::websocket::handshake::{Accepted, Subprotocol};
use crate::websocket::heartbeat::{bytes_taken, heartbeats, ping, time_to_take};
use crate::websocket::message_rate::MessageRate;
use crate::websocket::openings::{
    Openings, Waiting, ask, malformed_cursor, no_such_topic, problem_of, start,
};
use crate::websocket::syncs::Syncs;

/// About how many bytes are written before the socket is flushed and read again.
const MAX_WRITE_BYTES: usize = 64 * 1024;
/// How many messages that count against a peer close its connection.
const MAX_BAD_MESSAGES: u32 = 3;
/// How long closing may take: the closing handshake, and reading what the peer still sends.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer is not connected any more, or does not react.
    Gone,
    /// The closing handshake has begun: the peer sent a close frame, or the library answers a violation with one.
    Closing,
    /// The server closes the connection.
    Close(Close),
}

impl From<Close> for Ended {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

pub(crate) struct Connection<'a> {
    engine: &'a Engine,
    principal: Principal,
    subprotocol: Subprotocol,
    /// The positions at which the feeds start.
    since: Vec<Position>,
    streams: MessageStreams,
    openings: Openings<'a>,
    syncs: Syncs,
    /// What answers the client's messages.
    answers: VecDeque<Bytes>,
    bad_messages: u32,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(engine: &'a Engine, accepted: &mut Accepted, principal: Principal) -> Self {
        Self {
            engine,
            principal,
            subprotocol: accepted.subprotocol,
            since: std::mem::take(&mut accepted.since),
            streams: MessageStreams::new(),
            openings: Openings::default(),
            syncs: Syncs::default(),
            answers: VecDeque::new(),
            bad_messages: 0,
        }
    }

    /// Runs until the connection ends. The closing handshake is left to the caller.
    pub(crate) async fn run<S>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        bytes_written: &BytesWritten,
    ) -> Result<Infallible, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let engine = self.engine;
        let mut stopped = pin!(engine.stopped());
        let mut validity = engine.validity_of(&self.principal);
        let mut lapsed = pin!(poll_fn(move |context| validity.poll_lapse(context)));
        if self.subprotocol == Subprotocol::Feed {
            tokio::select! {
                biased;
                lapse = &mut lapsed => return Err(Close::from(lapse).into()),
                opened = Box::pin(self.open_feeds()) => opened?,
                () = &mut stopped => return Err(Close::Restart.into()),
            }
        }
        let heartbeat = engine.settings().heartbeat;
        let mut heartbeats = heartbeats(heartbeat);
        let (mut last_received, mut last_ping) = (Instant::now(), Instant::now());
        let (mut taken, mut rate) = (0, MessageRate::within(&engine.settings().limits));
        let mut unconfirmed = engine.gauges().unconfirmed_bytes.share(0);
        let mut messages = Vec::with_capacity(1);
        loop {
            tokio::select! {
                // What the peer has sent is read before a heartbeat closes the connection.
                biased;
                () = &mut stopped => return Err(Close::Restart.into()),
                lapse = &mut lapsed => return Err(Close::from(lapse).into()),
                received = socket.next() => {
                    let message = message_of(received)?;
                    last_received = Instant::now();
                    if rate.exceeds(last_received) {
                        Limit::MessageRate.reached();
                        return Err(Close::Policy.into());
                    }
                    if message.is_pong() {
                        taken = bytes_taken(message.as_payload()).unwrap_or(taken);
                    } else if self.is_of_the_protocol(&message)? {
                        self.receive(message.as_payload());
                    }
                }
                _ = heartbeats.tick() => {
                    // What it has not taken yet may be on a slow link, and the ping behind it.
                    let on_its_way = bytes_written.total().saturating_sub(taken);
                    unconfirmed.set(on_its_way);
                    let patience = heartbeat + time_to_take(on_its_way);
                    if last_received < last_ping && last_received.elapsed() >= patience {
                        return Err(Ended::Gone);
                    }
                    last_ping = Instant::now();
                    self.beat(bytes_written.total(), &mut messages);
                }
                message = poll_fn(|context| self.poll_streams(context)) => {
                    messages.push(Message::text(message?));
                }
            }
            tokio::select! {
                biased;
                lapse = &mut lapsed => return Err(Close::from(lapse).into()),
                written = self.write(socket, &mut messages) => written?,
                () = bytes_written.stalled(heartbeat * 2) => {
                    Limit::SilentReader.reached();
                    tracing::debug!("closing a WebSocket whose peer has stopped reading");
                    return Err(Ended::Gone);
                }
                () = async {
                    stopped.as_mut().await;
                    sleep(CLOSE_TIMEOUT).await;
                } => return Err(Ended::Gone),
            }
            if self.bad_messages >= MAX_BAD_MESSAGES {
                Limit::BadMessages.reached();
                return Err(Close::Policy.into());
            }
        }
    }

    /// The messages of a heartbeat, when this many bytes were written.
    fn beat(&self, written: u64, messages: &mut Vec<Message>) {
        let live = self.streams.heartbeats().into_iter();
        messages.extend(live.map(|(_, live)| Message::text(live.json)));
        messages.push(ping(written));
    }

    /// Whether the client's message is to be answered. A feed ignores everything that its client sends.
    fn is_of_the_protocol(&self, message: &Message) -> Result<bool, Close> {
        match self.subprotocol {
            Subprotocol::V1 if message.is_binary() => Err(Close::BinaryData),
            Subprotocol::V1 => Ok(message.is_text()),
            Subprotocol::Feed => Ok(false),
        }
    }

    /// Writes these messages and everything else that is new by now, and flushes once.
    async fn write<S>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        messages: &mut Vec<Message>,
    ) -> Result<(), Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let gone = |_: Error| Ended::Gone;
        let mut written = 0;
        let mut result = Ok(());
        for message in messages.drain(..) {
            written += message.as_payload().len();
            socket.feed(message).await.map_err(gone)?;
        }
        while written < MAX_WRITE_BYTES && result.is_ok() {
            match poll_fn(|context| self.poll_streams(context)).now_or_never() {
                Some(Ok(message)) => {
                    written += message.len();
                    socket.feed(Message::text(message)).await.map_err(gone)?;
                }
                Some(Err(close)) => result = Err(close.into()),
                None => break,
            }
        }
        socket.flush().await.map_err(gone)?;
        result
    }

    /// The next answer to the client, or message of a subscription.
    fn poll_streams(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Close>> {
        self.syncs.register(context);
        while let Poll::Ready((answer, waiting)) = self.openings.poll_answer(context) {
            self.open(answer, waiting);
        }
        if let Some(answer) = self.answers.pop_front() {
            return Poll::Ready(Ok(answer));
        }
        let next = self.streams.poll_next(context);
        for (sub, refusal) in self.streams.take_denied() {
            self.end_denied(&sub, refusal)?;
        }
        if next.is_pending()
            && let Some(answer) = self.answers.pop_front()
        {
            return Poll::Ready(Ok(answer));
        }
        if next.is_pending()
            && let Some(cursor) =
                (self.syncs).take_reached(&self.streams, |name| self.openings.are_about(name))
        {
            return Poll::Ready(Ok(synced_message(&cursor)));
        }
        next.map(|message| message.map(|(_, message)| message.json))
    }

    /// Opens a plain feed for each collection that has one and that the principal may read.
    ///
    /// Each starts where its log ended when the handshake was accepted, since authorizing takes time.
    async fn open_feeds(&mut self) -> Result<(), Close> {
        let (engine, feeds) = (self.engine, &self.engine.settings().feeds);
        let asked = feeds
            .keys()
            .map(|collection| ask(engine, self.principal.clone(), Arc::clone(collection)));
        let answers = join_all(asked).await;
        for (((collection, feed), position), answer) in feeds.iter().zip(&self.since).zip(answers) {
            let topic = Topic::of(Arc::clone(collection));
            let since = Since::Position(*position);
            match answer.and_then(|permissions| engine.open(topic, since, &permissions)) {
                Ok(subscription) => {
                    let keys = engine.cursor_keys().clone();
                    let stream = MessageStream::of_feed(subscription, keys, feed.clone());
                    self.streams.push(stream);
                }
                Err(EngineError::Refused(Refusal::Denied(Denied::Unavailable(_)))) => {
                    return Err(Close::TryAgain);
                }
                // The principal may not read this collection.
                Err(EngineError::Refused(_)) => {}
                Err(_) => return Err(Close::TryAgain),
            }
        }
        if self.streams.len() == 0 {
            return Err(Close::Policy);
        }
        Ok(())
    }

    /// Does what a client's message asks for, or answers why not.
    fn receive(&mut self, text: &[u8]) {
        match ClientMessage::read(text) {
            Ok(ClientMessage::Subscribe(request)) => {
                let sub = request.sub.clone();
                if let Err(problem) = self.subscribe(request) {
                    self.refuse(Some(&sub), &problem);
                }
            }
            Ok(ClientMessage::Unsubscribe { sub }) => {
                self.streams.remove(&sub);
                self.openings.remove(&sub);
                self.answers.push_back(unsubscribed_message(&sub));
            }
            Ok(ClientMessage::Sync { cursor }) => {
                if let Err(problem) = self.sync(cursor) {
                    self.refuse(None, &problem);
                }
            }
            Err(problem) => self.refuse(None, &problem),
        }
    }

    /// Answers when everything up to the cursor was sent.
    fn sync(&mut self, cursor: String) -> Result<(), Box<Problem>> {
        let refusal = |status, kind, detail: &str| Box::new(Problem::new(status, kind, detail));
        let mut found = None;
        let collections = self
            .streams
            .collections()
            .chain(self.openings.collections());
        let collections: BTreeSet<_> = collections.collect();
        for collection in collections {
            match self.engine.open_cursor(collection, &cursor) {
                Ok(cursor) => found = Some((Arc::clone(collection), cursor.position)),
                Err(CursorError::Malformed) => return Err(malformed_cursor("cursor must be one")),
                Err(_) => {}
            }
        }
        let Some((collection, position)) = found else {
            // There is nothing of it to wait for.
            self.answers.push_back(synced_message(&cursor));
            return Ok(());
        };
        let hub = self.engine.hub(&collection);
        if !self.syncs.add(cursor, collection, position, hub) {
            let detail = "the connection waits for too many cursors";
            return Err(refusal(StatusCode::TOO_MANY_REQUESTS, "limit", detail));
        }
        Ok(())
    }

    fn refuse(&mut self, sub: Option<&str>, problem: &Problem) {
        metrics::refused(problem.kind);
        self.bad_messages += u32::from(problem.counts_against_peer());
        self.answers.push_back(error_message(sub, problem));
    }

    /// Asks the app's rule for a subscription.
    fn subscribe(&mut self, request: Subscribe) -> Result<(), Box<Problem>> {
        let refusal = |status, kind, detail: &str| Box::new(Problem::new(status, kind, detail));
        let sub = &*request.sub;
        if self.streams.contains(sub) || self.openings.contains(sub) {
            let detail = "the connection has a subscription with this name";
            return Err(refusal(StatusCode::CONFLICT, "subscribed", detail));
        }
        let limit = self.engine.settings().limits.subscriptions;
        if self.streams.len() + self.openings.len() >= limit {
            Limit::Subscriptions.reached();
            let detail = format!("a connection may have at most {limit} subscriptions");
            return Err(refusal(StatusCode::TOO_MANY_REQUESTS, "limit", &detail));
        }
        let found = self.engine.find_topic(&request.topic);
        let (collection, topic) = found.ok_or_else(no_such_topic)?;
        let waiting = Waiting {
            request,
            collection: Arc::clone(collection.name()),
            topic,
        };
        self.openings.add(self.engine, &self.principal, waiting);
        Ok(())
    }

    /// Opens the subscriptions that have waited for this answer.
    fn open(&mut self, answer: Result<Permissions, EngineError>, waiting: Vec<Waiting>) {
        let (answer, keys) = (answer.map_err(problem_of), self.engine.cursor_keys());
        match &answer {
            // If they are stale, all are held until the rule has answered again.
            Ok(permissions) if permissions.are_stale() => {}
            Ok(permissions) => self.regrant(permissions),
            // What the rule allowed before, it does not allow any more.
            Err(problem) if problem.status.is_client_error() => {
                let end = |_: &Subscription| Some(Err(problem.clone()));
                let collection = waiting.first().map(|waiting| &*waiting.collection);
                let ended = self.streams.replace(collection.unwrap_or_default(), end);
                for (sub, problem) in ended {
                    self.refuse(Some(&sub), &problem);
                }
            }
            Err(_) => {}
        }
        for Waiting { request, topic, .. } in waiting {
            let opened = answer.clone().and_then(|permissions| {
                let topic = topic.map_err(|errors| problem_of(Refusal::BadQuery(errors).into()))?;
                let since = start(&request.start, &permissions.collection, keys)?;
                let opened = self.engine.open(topic, since, &permissions);
                self.streams.with_room(opened.map_err(problem_of)?)
            });
            match opened {
                Ok(subscription) => {
                    self.answers.push_back(subscribed_message(&request.sub));
                    let stream = MessageStream::new(subscription, request.sub, keys.clone());
                    self.streams.push(stream);
                }
                Err(problem) => self.refuse(Some(&request.sub), &problem),
            }
        }
    }
}

impl Connection<'_> {
    /// Says that the rule was asked again, and denies a subscription by now. A feed says nothing, but ends with its last collection.
    fn end_denied(&mut self, sub: &str, refusal: Refusal) -> Result<(), Close> {
        match self.subprotocol {
            Subprotocol::V1 => self.refuse(Some(sub), &problem_of(refusal.into())),
            Subprotocol::Feed if self.streams.len() == 0 => return Err(Close::Policy),
            Subprotocol::Feed => {}
        }
        Ok(())
    }

    /// Starts the subscriptions to a collection anew that were made under another grant: one `live` is for all of them.
    fn regrant(&mut self, permissions: &Permissions) {
        let (engine, collection) = (self.engine, &permissions.collection);
        let shape = collection.shape(&permissions.read);
        let ended = self.streams.replace(collection.name(), |subscription| {
            let since = Since::Lost(ResetReason::View);
            let reopen = || engine.open(subscription.topic().clone(), since, permissions);
            (subscription.collection_shape != shape).then(reopen)
        });
        for (sub, error) in ended {
            self.refuse(Some(&sub), &Problem::logged(&error));
        }
    }
}

/// The message that was received, or how the connection ended.
fn message_of(received: Option<Result<Message, Error>>) -> Result<Message, Ended> {
    match received {
        None | Some(Err(Error::Io(_))) => Err(Ended::Gone),
        Some(Err(Error::PayloadTooLong { .. })) => {
            Limit::MessageBytes.reached();
            Err(Close::TooBig.into())
        }
        Some(Err(_)) => Err(Ended::Closing),
        Some(Ok(message)) if message.is_close() => Err(Ended::Closing),
        Some(Ok(message)) => Ok(message),
    }
}
