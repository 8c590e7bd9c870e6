//! The store: hands what is asked of it to a connection of the pool.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use fieldsync::{
    Backlog, Batch, Collection, GroupResult, Position, Record, RecordId, RecordKey, Retention,
    Store, StoreError,
};
use tokio::sync::Semaphore;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use crate::error::Failure;
use crate::log::{TRIM_STEP, no_log};
use crate::table::Tables;
use crate::{keys, log, prepare, writer};

/// How many connections a pool of ours has.
const CONNECTIONS: usize = 16;
/// How many of them may wait for locks that others hold, so that the rest go on.
const WAITERS: usize = 4;
/// How long a connection may take to be made, and to be free.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a statement may take, on the connections of a pool of ours.
const STATEMENT_TIME: Duration = Duration::from_secs(15);

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

/// A URL that no store can be made of, or a database that can't be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL can't be used as it is.
    #[error("not a URL of PostgreSQL that can be used: {0}")]
    Url(String),
    /// The database does not answer, or not to this user.
    #[error("PostgreSQL can't be reached: {0}")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl PostgresStore {
    /// Connects to a database: `postgres://[user[:password]@]host[:port]/database`.
    ///
    /// # Errors
    /// When the URL is none, asks for TLS (take a pool of your own for that), or the database can't be reached.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        // The error may quote the password.
        let malformed =
            |_| ConnectError::Url("it must be like postgres://user@host/database".into());
        let mut config: Config = url.parse().map_err(malformed)?;
        if matches!(config.get_ssl_mode(), SslMode::Require) {
            let advice =
                "sslmode=require needs a pool of your own, made with TLS: PostgresStore::with_pool";
            return Err(ConnectError::Url(advice.into()));
        }
        let options = format!("-c statement_timeout={}", STATEMENT_TIME.as_millis());
        let options = match config.get_options() {
            Some(given) => format!("{options} {given}"),
            None => options,
        };
        config.options(options).connect_timeout(PATIENCE);
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| ConnectError::Unreachable(error.into()))?;
        match pool.get().await {
            Ok(_) => Ok(Self::with_pool(pool)),
            Err(error) => Err(ConnectError::Unreachable(error.into())),
        }
    }

    /// Uses the app's own pool. Give it a `wait_timeout`, or a request may wait for a connection for ever.
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

    async fn client(&self) -> Result<Object, Failure> {
        Ok(self.pool.get().await?)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError> {
        let mut client = self.client().await?;
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
        Ok(table.get(&client, &key.collection, key.id).await?)
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
        Ok(table.list(&client, collection, after, limit).await?)
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
        Ok(log::changes(&client, collection, since, limit).await?)
    }

    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let tables = self.tables();
        let client = self.client().await?;
        let heads = log::heads(&client).await?;
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
    let client = pool.get().await.map_err(Failure::from)?;
    let (mut left, mut more) = (TRIM_STEP, false);
    for collection in tables.0.keys() {
        let (forgotten, is_more) = trim_one(&client, collection, retention, left).await?;
        left -= forgotten;
        more |= is_more;
    }
    let keys = keys::forget(&client, TRIM_STEP).await?;
    Ok(more || keys == TRIM_STEP)
}

async fn trim_one(
    client: &Object,
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
            let _ = client.batch_execute("rollback").await;
            Err(failure)
        }
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore")
    }
}
