//! NotificationQueue on their way to the other nodes, the newest of each collection, never in the way of a write; and those of the
//! other nodes on their way here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::Notify;

use crate::broker::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::notification::Notification;

/// How long the broker may take for one notice. By then the other nodes' poll has found what it tells.
const NOTICE_TIME: Duration = Duration::from_secs(1);
/// How long a broker that failed is left alone, at most; drawn by lot, so that not all nodes come at once.
const PAUSE: Duration = Duration::from_millis(500);
/// How long subscribing may take.
const SUBSCRIBE_TIME: Duration = Duration::from_secs(30);
/// How long to wait before subscribing again, the first time and at most; drawn by lot.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The notices that wait for the broker. Of each collection only the newest counts, so that a broker that is slow or
/// away makes them no more than there are collections.
#[derive(Debug, Default)]
pub(crate) struct NotificationQueue {
    newest: Mutex<BTreeMap<Arc<str>, Notification>>,
    added: Notify,
}

impl NotificationQueue {
    pub(crate) fn put(&self, notice: Notification) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.insert(Arc::clone(&notice.collection), notice);
        drop(newest);
        self.added.notify_one();
    }

    fn take(&self) -> Option<Notification> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.pop_first().map(|(_, notice)| notice)
    }

    /// Hands them to the broker, for ever. What the broker loses is lost: it is found by the poll.
    pub(crate) async fn publish(self: Arc<Self>, broker: Arc<dyn Broker>) {
        loop {
            while let Some(notice) = self.take() {
                let published = tokio::time::timeout(NOTICE_TIME, broker.publish(notice));
                match published.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "a notice was lost"
                        );
                        tokio::time::sleep(PAUSE.mul_f64(fastrand::f64())).await;
                    }
                    Err(_) => tracing::debug!("a notice was lost: the broker took too long"),
                }
            }
            self.added.notified().await;
        }
    }
}

/// What the other nodes tell, for ever: the broker is subscribed to again whenever its stream ends.
pub(crate) fn listen(broker: Arc<dyn Broker>) -> BoxStream<'static, Notification> {
    let listener = Listener {
        broker,
        pause: Duration::ZERO,
        is_down: false,
    };
    let subscriptions = futures_util::stream::unfold(listener, |mut listener| async {
        Some((listener.subscription().await, listener))
    });
    subscriptions.flatten().boxed()
}

struct Listener {
    broker: Arc<dyn Broker>,
    pause: Duration,
    is_down: bool,
}

impl Listener {
    /// A subscription, as soon as there is one. That there is none, and that there is one again, is said once.
    async fn subscription(&mut self) -> BoxStream<'static, Notification> {
        loop {
            tokio::time::sleep(self.pause.mul_f64(fastrand::f64())).await;
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let subscribing = tokio::time::timeout(SUBSCRIBE_TIME, self.broker.subscribe()).await;
            match subscribing.unwrap_or_else(|late| Err(BrokerError(late.into()))) {
                Ok(notices) => {
                    if std::mem::take(&mut self.is_down) {
                        tracing::info!(broker = ?self.broker, "the broker is back");
                    }
                    self.pause = FIRST_PAUSE;
                    return notices;
                }
                Err(error) if !std::mem::replace(&mut self.is_down, true) => tracing::warn!(
                    broker = ?self.broker,
                    error = &error as &dyn std::error::Error,
                    "the broker can't be reached: until it is back, changes of other nodes are found by the poll"
                ),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::local::LocalBroker;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Takes its time, in milliseconds.
    #[derive(Debug)]
    struct Slow(u64, LocalBroker);

    #[async_trait]
    impl Broker for Slow {
        async fn publish(&self, notice: Notification) -> Result<(), BrokerError> {
            tokio::time::sleep(Duration::from_millis(self.0)).await;
            self.1.publish(notice).await
        }

        async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
            self.1.subscribe().await
        }
    }

    fn notice(collection: &str, offset: u64) -> Notification {
        Notification {
            collection: collection.into(),
            epoch: 1,
            offset,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_broker_is_told_the_newest_alone() {
        let broker = Arc::new(Slow(50, LocalBroker::new()));
        let mut heard = broker.subscribe().await.unwrap();
        let notices = Arc::new(NotificationQueue::default());
        notices.put(notice("b", 1));
        tokio::spawn(Arc::clone(&notices).publish(broker));
        tokio::task::yield_now().await;
        for offset in 2..1000 {
            notices.put(notice("a", offset));
            notices.put(notice("b", offset));
        }
        for expected in [notice("b", 1), notice("a", 999), notice("b", 999)] {
            assert_eq!(heard.next().await, Some(expected));
        }
        assert_eq!(notices.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_hangs_keeps_nothing_waiting() {
        let broker = Arc::new(Slow(3_600_000, LocalBroker::new()));
        let notices = Arc::new(NotificationQueue::default());
        tokio::spawn(Arc::clone(&notices).publish(broker));
        for offset in 1..10 {
            notices.put(notice("a", offset));
            tokio::time::sleep(NOTICE_TIME + Duration::from_millis(1)).await;
            assert_eq!(notices.take(), None, "it was given up");
        }
    }
    /// Can be subscribed to every third time, and then has one notice to tell.
    #[derive(Debug, Default)]
    struct Fickle(AtomicU64);

    #[async_trait]
    impl Broker for Fickle {
        async fn publish(&self, _: Notification) -> Result<(), BrokerError> {
            Ok(())
        }

        async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                times if times % 3 == 2 => {
                    Ok(futures_util::stream::iter([notice("a", times)]).boxed())
                }
                times if times % 3 == 1 => std::future::pending().await,
                _ => Err(BrokerError("not now".into())),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_lost_is_subscribed_to_again() {
        let heard = listen(Arc::new(Fickle::default())).take(4);
        let heard: Vec<_> = heard.map(|notice| notice.offset).collect().await;
        assert_eq!(heard, [2, 5, 8, 11]);
    }
}
