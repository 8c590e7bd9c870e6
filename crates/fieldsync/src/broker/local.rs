//! The broker inside one process, for tests.

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::broker::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::notification::Notification;

/// Carries notifications between the engines of one process. Each subscriber reads a bounded queue at its own pace.
///
/// A subscriber that is more than 1024 notifications behind misses the oldest, as may happen with any broker.
///
/// ```
/// use fieldsync::LocalBroker;
/// use fieldsync::backend::{Broker, Notification};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = LocalBroker::new();
/// let mut notifications = broker.subscribe().await?;
/// let notification = Notification { collection: "users".into(), epoch: 1, offset: 7 };
/// broker.publish(notification.clone()).await?;
/// assert_eq!(notifications.next().await, Some(notification));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LocalBroker {
    notifications: broadcast::Sender<Notification>,
}

/// How many notifications a subscriber can be behind before it misses some.
const QUEUE_LENGTH: usize = 1024;

impl LocalBroker {
    /// Creates a broker without subscribers. A clone is the same broker.
    #[must_use]
    pub fn new() -> Self {
        Self {
            notifications: broadcast::Sender::new(QUEUE_LENGTH),
        }
    }
}

impl Default for LocalBroker {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn publish(&self, notification: Notification) -> Result<(), BrokerError> {
        // It is no error that there are no subscribers.
        let _ = self.notifications.send(notification);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
        let notifications =
            stream::unfold(self.notifications.subscribe(), async |mut notifications| {
                loop {
                    match notifications.recv().await {
                        Ok(notification) => return Some((notification, notifications)),
                        // A broker may lose notifications: the heads are read once per poll interval.
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            });
        Ok(notifications.boxed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance::BrokerFixture;

    struct InProcess(LocalBroker);

    #[async_trait]
    impl BrokerFixture for InProcess {
        async fn fresh() -> Self {
            Self(LocalBroker::new())
        }

        async fn connect(&self) -> Arc<dyn Broker> {
            Arc::new(self.0.clone())
        }
    }

    mod broker {
        crate::backend::broker_tests!(super::InProcess);
    }

    #[tokio::test]
    async fn a_slow_subscriber_misses_notifications_but_receives_the_latest() {
        let broker = LocalBroker::new();
        let notifications = broker.subscribe().await.unwrap();
        for offset in 1..=5000 {
            let notification = Notification {
                collection: "notes".into(),
                epoch: 1,
                offset,
            };
            broker.publish(notification).await.unwrap();
        }
        drop(broker);
        let received: Vec<u64> = notifications
            .map(|notification| notification.offset)
            .collect()
            .await;
        assert!(received.len() < 5000 && received.last() == Some(&5000));
    }
}
