//! The broker: NOTIFY on a connection of its own, and for each who listens one that LISTENs.

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

/// How often a listener asks whether PostgreSQL is still there, and how long the answer may take: a connection can be dead
/// without a word.
const PING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_millis(500);
/// How many notices may wait for the engine. Further ones are lost, which the poll makes good.
const WAITING: usize = 1024;
/// How long a channel's name may be, in bytes.
const LONGEST_CHANNEL: usize = 63;

/// NotificationQueue on PostgreSQL's LISTEN and NOTIFY, so that an app with a PostgreSQL needs no Redis.
///
/// It has two connections of its own for each node. A pooler that hands a connection to another client after each transaction
/// can't carry LISTEN: give it the database's own address.
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
    /// Connects to a database, by a URL as that of [`PostgresStore::connect`](crate::PostgresStore::connect). Nodes hear each
    /// other when they are connected to the same database of the same server.
    ///
    /// # Errors
    /// When the URL can't be used. A database that can't be reached now is no error: it is tried again.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let mut address = Address::of(url)?;
        // A notice that a crash loses has nobody to hear it, and is not worth the wait for the disk.
        address.set("synchronous_commit", "off");
        let publisher = publisher(&address).await.ok();
        Ok(Self {
            address,
            channel: channel("fieldsync"),
            publisher: Mutex::new(publisher),
        })
    }

    /// Gives the channel another name than that of other apps on the same database: `<prefix>:notices`, by default
    /// `fieldsync:notices`. A prefix has at most 55 bytes; all nodes of an app must have the same.
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

/// A connection that is driven as long as somebody has it.
async fn publisher(address: &Address) -> Result<Client, Failure> {
    let (client, connection) = address.connect().await?;
    tokio::spawn(connection);
    Ok(client)
}

#[async_trait]
impl Broker for PostgresBroker {
    async fn publish(&self, notice: Notification) -> Result<(), BrokerError> {
        let mut publisher_place = self.publisher.lock().await;
        // Taken out until it has answered: one whose answer nobody waited for is not used again.
        let client = match publisher_place.take() {
            Some(client) => client,
            None => publisher(&self.address).await.map_err(failed)?,
        };
        let sql = "select pg_notify($1, $2)";
        let text = notice.to_string();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.channel, Type::TEXT), (&text, Type::TEXT)];
        let notified = client.query_typed(sql, &parameters).await;
        notified.map_err(failed)?;
        *publisher_place = Some(client);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
        if self.channel.len() > LONGEST_CHANNEL {
            let channel = &self.channel;
            let error = format!(
                "the name of the channel is longer than {LONGEST_CHANNEL} bytes: {channel}"
            );
            return Err(BrokerError(error.into()));
        }
        let (client, connection) = self.address.connect().await.map_err(failed)?;
        let (tell, notices) = mpsc::channel(WAITING);
        tokio::spawn(drive(connection, tell));
        let listen = format!("listen \"{}\"", self.channel.replace('"', "\"\""));
        let listening = timeout(PATIENCE, client.batch_execute(&listen)).await;
        listening
            .map_err(|_| failed(Failure::NoAnswer))?
            .map_err(failed)?;
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let subscription = Subscription {
            client,
            notices,
            pings,
        };
        let notices = unfold(subscription, |mut subscription| async {
            Some((subscription.next().await?, subscription))
        });
        Ok(notices.boxed())
    }
}

/// Hands on what the channel carries, until the connection is lost or its client is dropped.
async fn drive(mut connection: PgConnection, tell: mpsc::Sender<Notification>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message
            && let Ok(notice) = notification.payload().parse()
        {
            // Nothing that matters is lost.
            let _ = tell.try_send(notice);
        }
    }
}

/// A connection that listens.
struct Subscription {
    client: Client,
    notices: mpsc::Receiver<Notification>,
    pings: Interval,
}

impl Subscription {
    /// The next notice; `None` when the connection is lost.
    async fn next(&mut self) -> Option<Notification> {
        loop {
            tokio::select! {
                notice = self.notices.recv() => return notice,
                _ = self.pings.tick() => {
                    let pong = timeout(PATIENCE, self.client.batch_execute("")).await;
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
