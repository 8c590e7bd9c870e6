//! The broker: NOTIFY on one connection, and LISTEN on another per subscription.

use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

use async_trait::async_trait;
use fieldsync::backend::{Broker, BrokerError, Notification, StoreError};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client};

use crate::address::{Address, PgConnection};
use crate::error::{ConnectError, Failure};

/// How often a subscription checks its connection. A connection can be dead without an error.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long the answer to LISTEN and to a check may take.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// The most notifications that wait for the engine. Further ones are dropped; the poll finds their changes.
const MAX_WAITING: usize = 1024;
/// The most bytes of a channel's name.
const MAX_CHANNEL_BYTES: usize = 63;

/// Sends notifications with PostgreSQL's LISTEN and NOTIFY, so that an app with PostgreSQL needs no Redis.
///
/// Each node uses two connections of its own. A pooler that assigns connections per transaction does not support LISTEN:
/// connect to the database directly.
///
/// ```no_run
/// # async fn connect() -> Result<(), fieldsync_postgres::ConnectError> {
/// use fieldsync_postgres::PostgresBroker;
///
/// let broker = PostgresBroker::connect("postgres://app@localhost/app").await?.with_prefix("shop");
/// # Ok(()) }
/// ```
pub struct PostgresBroker {
    address: Address,
    channel: String,
    publisher: Mutex<Option<Client>>,
}

impl PostgresBroker {
    /// Connects to a database. The URL is like that of [`PostgresStore::connect`](crate::PostgresStore::connect). Nodes that
    /// connect to the same database of the same server receive each other's notifications.
    ///
    /// # Errors
    /// If the URL is invalid. It is not an error if the database can't be reached now: the broker tries again.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let mut address = Address::of(url)?;
        // After a crash nobody is connected who could receive a notification: it is not worth waiting for the disk.
        address.set("synchronous_commit", "off");
        let publisher = publisher(&address).await.ok();
        Ok(Self {
            address,
            channel: channel("fieldsync"),
            publisher: Mutex::new(publisher),
        })
    }

    /// Names the channel `<prefix>:notices` instead of `fieldsync:notices`, to separate apps that share a database. All nodes of
    /// an app must use the same prefix, of at most 55 bytes.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.channel = channel(prefix);
        self
    }
}

fn channel(prefix: &str) -> String {
    format!("{prefix}:notices")
}

fn failed(failure: impl Into<Failure>) -> BrokerError {
    BrokerError(StoreError::from(failure.into()).into())
}

/// A client whose connection is polled by a task until the client is dropped.
async fn publisher(address: &Address) -> Result<Client, Failure> {
    let (client, connection) = address.connect().await?;
    tokio::spawn(connection);
    Ok(client)
}

#[async_trait]
impl Broker for PostgresBroker {
    async fn publish(&self, notification: Notification) -> Result<(), BrokerError> {
        let mut slot = self.publisher.lock().await;
        // Taken out until it has answered: a client whose answer was not awaited is not used again.
        let client = match slot.take() {
            Some(client) => client,
            None => publisher(&self.address).await.map_err(failed)?,
        };
        let sql = "select pg_notify($1, $2)";
        let text = notification.to_string();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.channel, Type::TEXT), (&text, Type::TEXT)];
        let notified = client.query_typed(sql, &parameters).await;
        notified.map_err(failed)?;
        *slot = Some(client);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
        if self.channel.len() > MAX_CHANNEL_BYTES {
            let channel = &self.channel;
            let error = format!(
                "the channel name {channel} is longer than {MAX_CHANNEL_BYTES} bytes; use a shorter prefix"
            );
            return Err(BrokerError(error.into()));
        }
        let (client, connection) = self.address.connect().await.map_err(failed)?;
        let (sender, notifications) = mpsc::channel(MAX_WAITING);
        tokio::spawn(drive(connection, sender));
        let listen = format!("listen \"{}\"", self.channel.replace('"', "\"\""));
        let listening = timeout(ANSWER_TIMEOUT, client.batch_execute(&listen)).await;
        listening
            .map_err(|_| failed(Failure::NoAnswer))?
            .map_err(failed)?;
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let subscription = Subscription {
            client,
            notifications,
            pings,
        };
        let notifications = unfold(subscription, |mut subscription| async {
            Some((subscription.next().await?, subscription))
        });
        Ok(notifications.boxed())
    }
}

/// Forwards the channel's notifications, until the connection is lost or its client is dropped.
async fn drive(mut connection: PgConnection, sender: mpsc::Sender<Notification>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(message) = message
            && let Ok(notification) = message.payload().parse()
        {
            // If the queue is full the notification is dropped; the poll finds its change.
            let _ = sender.try_send(notification);
        }
    }
}

/// A connection that listens on the channel.
struct Subscription {
    client: Client,
    notifications: mpsc::Receiver<Notification>,
    pings: Interval,
}

impl Subscription {
    /// The next notification, or `None` when the connection is lost.
    async fn next(&mut self) -> Option<Notification> {
        loop {
            tokio::select! {
                notification = self.notifications.recv() => return notification,
                _ = self.pings.tick() => {
                    let pong = timeout(ANSWER_TIMEOUT, self.client.batch_execute("")).await;
                    if !matches!(pong, Ok(Ok(()))) {
                        return None;
                    }
                }
            }
        }
    }
}

impl fmt::Debug for PostgresBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBroker")
            .field("address", &format_args!("{}", self.address))
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
