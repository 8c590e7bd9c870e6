//! A broker within one process, for tests.

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::broker::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::notification::Notification;

/// Carries notices between the engines of one process: a bounded queue that each subscriber reads at its own pace.
///
/// A subscriber that falls behind by more than the queue holds misses notices, as with any broker.
///
/// ```
/// use fieldsync::LocalBroker;
/// use fieldsync::backend::{Broker, Notification};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = LocalBroker::new();
/// let mut notices = broker.subscribe().await?;
/// let notice = Notification { collection: "users".into(), epoch: 1, offset: 7 };
/// broker.publish(notice.clone()).await?;
/// assert_eq!(notices.next().await, Some(notice));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LocalBroker {
    notices: broadcast::Sender<Notification>,
}

impl LocalBroker {
    /// A broker without subscribers. Clones are the same broker.
    #[must_use]
    pub fn new() -> Self {
        Self {
            notices: broadcast::Sender::new(1024),
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
    async fn publish(&self, notice: Notification) -> Result<(), BrokerError> {
        // An error means that nobody listens, which is fine.
        let _ = self.notices.send(notice);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
        let notices = stream::unfold(self.notices.subscribe(), async |mut notices| {
            loop {
                match notices.recv().await {
                    Ok(notice) => return Some((notice, notices)),
                    // Lost notices are allowed; what they told is found in the heads.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(notices.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::BrokerFixture;
    use std::sync::Arc;

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
    async fn a_subscriber_that_falls_behind_misses_notices_and_hears_the_latest() {
        let broker = LocalBroker::new();
        let notices = broker.subscribe().await.unwrap();
        for offset in 1..=5000 {
            let notice = Notification {
                collection: "notes".into(),
                epoch: 1,
                offset,
            };
            broker.publish(notice).await.unwrap();
        }
        drop(broker);
        let heard: Vec<u64> = notices.map(|notice| notice.offset).collect().await;
        assert!(heard.len() < 5000 && heard.last() == Some(&5000));
    }
}
