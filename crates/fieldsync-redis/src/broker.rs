//! The broker: a connection that publishes, and one for each who listens.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fieldsync::{Broker, BrokerError, Notice};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::Mutex;

use crate::listener::Listener;
use crate::message;

/// How long connecting may take, and how long an answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Notices on Redis pub/sub.
///
/// Connections are made again by themselves, after a while that grows and is drawn by lot. The first time that Redis can't be
/// reached, and when it is back, is said in one line of the log each.
///
/// ```no_run
/// # async fn connect() -> Result<(), fieldsync::BrokerError> {
/// use fieldsync_redis::RedisBroker;
///
/// let broker = RedisBroker::connect("redis://127.0.0.1:6379").await?.with_prefix("shop");
/// # Ok(()) }
/// ```
pub struct RedisBroker {
    redis: Redis,
    publisher: Mutex<Option<MultiplexedConnection>>,
}

/// Where Redis is, and how it does.
#[derive(Clone)]
pub(crate) struct Redis {
    pub(crate) client: Client,
    pub(crate) channel: String,
    is_down: Arc<AtomicBool>,
}

impl RedisBroker {
    /// Connects to a Redis: `redis://[user:password@]host[:port][/db]`, or `redis+unix:///path`.
    ///
    /// One that can't be reached now is no error: it is tried again. What is no such URL is one.
    pub async fn connect(url: &str) -> Result<Self, BrokerError> {
        let client = Client::open(url).map_err(|error| BrokerError(error.into()))?;
        let redis = Redis {
            client,
            channel: channel("fieldsync"),
            is_down: Arc::default(),
        };
        let publisher = redis.connect().await.ok();
        Ok(Self {
            redis,
            publisher: Mutex::new(publisher),
        })
    }

    /// Gives the channel another name than that of other apps on the same Redis: `<prefix>:notices`, by default
    /// `fieldsync:notices`. All nodes of an app must have the same.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.redis.channel = channel(prefix);
        self
    }
}

fn channel(prefix: &str) -> String {
    format!("{prefix}:notices")
}

impl Redis {
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        match &connection {
            Ok(_) => self.is_up(),
            Err(error) => self.is_down(error),
        }
        connection
    }

    /// Says so, once.
    pub(crate) fn is_down(&self, error: &RedisError) {
        if !self.is_down.swap(true, Ordering::AcqRel) {
            // The address without the password.
            let address = self.client.get_connection_info().addr();
            tracing::warn!(%address, %error, "Redis can't be reached: other nodes see changes within a second, until it is back");
        }
    }

    pub(crate) fn is_up(&self) {
        if self.is_down.swap(false, Ordering::AcqRel) {
            tracing::info!("Redis is back");
        }
    }
}

#[async_trait]
impl Broker for RedisBroker {
    async fn publish(&self, notice: Notice) -> Result<(), BrokerError> {
        let failed = |error: RedisError| BrokerError(error.into());
        let mut publisher = self.publisher.lock().await;
        // Taken out until it has answered: one whose answer nobody waited for is not used again.
        let mut connection = match publisher.take() {
            Some(connection) => connection,
            None => self.redis.connect().await.map_err(failed)?,
        };
        let mut publish = redis::cmd("PUBLISH");
        publish
            .arg(&self.redis.channel)
            .arg(message::write(&notice));
        let published = publish.exec_async(&mut connection).await;
        published.map_err(failed)?;
        *publisher = Some(connection);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notice>, BrokerError> {
        let listener = Listener::start(self.redis.clone()).await;
        let notices = futures_util::stream::unfold(listener, |mut listener| async {
            Some((listener.next().await, listener))
        });
        Ok(notices.boxed())
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker")
            .field("channel", &self.redis.channel)
            .finish_non_exhaustive()
    }
}
