//! [`RedisBroker`]: one connection to publish, and one per subscription (see `subscription`).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use fieldsync::backend::{Broker, BrokerError, Notification};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use redis::aio::MultiplexedConnection;
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use rustls::crypto::CryptoProvider;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::subscription::{REDIS_TIMEOUT, Subscription};

/// The limit on connecting where Sentinels are asked before.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(2);

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
    server: Server,
    channel: String,
    publisher: Mutex<Option<MultiplexedConnection>>,
}

/// Where Redis is.
enum Server {
    At(Box<Client>),
    /// Sentinel says which server is the primary.
    Primary(Box<Mutex<SentinelClient>>),
}

impl Server {
    async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::At(client) => Ok(Client::clone(client)),
            Self::Primary(sentinel) => sentinel.lock().await.async_get_client().await,
        }
    }

    fn timeout(&self) -> Duration {
        match self {
            Self::At(_) => REDIS_TIMEOUT,
            Self::Primary(_) => SENTINEL_TIMEOUT,
        }
    }

    /// Without the password.
    fn name(&self) -> String {
        match self {
            Self::At(client) => client.get_connection_info().addr().to_string(),
            Self::Primary(_) => "the primary that Sentinel names".to_owned(),
        }
    }
}

impl RedisBroker {
    /// Connects to Redis at `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS with the system's certificates, or
    /// `redis+unix:///path`.
    ///
    /// # Errors
    /// Returns an error if `url` is not a valid URL. If Redis can't be reached, this is not an error: the broker
    /// connects later.
    pub async fn connect(url: &str) -> Result<Self, BrokerError> {
        let broker = Self::with_client(Client::open(url).map_err(broker_error)?);
        *broker.publisher.lock().await = connect(&broker.server).await.ok();
        Ok(broker)
    }

    /// Uses a client of the app's, for instance one with certificates of its own. It connects when it is needed.
    ///
    /// ```no_run
    /// # fn make(pem: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    /// use fieldsync_redis::RedisBroker;
    /// use fieldsync_redis::redis::{Client, TlsCertificates};
    ///
    /// let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    /// let client = Client::build_with_tls("rediss://app:secret@redis.example", certificates)?;
    /// let broker = RedisBroker::with_client(client);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_client(client: Client) -> Self {
        Self::at(Server::At(client.into()))
    }

    /// Uses the primary that Redis Sentinel names, and asks again after each lost connection. The client must be one for primaries.
    ///
    /// ```no_run
    /// # fn make() -> Result<(), Box<dyn std::error::Error>> {
    /// use fieldsync_redis::RedisBroker;
    /// use fieldsync_redis::redis::sentinel::{SentinelClient, SentinelServerType};
    ///
    /// let sentinels = vec!["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
    /// let client = SentinelClient::build(sentinels, "mymaster", None, SentinelServerType::Master)?;
    /// let broker = RedisBroker::with_sentinel(client);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_sentinel(client: SentinelClient) -> Self {
        Self::at(Server::Primary(Box::new(Mutex::new(client))))
    }

    fn at(server: Server) -> Self {
        // The client takes the one provider of the process, and panics if there is none or a choice.
        if CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Self {
            server,
            channel: channel("fieldsync"),
            publisher: Mutex::default(),
        }
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
        let (server, limit) = (self.server.name(), self.server.timeout());
        let message = format!("no response from Redis at {server} within {limit:?}");
        BrokerError(message.into())
    }
}

fn channel(prefix: &str) -> String {
    format!("{prefix}:notices")
}

fn broker_error(error: RedisError) -> BrokerError {
    BrokerError(error.into())
}

async fn connect(server: &Server) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(REDIS_TIMEOUT))
        .set_response_timeout(Some(REDIS_TIMEOUT));
    let client = server.client().await?;
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
            None => timeout(self.server.timeout(), connect(&self.server))
                .await
                .map_err(|_| self.no_response())?
                .map_err(broker_error)?,
        };
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(notification.to_string());
        let published = publish.exec_async(&mut connection).await;
        published.map_err(broker_error)?;
        *publisher = Some(connection);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
        let opening = async {
            let client = self.server.client().await?;
            Subscription::open(&client, &self.channel).await
        };
        let subscription = timeout(self.server.timeout(), opening)
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
            .field("address", &self.server.name())
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
