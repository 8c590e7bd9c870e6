//! The broker: a connection that publishes, and one for each who listens.

use std::fmt;

use async_trait::async_trait;
use fieldsync::{Broker, BrokerError, Notice};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::subscription::{REDIS_TIMEOUT, Subscription};

/// Notices on Redis pub/sub.
///
/// ```no_run
/// # async fn connect() -> Result<(), fieldsync::BrokerError> {
/// use fieldsync_redis::RedisBroker;
///
/// let broker = RedisBroker::connect("redis://127.0.0.1:6379").await?.with_prefix("shop");
/// # Ok(()) }
/// ```
pub struct RedisBroker {
    client: Client,
    channel: String,
    publisher: Mutex<Option<MultiplexedConnection>>,
}

impl RedisBroker {
    /// Connects to a Redis: `redis://[user:password@]host[:port][/db]`, or `redis+unix:///path`.
    ///
    /// One that can't be reached now is no error: it is tried again. What is no such URL is one.
    pub async fn connect(url: &str) -> Result<Self, BrokerError> {
        let client = Client::open(url).map_err(failed)?;
        let publisher = connect(&client).await.ok();
        Ok(Self {
            client,
            channel: channel("fieldsync"),
            publisher: Mutex::new(publisher),
        })
    }

    /// Gives the channel another name than that of other apps on the same Redis: `<prefix>:notices`, by default
    /// `fieldsync:notices`. All nodes of an app must have the same.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.channel = channel(prefix);
        self
    }
}

fn channel(prefix: &str) -> String {
    format!("{prefix}:notices")
}

fn failed(error: RedisError) -> BrokerError {
    BrokerError(error.into())
}

async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(REDIS_TIMEOUT))
        .set_response_timeout(Some(REDIS_TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

#[async_trait]
impl Broker for RedisBroker {
    async fn publish(&self, notice: Notice) -> Result<(), BrokerError> {
        let mut publisher = self.publisher.lock().await;
        // Taken out until it has answered: one whose answer nobody waited for is not used again.
        let mut connection = match publisher.take() {
            Some(connection) => connection,
            None => connect(&self.client).await.map_err(failed)?,
        };
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(notice.to_string());
        let published = publish.exec_async(&mut connection).await;
        published.map_err(failed)?;
        *publisher = Some(connection);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notice>, BrokerError> {
        let opening = Subscription::open(&self.client, &self.channel);
        let opened = timeout(REDIS_TIMEOUT, opening).await;
        let subscription = opened
            .map_err(|late| BrokerError(late.into()))?
            .map_err(failed)?;
        let notices = unfold(subscription, |mut subscription| async {
            Some((subscription.next().await?, subscription))
        });
        Ok(notices.boxed())
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address without the password.
        f.debug_struct("RedisBroker")
            .field("address", &self.client.get_connection_info().addr())
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
