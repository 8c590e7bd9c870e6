//! One subscription to the channel, made again whenever it breaks.

use std::time::Duration;

use fieldsync::Notice;
use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{RedisError, RedisResult};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};

use crate::broker::{PATIENCE, Redis};
use crate::message;

/// How often Redis is asked whether it is still there: a connection can be dead without a word.
const PING: Duration = Duration::from_secs(2);
/// How long to wait before the first further attempt, and before later ones, at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Listener {
    redis: Redis,
    subscription: Option<Subscription>,
    pause: Duration,
}

struct Subscription {
    sink: PubSubSink,
    messages: PubSubStream,
    pings: Interval,
}

impl Listener {
    /// Subscribes. Where that does not succeed at once it is tried again by [`next`](Self::next).
    pub(crate) async fn start(redis: Redis) -> Self {
        let mut listener = Self {
            redis,
            subscription: None,
            pause: FIRST_PAUSE,
        };
        listener.subscribe().await;
        listener
    }

    /// The next notice. What is on the channel besides is not heard.
    pub(crate) async fn next(&mut self) -> Notice {
        loop {
            let Some(subscription) = &mut self.subscription else {
                sleep(self.pause.mul_f64(fastrand::f64())).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.subscribe().await;
                continue;
            };
            match subscription.next().await {
                Some(message) => {
                    if let Some(notice) = message::read(&message) {
                        return notice;
                    }
                }
                None => self.subscription = None,
            }
        }
    }

    async fn subscribe(&mut self) {
        let subscribing = timeout(PATIENCE, Subscription::open(&self.redis)).await;
        match subscribing.unwrap_or_else(|_| Err(timed_out())) {
            Ok(subscription) => {
                self.redis.is_up();
                self.pause = FIRST_PAUSE;
                self.subscription = Some(subscription);
            }
            Err(error) => self.redis.is_down(&error),
        }
    }
}

impl Subscription {
    async fn open(redis: &Redis) -> RedisResult<Self> {
        let (mut sink, messages) = redis.client.get_async_pubsub().await?.split();
        sink.subscribe(&redis.channel).await?;
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            sink,
            messages,
            pings,
        })
    }

    /// The next message; `None` when the connection is gone.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            tokio::select! {
                message = self.messages.next() => {
                    return Some(message?.get_payload_bytes().to_vec());
                }
                _ = self.pings.tick() => {
                    let pong = timeout(PATIENCE, self.sink.ping::<redis::Value>()).await;
                    if !matches!(pong, Ok(Ok(_))) {
                        return None;
                    }
                }
            }
        }
    }
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
