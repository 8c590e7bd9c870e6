//! The relay between the engine and a broker. [`NotificationQueue`] publishes the newest notification of each
//! collection without delaying writes, and [`receive`] returns the notifications of the other nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::Notify;

use crate::broker::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::notification::Notification;

/// How long the broker may take to publish a notification. By then the other nodes have found the change by polling.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum delay after a failure to publish. It is random, so that the nodes do not retry at the same time.
const MAX_PUBLISH_DELAY: Duration = Duration::from_millis(500);
/// How long the broker may take to subscribe.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);
/// The upper bound of the random delay before the first retry to subscribe.
const FIRST_SUBSCRIBE_DELAY: Duration = Duration::from_millis(50);
/// The upper bound of the random delay before any later retry. It doubles up to here.
const MAX_SUBSCRIBE_DELAY: Duration = Duration::from_secs(5);

/// The notifications to publish. Only the newest of each collection is kept, so that a slow or unreachable broker makes
/// the queue no longer than the number of collections.
#[derive(Debug, Default)]
pub(crate) struct NotificationQueue {
    newest: Mutex<BTreeMap<Arc<str>, Notification>>,
    added: Notify,
}

impl NotificationQueue {
    /// Adds a notification, which replaces an older one of the same collection.
    pub(crate) fn put(&self, notification: Notification) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.insert(Arc::clone(&notification.collection), notification);
        drop(newest);
        self.added.notify_one();
    }

    fn take(&self) -> Option<Notification> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.pop_first().map(|(_, notification)| notification)
    }

    /// Publishes the notifications. Never returns. One that can't be published is dropped: the other nodes find the
    /// change by polling.
    pub(crate) async fn publish(self: Arc<Self>, broker: Arc<dyn Broker>) {
        loop {
            while let Some(notification) = self.take() {
                let published = tokio::time::timeout(PUBLISH_TIMEOUT, broker.publish(notification));
                match published.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "a notification could not be published"
                        );
                        tokio::time::sleep(MAX_PUBLISH_DELAY.mul_f64(fastrand::f64())).await;
                    }
                    Err(_) => {
                        tracing::debug!(
                            "a notification could not be published: the broker timed out"
                        );
                    }
                }
            }
            self.added.notified().await;
        }
    }
}

/// Receives the notifications of the other nodes. Never ends: when the broker's stream ends, it subscribes again.
pub(crate) fn receive(broker: Arc<dyn Broker>) -> BoxStream<'static, Notification> {
    let subscriber = Subscriber {
        broker,
        max_delay: Duration::ZERO,
        is_down: false,
    };
    let subscriptions = futures_util::stream::unfold(subscriber, |mut subscriber| async {
        Some((subscriber.subscribe().await, subscriber))
    });
    subscriptions.flatten().boxed()
}

struct Subscriber {
    broker: Arc<dyn Broker>,
    /// The upper bound of the delay before the next attempt.
    max_delay: Duration,
    is_down: bool,
}

impl Subscriber {
    /// Subscribes, and retries until it succeeds. Logs once when the broker fails, and once when it is back.
    async fn subscribe(&mut self) -> BoxStream<'static, Notification> {
        loop {
            tokio::time::sleep(self.max_delay.mul_f64(fastrand::f64())).await;
            self.max_delay = (self.max_delay * 2).clamp(FIRST_SUBSCRIBE_DELAY, MAX_SUBSCRIBE_DELAY);
            let subscribed = tokio::time::timeout(SUBSCRIBE_TIMEOUT, self.broker.subscribe()).await;
            match subscribed.unwrap_or_else(|elapsed| Err(BrokerError(elapsed.into()))) {
                Ok(notifications) => {
                    if std::mem::take(&mut self.is_down) {
                        tracing::info!(broker = ?self.broker, "the broker is back");
                    }
                    self.max_delay = FIRST_SUBSCRIBE_DELAY;
                    return notifications;
                }
                Err(error) if !std::mem::replace(&mut self.is_down, true) => tracing::warn!(
                    broker = ?self.broker,
                    error = &error as &dyn std::error::Error,
                    "the broker can't be reached: until it is back, this node finds the changes of other nodes by polling"
                ),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::broker::local::LocalBroker;

    /// Takes this many milliseconds to publish.
    #[derive(Debug)]
    struct Slow(u64, LocalBroker);

    #[async_trait]
    impl Broker for Slow {
        async fn publish(&self, notification: Notification) -> Result<(), BrokerError> {
            tokio::time::sleep(Duration::from_millis(self.0)).await;
            self.1.publish(notification).await
        }

        async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
            self.1.subscribe().await
        }
    }

    fn notification(collection: &str, offset: u64) -> Notification {
        Notification {
            collection: collection.into(),
            epoch: 1,
            offset,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_broker_publishes_only_the_newest_notifications() {
        let broker = Arc::new(Slow(50, LocalBroker::new()));
        let mut received = broker.subscribe().await.unwrap();
        let queue = Arc::new(NotificationQueue::default());
        queue.put(notification("b", 1));
        tokio::spawn(Arc::clone(&queue).publish(broker));
        tokio::task::yield_now().await;
        for offset in 2..1000 {
            queue.put(notification("a", offset));
            queue.put(notification("b", offset));
        }
        for expected in [
            notification("b", 1),
            notification("a", 999),
            notification("b", 999),
        ] {
            assert_eq!(received.next().await, Some(expected));
        }
        assert_eq!(queue.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn publishing_times_out_when_the_broker_hangs() {
        let broker = Arc::new(Slow(3_600_000, LocalBroker::new()));
        let queue = Arc::new(NotificationQueue::default());
        tokio::spawn(Arc::clone(&queue).publish(broker));
        for offset in 1..10 {
            queue.put(notification("a", offset));
            tokio::time::sleep(PUBLISH_TIMEOUT + Duration::from_millis(1)).await;
            assert_eq!(queue.take(), None, "the attempt has timed out");
        }
    }

    /// Every third subscription succeeds, and has one notification.
    #[derive(Debug, Default)]
    struct Unreliable(AtomicU64);

    #[async_trait]
    impl Broker for Unreliable {
        async fn publish(&self, _: Notification) -> Result<(), BrokerError> {
            Ok(())
        }

        async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                attempt if attempt % 3 == 2 => {
                    Ok(futures_util::stream::iter([notification("a", attempt)]).boxed())
                }
                attempt if attempt % 3 == 1 => std::future::pending().await,
                _ => Err(BrokerError("not now".into())),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_broker_is_subscribed_to_again() {
        let received = receive(Arc::new(Unreliable::default())).take(4);
        let offsets: Vec<_> = received.map(|received| received.offset).collect().await;
        assert_eq!(offsets, [2, 5, 8, 11]);
    }
}
