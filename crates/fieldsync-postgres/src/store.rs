//! The store: hands what is asked of it to a connection of the pool.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use fieldsync::{
    Backlog, Batch, Collection, GroupResult, Position, Record, RecordId, RecordKey, Retention,
    Store, StoreError,
};
use tokio::sync::Semaphore;

use crate::address::Address;
use crate::connection::{ANSWER_TIME, Connection};
use crate::error::{ConnectError, Failure};
use crate::log::{TRIM_STEP, no_log};
use crate::table::Tables;
use crate::{keys, log, prepare, writer};

/// How many connections a pool of ours has.
const CONNECTIONS: usize = 16;
/// How many of them may wait for locks that others hold, so that the rest go on.
const WAITERS: usize = 4;
/// How long a connection may take to be free.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a statement may take, on the connections of a pool of ours.
const STATEMENT_TIME: &str = "15s";
/// How long a transaction may wait for us: a node that hangs or is cut off in the middle of one has locks that others need.
const IDLE_TIME: &str = "10s";

/// The app's tables and the change logs, in a PostgreSQL database.
///
/// ```no_run
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// use fieldsync_postgres::PostgresStore;
///
/// let store = PostgresStore::connect("postgres://app@localhost/app").await?;
/// # Ok(())
/// # }
/// ```
pub struct PostgresStore {
    pool: Pool,
    tables: RwLock<Arc<Tables>>,
    /// Places for those who wait for others' locks, each on a connection.
    waiters: Arc<Semaphore>,
}

impl PostgresStore {
    /// Connects to a database: `postgres://[user[:password]@]host[:port]/database[?options]`.
    ///
    /// Options are those of `tokio_postgres::Config` (with standbys: `postgres://app@one,two/app?target_session_attrs=read-write`),
    /// and for TLS those of libpq: `sslmode` is `disable`, `prefer` (the
    /// default: TLS where the server has it, nothing checked), `require` (TLS, nothing checked), `verify-ca` (the certificate's
    /// issuer is checked) or `verify-full` (that, and the host's name). `sslrootcert` is a PEM file of the issuers' certificates, or
    /// `system`; without it the system's are taken.
    ///
    /// # Errors
    /// When the URL can't be used, or the database can't be reached.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let mut address = Address::of(url)?;
        address.set("statement_timeout", STATEMENT_TIME);
        address.set("idle_in_transaction_session_timeout", IDLE_TIME);
        let unreachable = |source| ConnectError::Unreachable {
            address: address.to_string(),
            source,
        };
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(address.clone().manager(recycling))
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(address.connect_time()))
            .recycle_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| unreachable(error.into()))?;
        match pool.get().await {
            Ok(_) => Ok(Self::with_pool(pool)),
            Err(PoolError::Backend(error)) => Err(unreachable(error.into())),
            Err(error) => Err(unreachable(error.into())),
        }
    }

    /// Uses the app's own pool. Give it a `wait_timeout`, or a request may wait for a connection for ever; and its sessions an
    /// `idle_in_transaction_session_timeout`, or a node that hangs in the middle of a transaction holds up the others.
    #[must_use]
    pub fn with_pool(pool: Pool) -> Self {
        Self {
            pool,
            tables: RwLock::default(),
            waiters: Arc::new(Semaphore::new(WAITERS)),
        }
    }

    fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn client(&self) -> Result<Connection, Failure> {
        Connection::of(&self.pool).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError> {
        let mut client = self.pool.get().await.map_err(Failure::from)?;
        let prepared = prepare::prepare(&mut client, collections).await?;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = Tables::clone(&tables);
        all.0.extend(prepared.0);
        *tables = Arc::new(all);
        Ok(())
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<GroupResult>, StoreError> {
        let (pool, tables) = (self.pool.clone(), self.tables());
        let waiters = Arc::clone(&self.waiters);
        // A task of its own, so that a future that is dropped does not leave a transaction half done.
        let committed =
            tokio::spawn(async move { writer::commit(&pool, &tables, &waiters, batch).await });
        let failed = |error: tokio::task::JoinError| Err(StoreError::Backend(error.into()));
        committed.await.unwrap_or_else(failed)
    }

    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError> {
        let tables = self.tables();
        let table = tables.of(&key.collection)?;
        let client = self.client().await?;
        let read = table.get(&client, &key.collection, key.id);
        Ok(client.within(ANSWER_TIME, read).await?)
    }

    async fn list(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<(Vec<Record>, Position), StoreError> {
        let tables = self.tables();
        let table = tables.of(collection)?;
        let client = self.client().await?;
        let read = table.list(&client, collection, after, limit);
        Ok(client.within(ANSWER_TIME, read).await?)
    }

    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: usize,
    ) -> Result<Backlog, StoreError> {
        let tables = self.tables();
        let (collection, _) = tables
            .0
            .get_key_value(collection)
            .ok_or_else(|| no_log(collection))?;
        let client = self.client().await?;
        let read = log::changes(&client, collection, since, limit);
        Ok(client.within(ANSWER_TIME, read).await?)
    }

    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let tables = self.tables();
        let client = self.client().await?;
        let heads = client.within(ANSWER_TIME, log::heads(&client)).await?;
        // The logs of collections that the app no longer has are left alone.
        let known = tables.0.keys().filter_map(|name| {
            let head = heads.get(&**name)?;
            Some((Arc::clone(name), *head))
        });
        Ok(known.collect())
    }

    async fn trim(&self, retention: Retention) -> Result<bool, StoreError> {
        let (pool, tables) = (self.pool.clone(), self.tables());
        let trimmed = tokio::spawn(async move { trim(&pool, &tables, retention).await });
        let failed = |error: tokio::task::JoinError| Err(StoreError::Backend(error.into()));
        trimmed.await.unwrap_or_else(failed)
    }
}

async fn trim(pool: &Pool, tables: &Tables, retention: Retention) -> Result<bool, StoreError> {
    let client = Connection::of(pool).await?;
    let (mut left, mut more) = (TRIM_STEP, false);
    for collection in tables.0.keys() {
        let trimming = trim_one(&client, collection, retention, left);
        let (forgotten, is_more) = client.within(ANSWER_TIME, trimming).await?;
        left -= forgotten;
        more |= is_more;
    }
    let forgetting = keys::forget(&client, TRIM_STEP);
    let keys = client.within(ANSWER_TIME, forgetting).await?;
    Ok(more || keys == TRIM_STEP)
}

async fn trim_one(
    client: &Connection,
    collection: &str,
    retention: Retention,
    most: usize,
) -> Result<(usize, bool), Failure> {
    client.batch_execute("begin").await?;
    match log::trim(client, collection, retention, most).await {
        Ok(trimmed) => {
            client.batch_execute("commit").await?;
            Ok(trimmed)
        }
        Err(failure) => {
            if client.batch_execute("rollback").await.is_err() {
                client.lose();
            }
            Err(failure)
        }
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore")
    }
}
