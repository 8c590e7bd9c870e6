//! [`RedisBroker`]: one connection to publish, and one per subscription (see `subscription`).

use std::fmt;

use async_trait::async_trait;
use fieldsync::backend::{Broker, BrokerError, Notification};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::subscription::{REDIS_TIMEOUT, Subscription};

/// A broker on Redis pub/sub.
///
/// ```no_run
/// # async fn connect() -> Result<(), fieldsync::backend::BrokerError> {
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
    /// Connects to Redis at `redis://[user:password@]host[:port][/db]` or `redis+unix:///path`.
    ///
    /// # Errors
    /// Returns an error if `url` is not a valid URL. If Redis can't be reached, this is not an error: the broker
    /// connects later.
    pub async fn connect(url: &str) -> Result<Self, BrokerError> {
        let client = Client::open(url).map_err(broker_error)?;
        let publisher = connect(&client).await.ok();
        Ok(Self {
            client,
            channel: channel("fieldsync"),
            publisher: Mutex::new(publisher),
        })
    }

    /// Sets the prefix of the channel's name, `<prefix>:notices`. The default is `fieldsync`.
    ///
    /// All nodes of an app need the same prefix. Apps that share one Redis need different ones.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.channel = channel(prefix);
        self
    }

    fn no_response(&self) -> BrokerError {
        let address = self.client.get_connection_info().addr();
        let message = format!("no response from Redis at {address} within {REDIS_TIMEOUT:?}");
        BrokerError(message.into())
    }
}

fn channel(prefix: &str) -> String {
    format!("{prefix}:notices")
}

fn broker_error(error: RedisError) -> BrokerError {
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
    async fn publish(&self, notification: Notification) -> Result<(), BrokerError> {
        let mut publisher = self.publisher.lock().await;
        // The connection is put back only after its response: if this future is dropped before, the next publish must
        // not take the late response for its own.
        let mut connection = match publisher.take() {
            Some(connection) => connection,
            None => connect(&self.client).await.map_err(broker_error)?,
        };
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(notification.to_string());
        let published = publish.exec_async(&mut connection).await;
        published.map_err(broker_error)?;
        *publisher = Some(connection);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
        let opening = Subscription::open(&self.client, &self.channel);
        let subscription = timeout(REDIS_TIMEOUT, opening)
            .await
            .map_err(|_| self.no_response())?
            .map_err(broker_error)?;
        let notifications = unfold(subscription, |mut subscription| async {
            Some((subscription.next().await?, subscription))
        });
        Ok(notifications.boxed())
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address does not contain the password.
        f.debug_struct("RedisBroker")
            .field("address", &self.client.get_connection_info().addr())
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
