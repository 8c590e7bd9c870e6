//! The state of one WebSocket: its subscriptions, and the loop that reads, pings and writes.
//!
//! A connection holds a position in each log and one bounded write buffer, but no queue: while the peer does not read,
//! nothing is taken from the hub. It writes everything that is new to its subscriptions, then flushes once.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::StatusCode;
use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_websockets::{Error, Message, WebSocketStream};

use crate::engine::engine::Engine;
use crate::error::EngineError;
use crate::live::subscription::{Since, Subscription};
use crate::model::access::Denied;
use crate::model::cursor::{Cursor, Position};
use crate::model::principal::Principal;
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::protocol::{ClientMessage, Close, Encoding, MessageStream, Problem, error_message};
use crate::store::error::StoreError;
use crate::websocket::counted_io::BytesWritten;
use crate::websocket::handshake::{Accepted, Subprotocol};

/// About how many bytes are written before the socket is flushed and read again.
const MAX_WRITE_BYTES: usize = 64 * 1024;
/// How many messages that count against a peer close its connection.
const MAX_BAD_MESSAGES: u32 = 3;
/// How long the app's rule may take to authorize a subscription.
const AUTHORIZE_TIMEOUT: Duration = Duration::from_secs(10);
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
    streams: Vec<MessageStream>,
    bad_messages: u32,
    /// The stream that is polled first, so that a busy one does not starve the others.
    next_stream: usize,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(engine: &'a Engine, accepted: Accepted, principal: Principal) -> Self {
        Self {
            engine,
            principal,
            subprotocol: accepted.subprotocol,
            since: accepted.since,
            // Most connections have one.
            streams: Vec::with_capacity(1),
            bad_messages: 0,
            next_stream: 0,
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
        if self.subprotocol == Subprotocol::Feed {
            tokio::select! {
                opened = Box::pin(self.open_feeds()) => opened?,
                () = &mut stopped => return Err(Close::Restart.into()),
            }
        }
        let heartbeat = engine.settings().heartbeat;
        let mut heartbeats = heartbeats(heartbeat);
        let mut last_received = Instant::now();
        let mut last_ping = last_received;
        let mut messages = Vec::with_capacity(1);
        loop {
            tokio::select! {
                // What the peer has sent is read before a heartbeat closes the connection.
                biased;
                () = &mut stopped => return Err(Close::Restart.into()),
                received = socket.next() => {
                    let message = message_of(received)?;
                    last_received = Instant::now();
                    if self.is_of_the_protocol(&message)? {
                        // Boxed, so that it takes no memory while the connection is idle.
                        let answer = tokio::select! {
                            answer = Box::pin(self.receive(message.as_payload())) => answer,
                            () = &mut stopped => return Err(Close::Restart.into()),
                        };
                        messages.extend(answer.map(Message::text));
                    }
                }
                _ = heartbeats.tick() => {
                    if last_received < last_ping {
                        return Err(Ended::Gone);
                    }
                    last_ping = Instant::now();
                    let cursors = self.streams.iter().filter_map(MessageStream::heartbeat);
                    messages.extend(cursors.map(Message::text));
                    messages.push(Message::ping(Bytes::new()));
                }
                message = poll_fn(|context| self.poll_streams(context)) => {
                    messages.push(Message::text(message?));
                }
            }
            tokio::select! {
                biased;
                written = self.write(socket, &mut messages) => written?,
                () = bytes_written.stalled(heartbeat * 2) => {
                    tracing::debug!("closing a WebSocket whose peer has stopped reading");
                    return Err(Ended::Gone);
                }
                () = async {
                    stopped.as_mut().await;
                    sleep(CLOSE_TIMEOUT).await;
                } => return Err(Ended::Gone),
            }
            if self.bad_messages >= MAX_BAD_MESSAGES {
                return Err(Close::Policy.into());
            }
        }
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

    fn poll_streams(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Close>> {
        let count = self.streams.len();
        for turn in 0..count {
            let index = (self.next_stream + turn) % count;
            if let Poll::Ready(message) = self.streams[index].poll_next(context) {
                self.next_stream = index + 1;
                return Poll::Ready(message);
            }
        }
        Poll::Pending
    }

    /// Opens a plain feed for each collection that has one and that the principal may read.
    ///
    /// Each starts where its log ended when the handshake was accepted, since authorizing takes time.
    async fn open_feeds(&mut self) -> Result<(), Close> {
        let feeds = self.engine.settings().feeds.iter();
        for ((collection, feed), position) in feeds.zip(&self.since) {
            let topic = Topic {
                collection: Arc::clone(collection),
                id: None,
            };
            let since = Since::Position(*position);
            match listen(self.engine, self.principal.clone(), topic, since).await {
                Ok(subscription) => {
                    let encoding = Encoding::Feed(feed.clone());
                    self.streams
                        .push(MessageStream::new(subscription, encoding));
                }
                Err(EngineError::Refused(Refusal::Denied(Denied::Unavailable(_)))) => {
                    return Err(Close::TryAgain);
                }
                // The principal may not read this collection.
                Err(EngineError::Refused(_)) => {}
                Err(_) => return Err(Close::TryAgain),
            }
        }
        if self.streams.is_empty() {
            return Err(Close::Policy);
        }
        Ok(())
    }

    /// Does what a client's message asks for. Returns the message that answers it, if it is refused.
    async fn receive(&mut self, text: &[u8]) -> Option<Bytes> {
        let (topic, problem) = match ClientMessage::read(text) {
            Ok(ClientMessage::Subscribe { topic, since }) => {
                match self.subscribe(&topic, since.as_deref()).await {
                    Ok(stream) => {
                        self.streams.push(stream);
                        return None;
                    }
                    Err(problem) => (Some(topic), problem),
                }
            }
            Ok(ClientMessage::Unsubscribe { topic }) => {
                self.streams.retain(|stream| stream.topic != topic);
                return None;
            }
            Err(problem) => (None, *problem),
        };
        self.bad_messages += u32::from(problem.counts_against_peer());
        Some(error_message(topic.as_deref(), &problem))
    }

    async fn subscribe(
        &mut self,
        name: &str,
        since: Option<&str>,
    ) -> Result<MessageStream, Problem> {
        if self.streams.iter().any(|stream| stream.topic == name) {
            let detail = "the connection is already subscribed to this topic";
            return Err(Problem::new(StatusCode::CONFLICT, "subscribed", detail));
        }
        let limit = self.engine.settings().max_subscriptions;
        if self.streams.len() >= limit {
            let detail = format!("a connection may have at most {limit} subscriptions");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "limit", detail));
        }
        let no_such_topic = || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not-found",
                "the topic does not exist",
            )
        };
        let topic = self.topic(name).ok_or_else(no_such_topic)?;
        let since = match since.map(str::parse::<Cursor>).transpose() {
            Ok(since) => since.map_or(Since::Snapshot, Since::Cursor),
            Err(_) => {
                let detail = "since must be a cursor from this server";
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "malformed-cursor",
                    detail,
                ));
            }
        };
        let subscription = listen(self.engine, self.principal.clone(), topic, since).await;
        let subscription = subscription.map_err(|error| match error {
            EngineError::Refused(Refusal::NoSuchCollection(_)) => no_such_topic(),
            error => Problem::logged(&error),
        })?;
        Ok(MessageStream::new(subscription, Encoding::Frames))
    }

    fn topic(&self, name: &str) -> Option<Topic> {
        let (collection, id) = match name.split_once('/') {
            Some((collection, id)) => (collection, Some(id)),
            None => (name, None),
        };
        let collection = self.engine.collections().get(collection)?;
        let id = match id {
            Some(id) => Some(collection.parse_id(id)?),
            None => None,
        };
        Some(Topic {
            collection: Arc::clone(collection.name()),
            id,
        })
    }
}

/// Subscribes, unless the app's rule takes too long.
async fn listen(
    engine: &Engine,
    principal: Principal,
    topic: Topic,
    since: Since,
) -> Result<Subscription, EngineError> {
    let caller = engine.on_behalf_of(principal);
    let listening = timeout(AUTHORIZE_TIMEOUT, caller.open(topic, since)).await;
    listening.unwrap_or_else(|_| {
        let error = StoreError::Unavailable("the authorizer timed out".into());
        Err(error.into())
    })
}

/// Ticks once per heartbeat. The first tick is random, so that connections do not ping all at once.
fn heartbeats(heartbeat: Duration) -> Interval {
    let first = Instant::now() + heartbeat.mul_f64(fastrand::f64());
    let mut heartbeats = interval_at(first, heartbeat);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeats
}

/// The message that was received, or how the connection ended.
fn message_of(received: Option<Result<Message, Error>>) -> Result<Message, Ended> {
    match received {
        None | Some(Err(Error::Io(_))) => Err(Ended::Gone),
        Some(Err(Error::PayloadTooLong { .. })) => Err(Close::TooBig.into()),
        Some(Err(_)) => Err(Ended::Closing),
        Some(Ok(message)) if message.is_close() => Err(Ended::Closing),
        Some(Ok(message)) => Ok(message),
    }
}
