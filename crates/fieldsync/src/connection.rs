//! One WebSocket's life, for every adapter: any `AsyncRead + AsyncWrite` whose handshake is done.
//!
//! One task writes all that is new to its subscriptions and then flushes once. It holds a place in each log and one
//! bounded write buffer, no queue: while the peer does not read, nothing is taken from the hub.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_websockets::{CloseCode, Config, Error, Limits, Message, ServerBuilder, WebSocketStream};

use crate::engine::engine::Engine;
use crate::error::EngineError;
use crate::handshake::{Accepted, Subprotocol};
use crate::live::subscription::{Since, Subscription};
use crate::model::cursor::{Cursor, Position};
use crate::model::principal::Principal;
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::outlet::{Form, Outlet, Output};
use crate::problem::Problem;
use crate::progress::{Counted, Progress};
use crate::protocol::{ClientMessage, Close, error_frame};
use crate::store::error::StoreError;

/// So many bytes are written before the socket is flushed and read again.
const WRITE_BYTES: usize = 64 * 1024;
/// So many bytes may wait in the write buffer.
const BUFFER_BYTES: usize = 16 * 1024;
/// A peer may send so many messages that are none of the protocol.
const BAD_MESSAGES: u32 = 3;
/// How long the app's rule may take to let somebody subscribe.
const RULE_TIME: Duration = Duration::from_secs(10);
/// How long closing may take: the handshake, and what the peer still sends.
const CLOSING: Duration = Duration::from_secs(5);
/// What a peer still sends when the connection is closed is read and dropped, so far, or the close frame may be lost
/// to a reset.
const LINGER_BYTES: usize = 1024 * 1024;

/// Serves a WebSocket until it is closed: by the peer, for a fault of the peer's, or because the engine drains.
///
/// `io` carries the bytes that follow the 101 of [`accept`](crate::accept). Dropping the future cuts the connection
/// without a closing handshake; nothing is lost by it, a client resumes with its cursor.
pub async fn serve<S>(engine: Engine, accepted: Accepted, who: Principal, io: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _under_way = engine.begin(crate::engine::drain::Work::Connection);
    let limits = Limits::default().max_payload_len(Some(engine.settings().max_message_bytes));
    let config = Config::default().flush_threshold(BUFFER_BYTES);
    let (io, progress) = Counted::new(io);
    let mut socket = ServerBuilder::new().limits(limits).config(config).serve(io);
    let mut connection = Connection {
        engine: &engine,
        who,
        speaks: accepted.speaks,
        since: accepted.since,
        // Most have one.
        outlets: Vec::with_capacity(1),
        bad_messages: 0,
        next_outlet: 0,
    };
    // The app's rules and feeds may panic; that is this connection's end, and no other's.
    let run = AssertUnwindSafe(connection.run(&mut socket, &progress)).catch_unwind();
    let ended = run.await.unwrap_or(Ended::Close(Close::Internal));
    tracing::debug!(?ended, "a socket ends");
    drop(connection);
    if let Ended::Gone = ended {
        return;
    }
    // A peer that does not take part in the closing is left alone in the end.
    let _ = timeout(CLOSING, close(socket, ended)).await;
}

#[derive(Debug)]
enum Ended {
    /// There is nobody any more.
    Gone,
    /// The closing handshake is under way: the peer began it, or the answer to its fault waits to be written.
    ByPeer,
    Close(Close),
}

struct Connection<'a> {
    engine: &'a Engine,
    who: Principal,
    speaks: Subprotocol,
    /// Where the feeds begin.
    since: Vec<Position>,
    outlets: Vec<Outlet>,
    bad_messages: u32,
    /// Which outlet is asked first, so that a busy one does not keep the others waiting.
    next_outlet: usize,
}

impl Connection<'_> {
    async fn run<S>(&mut self, socket: &mut WebSocketStream<S>, progress: &Progress) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let engine = self.engine;
        let heartbeat = engine.settings().heartbeat;
        let mut stopped = std::pin::pin!(engine.stopped());
        if self.speaks == Subprotocol::Feed {
            let opened = tokio::select! {
                opened = Box::pin(self.open_feeds()) => opened,
                () = &mut stopped => Err(Close::Restart),
            };
            if let Err(close) = opened {
                return Ended::Close(close);
            }
        }
        // Not all connections at the same moment.
        let first_beat = Instant::now() + heartbeat.mul_f64(fastrand::f64());
        let mut heartbeats = tokio::time::interval_at(first_beat, heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_heard = Instant::now();
        let mut last_ping = last_heard;
        let mut messages = Vec::with_capacity(1);
        loop {
            tokio::select! {
                // What the peer has said is heard before it is given up.
                biased;
                () = &mut stopped => return Ended::Close(Close::Restart),
                message = socket.next() => match message {
                    None => return Ended::Gone,
                    Some(Err(Error::PayloadTooLong { .. })) => return Ended::Close(Close::TooBig),
                    Some(Err(Error::Io(_))) => return Ended::Gone,
                    // The library answers a fault with the code for it.
                    Some(Err(_)) => return Ended::ByPeer,
                    Some(Ok(message)) if message.is_close() => return Ended::ByPeer,
                    Some(Ok(message)) => {
                        last_heard = Instant::now();
                        let spoken = message.is_text() || message.is_binary();
                        if spoken && self.speaks == Subprotocol::V1 {
                            if message.is_binary() {
                                return Ended::Close(Close::BinaryData);
                            }
                            // In a box, so that it takes no room while nothing is said.
                            let answer = tokio::select! {
                                answer = Box::pin(self.receive(message.as_payload())) => answer,
                                () = &mut stopped => return Ended::Close(Close::Restart),
                            };
                            messages.extend(answer.map(Message::text));
                        }
                    }
                },
                _ = heartbeats.tick() => {
                    if last_heard < last_ping {
                        return Ended::Gone;
                    }
                    last_ping = Instant::now();
                    messages.extend(self.outlets.iter().filter_map(Outlet::heartbeat).map(Message::text));
                    messages.push(Message::ping(Bytes::new()));
                }
                output = poll_fn(|context| self.poll_output(context)) => match output {
                    Output::Frame(frame) => messages.push(Message::text(frame)),
                    Output::Close(close) => return Ended::Close(close),
                    Output::End => return Ended::Close(Close::Restart),
                },
            }
            tokio::select! {
                biased;
                written = self.write(socket, &mut messages) => match written {
                    Ok(None) => {}
                    Ok(Some(close)) => return Ended::Close(close),
                    Err(_) => return Ended::Gone,
                },
                () = progress.stalled(heartbeat * 2) => {
                    tracing::debug!("a socket is closed: its peer takes nothing");
                    return Ended::Gone;
                }
                () = async {
                    stopped.as_mut().await;
                    tokio::time::sleep(CLOSING).await;
                } => return Ended::Gone,
            }
            if self.bad_messages >= BAD_MESSAGES {
                return Ended::Close(Close::Policy);
            }
        }
    }

    /// Writes these messages and whatever else is new by now, and flushes once.
    async fn write<S>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        messages: &mut Vec<Message>,
    ) -> Result<Option<Close>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut written = 0;
        let mut close = None;
        for message in messages.drain(..) {
            written += message.as_payload().len();
            socket.feed(message).await?;
        }
        while written < WRITE_BYTES && close.is_none() {
            match poll_fn(|context| self.poll_output(context)).now_or_never() {
                Some(Output::Frame(frame)) => {
                    written += frame.len();
                    socket.feed(Message::text(frame)).await?;
                }
                Some(Output::Close(why)) => close = Some(why),
                Some(Output::End) => close = Some(Close::Restart),
                None => break,
            }
        }
        socket.flush().await?;
        Ok(close)
    }

    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<Output> {
        let outlets = self.outlets.len();
        for turn in 0..outlets {
            let at = (self.next_outlet + turn) % outlets;
            if let Poll::Ready(output) = self.outlets[at].poll_output(context) {
                self.next_outlet = at + 1;
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }

    /// Subscribes a plain feed to every collection that has one and that one may read, from when the socket was opened: the
    /// rule takes its time.
    async fn open_feeds(&mut self) -> Result<(), Close> {
        let feeds = self.engine.settings().feeds.iter();
        for ((collection, feed), place) in feeds.zip(&self.since) {
            let topic = Topic {
                collection: Arc::clone(collection),
                id: None,
            };
            match listen(
                self.engine,
                self.who.clone(),
                topic,
                Since::Position(*place),
            )
            .await
            {
                Ok(subscription) => {
                    let outlet = Outlet::new(subscription, Form::Feed(feed.clone()));
                    self.outlets.push(outlet);
                }
                Err(EngineError::Refused(_)) => {}
                Err(_) => return Err(Close::TryAgain),
            }
        }
        if self.outlets.is_empty() {
            return Err(Close::Policy);
        }
        Ok(())
    }

    /// Does what a message asks for, or answers with an error's frame.
    async fn receive(&mut self, text: &[u8]) -> Option<Bytes> {
        let (topic, problem) = match ClientMessage::read(text) {
            Ok(ClientMessage::Subscribe { topic, since }) => {
                match self.subscribe(&topic, since.as_deref()).await {
                    Ok(outlet) => {
                        self.outlets.push(outlet);
                        return None;
                    }
                    Err(problem) => (Some(topic), problem),
                }
            }
            Ok(ClientMessage::Unsubscribe { topic }) => {
                self.outlets.retain(|outlet| outlet.topic != topic);
                return None;
            }
            Err(problem) => (None, *problem),
        };
        self.bad_messages += u32::from(problem.counts_against_peer());
        Some(error_frame(topic.as_deref(), &problem))
    }

    async fn subscribe(&mut self, name: &str, since: Option<&str>) -> Result<Outlet, Problem> {
        if self.outlets.iter().any(|outlet| outlet.topic == name) {
            return Err(Problem::new(
                409,
                "subscribed",
                "this topic is subscribed to already",
            ));
        }
        let most = self.engine.settings().max_subscriptions;
        if self.outlets.len() >= most {
            let detail = format!("one socket may have {most} subscriptions");
            return Err(Problem::new(429, "limit", detail));
        }
        let no_such_topic = || Problem::new(404, "not-found", "there is no such topic");
        let topic = self.topic(name).ok_or_else(no_such_topic)?;
        let since = match since.map(str::parse::<Cursor>).transpose() {
            Ok(since) => since.map_or(Since::Snapshot, Since::Cursor),
            Err(_) => {
                return Err(Problem::new(
                    400,
                    "malformed-cursor",
                    "since is not a cursor of this server",
                ));
            }
        };
        let subscription = listen(self.engine, self.who.clone(), topic, since).await;
        let subscription = subscription.map_err(|error| match error {
            EngineError::Refused(Refusal::NoSuchCollection(_)) => no_such_topic(),
            error => Problem::from(&error),
        })?;
        Ok(Outlet::new(subscription, Form::Frames))
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
    who: Principal,
    topic: Topic,
    since: Since,
) -> Result<Subscription, EngineError> {
    let caller = engine.on_behalf_of(who);
    let listening = timeout(RULE_TIME, caller.open(topic, since)).await;
    listening.unwrap_or_else(|_| {
        let error = StoreError::Unavailable("the rule did not answer in time".into());
        Err(error.into())
    })
}

/// Ends the closing handshake, and reads what the peer still sends so that the close frame is not lost to a reset.
async fn close<S>(mut socket: WebSocketStream<S>, ended: Ended) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Ended::Close(close) = ended {
        let code = CloseCode::try_from(close.code()).expect("our codes are codes");
        let message = Message::close(Some(code), &close.reason());
        // Of a frame that is too big the library has said so itself, where it saw it at its header.
        let _ = socket.send(message).await;
    }
    socket.close().await?;
    let mut rest = socket.into_inner().take(LINGER_BYTES as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
