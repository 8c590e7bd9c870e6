//! The doorbell: how an engine learns at once that others have written, without a notification from every writer.
//!
//! NOTIFY is dear to busy writers. An engine that sleeps arms the doorbell, and the next writer's trigger notifies. While others
//! write, the engine leaves it disarmed and looks every few milliseconds, until a second was quiet.

use std::future::poll_fn;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::{AsyncMessage, Client};

use crate::address::{Address, PgConnection};
use crate::connection::{ANSWER_TIMEOUT, Connection};
use crate::error::Failure;
use crate::side_statements::SideStatements;

/// How often an engine looks while others write.
const BUSY_INTERVAL: Duration = Duration::from_millis(10);
/// How long nobody must have written before the engine sleeps.
const QUIET_TIME: Duration = Duration::from_secs(1);
/// How long to wait after the listening connection failed. Until then changes are found by polling.
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(crate) struct Doorbell {
    /// Without an address there is no connection to listen on.
    address: Option<Address>,
    state: Mutex<State>,
    /// Until when the engine looks by itself.
    awake_until: std::sync::Mutex<Instant>,
}

#[derive(Default)]
struct State {
    listener: Option<Listener>,
    /// When this engine last made sure that the doorbell is armed.
    armed_at: Option<Instant>,
}

struct Listener {
    /// Closes the connection when it is dropped.
    _client: Client,
    rings: mpsc::Receiver<()>,
}

impl Doorbell {
    pub(crate) fn new(address: Option<Address>) -> Self {
        Self {
            address,
            state: Mutex::default(),
            awake_until: std::sync::Mutex::new(Instant::now()),
        }
    }

    /// Others are writing: look again soon.
    pub(crate) fn stay_awake(&self) {
        *self.lock() = Instant::now() + QUIET_TIME;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.awake_until
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Resolves when others may have written. It may be dropped at any time.
    pub(crate) async fn rung(&self, pool: &Pool, sql: &SideStatements) {
        let Some(address) = &self.address else {
            return std::future::pending().await;
        };
        let mut state = self.state.lock().await;
        loop {
            let awake_until = *self.lock();
            let waited = if Instant::now() < awake_until {
                state.stay_awake(pool, sql).await
            } else {
                state.sleep(address, pool, sql).await
            };
            match waited {
                Ok(true) => return,
                Ok(false) => {}
                Err(failure) => {
                    tracing::debug!(
                        error = failure.text(),
                        "can't wait for a notification of writers"
                    );
                    *state = State::default();
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }
}

impl State {
    async fn stay_awake(&mut self, pool: &Pool, sql: &SideStatements) -> Result<bool, Failure> {
        if self.armed_at.is_some() {
            execute(pool, &sql.capture.disarm).await?;
            self.armed_at = None;
        }
        sleep(BUSY_INTERVAL).await;
        Ok(true)
    }

    /// Waits for a ring. `true` if it is time to look.
    async fn sleep(
        &mut self,
        address: &Address,
        pool: &Pool,
        sql: &SideStatements,
    ) -> Result<bool, Failure> {
        if self.listener.is_none() {
            self.listener = Some(Listener::connect(address).await?);
        }
        let check_at = match self.armed_at {
            Some(armed_at) => armed_at + QUIET_TIME,
            None => Instant::now(),
        };
        if check_at <= Instant::now() {
            // Another engine may have disarmed it. What was written before it was armed is looked for now.
            let has_armed = execute(pool, &sql.capture.arm).await? > 0;
            self.armed_at = Some(Instant::now());
            return Ok(has_armed);
        }
        let Some(listener) = &mut self.listener else {
            return Ok(false);
        };
        tokio::select! {
            ring = listener.rings.recv() => match ring {
                Some(()) => {
                    while listener.rings.try_recv().is_ok() {}
                    Ok(true)
                }
                None => Err(Failure::NoAnswer),
            },
            () = sleep_until(check_at) => Ok(false),
        }
    }
}

impl Listener {
    async fn connect(address: &Address) -> Result<Self, Failure> {
        let (client, connection) = address.connect().await?;
        let (sender, rings) = mpsc::channel(1);
        tokio::spawn(drive(connection, sender));
        client
            .batch_execute("listen \"fieldsync:captured\"")
            .await?;
        Ok(Self {
            _client: client,
            rings,
        })
    }
}

/// Forwards notifications, until the connection is lost or its client is dropped.
async fn drive(mut connection: PgConnection, sender: mpsc::Sender<()>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(_) = message {
            // One that waits stands for all.
            let _ = sender.try_send(());
        }
    }
}

async fn execute(pool: &Pool, sql: &str) -> Result<u64, Failure> {
    let client = Connection::of(pool).await?;
    let statement = async {
        let statement = client.prepare_cached(sql).await?;
        Ok(client.execute(&statement, &[]).await?)
    };
    client.within(ANSWER_TIMEOUT, statement).await
}
