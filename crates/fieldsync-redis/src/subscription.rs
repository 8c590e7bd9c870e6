//! [`Subscription`]: one connection that is subscribed to the channel, until it is lost.

use std::time::Duration;

use fieldsync::backend::Notification;
use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisResult};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

/// The limit on connecting, and on waiting for a response.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_millis(500);
/// The interval between pings. Without them a connection that dies silently would not be detected.
const PING_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) struct Subscription {
    sink: PubSubSink,
    messages: PubSubStream,
    pings: Interval,
}

impl Subscription {
    pub(crate) async fn open(client: &Client, channel: &str) -> RedisResult<Self> {
        let (mut sink, messages) = client.get_async_pubsub().await?.split();
        sink.subscribe(channel).await?;
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            sink,
            messages,
            pings,
        })
    }

    /// Returns the next notification, or `None` when the connection is lost. Other messages on the channel are ignored.
    pub(crate) async fn next(&mut self) -> Option<Notification> {
        loop {
            tokio::select! {
                message = self.messages.next() => {
                    let message = message?;
                    let text = std::str::from_utf8(message.get_payload_bytes());
                    if let Ok(Ok(notification)) = text.map(str::parse) {
                        return Some(notification);
                    }
                }
                _ = self.pings.tick() => {
                    let pong = timeout(REDIS_TIMEOUT, self.sink.ping::<redis::Value>()).await;
                    if !matches!(pong, Ok(Ok(_))) {
                        return None;
                    }
                }
            }
        }
    }
}
