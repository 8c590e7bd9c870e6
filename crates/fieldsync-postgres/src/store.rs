//! The store: runs each request on a connection of the pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deadpool_postgres::{Hook, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use fieldsync::backend::{
    Batch, ChangesSince, Committed, ForeignKey, Listing, LoggedCaptures, MAX_LIST_TIME, PageLimit,
    Position, RecordPage, Store, StoreError, TableDescription, own_collections,
};
use fieldsync::{Collection, CursorKey, Record, RecordId, RecordKey, Retention};
use fieldsync_sql::{Row as _, SqlValue, TableRegistry, check_order, script};
use tokio::sync::Semaphore;

use crate::address::{Address, TEXT_SETTINGS};
use crate::connection::{ANSWER_TIMEOUT, Connection, begin};
use crate::dialect::{Postgres, Table, id_arrays};
use crate::doorbell::Doorbell;
use crate::error::{ConnectError, Failure};
use crate::list_statement::{list_statement, record_page};
use crate::log_captured::{Check, log_captured};
use crate::logged_errors::LoggedErrors;
use crate::pipeline::{Step, in_order, run};
use crate::pooler::shares_a_session;
use crate::trim::trim;
use crate::value::{Parameter, PostgresRow};
use crate::{introspection, log, prepare, writer};

/// The connections of a pool that `connect` creates.
const MAX_CONNECTIONS: usize = 16;

/// How many of them may wait for other transactions' locks, so that the rest go on.
const MAX_WAITERS: usize = 4;

/// How often capture itself is checked, at most.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How long to wait for a free connection.
const POOL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a statement may take, on the connections of a pool that `connect` creates. It ends before `ANSWER_TIMEOUT`: a slow
/// trigger then fails only the edit that runs it, and no connection is lost.
const STATEMENT_TIMEOUT: &str = "8s";

/// How long a transaction may wait for this node. A node that hangs or is cut off in the middle of a transaction holds locks
/// that others need.
const IDLE_TIMEOUT: &str = "10s";

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
    tables: TableRegistry<Postgres>,
    /// The schema of the side tables, if the app has set it.
    side_schema: Option<String>,
    /// A permit per transaction that may wait for other transactions' locks.
    waiters: Arc<Semaphore>,
    doorbell: Arc<Doorbell>,
    /// When capture itself was last checked.
    checked_at: Mutex<Option<Instant>>,
    capture_errors: Arc<LoggedErrors>,
}

impl PostgresStore {
    /// Connects to a database: `postgres://[user[:password]@]host[:port]/database[?options]`.
    ///
    /// The options are `max_connections`, the size of the pool (16 by default), and those of `tokio_postgres::Config` (with standbys:
    /// `postgres://app@one,two/app?target_session_attrs=read-write`), and for TLS those of libpq. `sslmode` is `disable`,
    /// `prefer` (the default: TLS if the server offers it, without checks), `require` (TLS, without checks), `verify-ca` (the
    /// certificate's issuer is checked) or `verify-full` (the issuer and the host name are checked). `sslrootcert` is a PEM file
    /// of the issuers' certificates, or `system`; without it the system's certificates are used.
    ///
    /// # Errors
    /// If the URL is invalid, or the database can't be reached.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let mut address = Address::of(url)?;
        address.set("statement_timeout", STATEMENT_TIMEOUT);
        address.set("idle_in_transaction_session_timeout", IDLE_TIMEOUT);
        // The texts of values depend on these.
        for (name, value) in TEXT_SETTINGS {
            address.set(name, value);
        }
        let unreachable = |source| ConnectError::Unreachable {
            address: address.to_string(),
            source,
        };
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(address.clone().manager(recycling))
            .max_size(address.max_connections.unwrap_or(MAX_CONNECTIONS))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(POOL_TIMEOUT))
            .create_timeout(Some(address.connect_timeout()))
            .post_create(Hook::async_fn(|client, _| Box::pin(begin(client))))
            .recycle_timeout(Some(POOL_TIMEOUT))
            .build()
            .map_err(|error| unreachable(error.into()))?;
        let failed = |error: PoolError| match error {
            PoolError::Backend(error) => unreachable(error.into()),
            error => unreachable(error.into()),
        };
        let first = pool.get().await.map_err(failed)?;
        // A role may have a single connection.
        if let Ok(second) = pool.get().await {
            let shared = shares_a_session(&first, &second).await;
            drop(Object::take(second));
            if shared.map_err(|error| unreachable(error.into()))? {
                return Err(ConnectError::TransactionPooling {
                    address: address.to_string(),
                });
            }
        }
        drop(first);
        Ok(Self {
            doorbell: Arc::new(Doorbell::new(Some(address))),
            ..Self::with_pool(pool)
        })
    }

    /// Uses the app's own pool.
    ///
    /// The pool should have a `wait_timeout`; without one, a request may wait forever for a connection. Its sessions should
    /// have an `idle_in_transaction_session_timeout`; without one, a node that hangs in the middle of a transaction blocks the
    /// others.
    ///
    /// What other programs write is announced within the poll interval: a pool's connections can't wait for notifications.
    #[must_use]
    pub fn with_pool(pool: Pool) -> Self {
        Self {
            pool,
            tables: TableRegistry::default(),
            side_schema: None,
            waiters: Arc::new(Semaphore::new(MAX_WAITERS)),
            doorbell: Arc::new(Doorbell::new(None)),
            checked_at: Mutex::default(),
            capture_errors: Arc::default(),
        }
    }

    /// Capture itself is checked less often than what it has captured.
    fn next_check(&self) -> Check {
        let mut checked_at = self
            .checked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_due = checked_at.is_none_or(|at| now.duration_since(at) >= CHECK_INTERVAL);
        if is_due {
            *checked_at = Some(now);
            Check::Capture
        } else {
            Check::Nothing
        }
    }

    /// Keeps fieldsync's own tables, `fieldsync_…`, in this schema. By default they are where the role's `search_path` finds
    /// them, or else in its first schema. Every node needs the same schema.
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
    /// use fieldsync_postgres::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://app@localhost/app").await?;
    /// let store = store.with_side_schema("fieldsync");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_side_schema(self, schema: impl Into<String>) -> Self {
        Self {
            side_schema: Some(schema.into()),
            ..self
        }
    }

    /// The SQL that a start with these collections would run, for the app's own migrations: what is missing of the side
    /// tables, the app's tables and their columns, and the GRANTs that the role of this connection lacks. Empty if everything
    /// is in place: then a start writes nothing and needs no right to create anything.
    ///
    /// Connect as the app's role, and let the owner of the database run the result.
    ///
    /// # Errors
    /// If a table does not fit its collection, or the database can't be read.
    pub async fn ddl(&self, collections: &[Collection]) -> Result<String, StoreError> {
        let collections = collections.iter().cloned().chain(own_collections());
        let collections: Vec<_> = collections.map(Arc::new).collect();
        let mut client = self.pool.get().await.map_err(Failure::from)?;
        let side_schema = self.side_schema.as_deref();
        Ok(prepare::ddl(&mut client, &collections, side_schema).await?)
    }

    /// The SQL that removes everything of fieldsync's from the database: the triggers, the function, and the side tables of every
    /// schema. The role `fieldsync_capture` stays, since other databases of the server may use it.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn drop_ddl(&self) -> Result<String, StoreError> {
        let client = self.client().await?;
        let removal = introspection::removal(&*client);
        let statements = client.within(ANSWER_TIMEOUT, removal).await?;
        Ok(script(&statements))
    }

    async fn client(&self) -> Result<Connection, Failure> {
        Connection::of(&self.pool).await
    }

    /// Reads records of a collection, whether more follow, and the head of its log. After the time, if any, PostgreSQL cancels it.
    async fn read(
        &self,
        table: &Table,
        sql: &str,
        parameters: Vec<Parameter<'_>>,
        max_time: Option<Duration>,
    ) -> Result<RecordPage, Failure> {
        let client = self.client().await?;
        let reading = async {
            let Some(max_time) = max_time else {
                return run(&client, sql, parameters).await;
            };
            let timeout = max_time.as_millis();
            let begin = format!("begin read only; set local statement_timeout = {timeout}");
            let steps = [
                Step::Simple(begin),
                Step::query(&client, sql, parameters).await?,
                Step::Simple("commit".into()),
            ];
            let mut results = in_order(&client, &steps).await;
            let (begun, rows) = (results.next(), results.next());
            begun?;
            Ok(rows?)
        };
        let rows = client.within(ANSWER_TIMEOUT, reading).await?;
        record_page(table, &rows)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError> {
        let mut client = self.pool.get().await.map_err(Failure::from)?;
        self.tables
            .extend(prepare::prepare(&mut client, collections, self.side_schema.as_deref()).await?);
        Ok(())
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let (pool, tables) = (self.pool.clone(), self.tables.current());
        let waiters = Arc::clone(&self.waiters);
        // A task of its own: dropping the future does not leave half a transaction.
        let committed =
            tokio::spawn(async move { writer::commit(&pool, &tables, &waiters, batch).await });
        let failed = |error: tokio::task::JoinError| Err(StoreError::Backend(error.into()));
        committed.await.unwrap_or_else(failed)
    }

    async fn log_captured(&self, retention: Retention) -> Result<LoggedCaptures, StoreError> {
        let (pool, tables) = (self.pool.clone(), self.tables.current());
        let check = self.next_check();
        let errors = Arc::clone(&self.capture_errors);
        let logging =
            tokio::spawn(
                async move { log_captured(&pool, &tables, retention, check, &errors).await },
            );
        let failed = |error: tokio::task::JoinError| StoreError::Backend(error.into());
        let logged = logging.await.map_err(failed)??;
        if logged.more || !logged.changes.is_empty() {
            self.doorbell.stay_awake();
        }
        Ok(logged)
    }

    async fn captured(&self) {
        let tables = self.tables.current();
        if tables.captured().is_empty() {
            return std::future::pending().await;
        }
        self.doorbell.rung(&self.pool, &tables.own).await;
    }

    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError> {
        let tables = self.tables.current();
        let table = tables.of(&key.collection)?;
        let mut parameters = vec![Parameter::text(&*table.log)];
        parameters.extend(table.key_values(&key.id).into_iter().map(Parameter::from));
        let mut page = self.read(table, &table.own.get, parameters, None).await?;
        Ok((page.records.pop(), page.head))
    }

    async fn get_many(
        &self,
        collection: &str,
        ids: &[RecordId],
        limit: PageLimit,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let tables = self.tables.current();
        let table = tables.of(collection)?;
        let integer = |limit: usize| Parameter::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut parameters = id_arrays(table, ids);
        parameters.extend([integer(limit.rows), integer(limit.bytes)]);
        let client = self.client().await?;
        let reading = run(&client, &table.own.get_many, parameters);
        let rows = client.within(ANSWER_TIMEOUT, reading).await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let exists = !matches!(PostgresRow(row).value(0), Ok(SqlValue::Null));
            let record = exists.then(|| table.readable(&PostgresRow(row), 0));
            records.push(record.flatten());
        }
        Ok(records)
    }

    async fn list(&self, collection: &str, listing: &Listing) -> Result<RecordPage, StoreError> {
        let tables = self.tables.current();
        let table = tables.of(collection)?;
        // One row more than that is looked at, so that there is a number after it.
        let limit = listing.limit;
        let (mut rows, mut bytes) = (limit.rows.clamp(1, usize::MAX / 4), limit.bytes);
        // Only these may look through a whole table.
        let is_query = listing.narrowing.is_some() || listing.sorting.is_some();
        let max_time = is_query.then_some(MAX_LIST_TIME);
        loop {
            let limit = PageLimit { rows, bytes };
            let (sql, parameters) = list_statement(table, listing, limit);
            let page = self.read(table, &sql, parameters, max_time).await?;
            check_order(listing, &page.records)?;
            if !page.records.is_empty() || !page.more || rows >= usize::MAX / 4 {
                return Ok(page);
            }
            // No row of the page can be read, so that the next page would begin here, too.
            (rows, bytes) = (rows.saturating_mul(2), bytes.saturating_mul(2));
        }
    }

    async fn explain(&self, collection: &str, listing: &Listing) -> Result<String, StoreError> {
        let tables = self.tables.current();
        let (sql, parameters) = list_statement(tables.of(collection)?, listing, listing.limit);
        let client = self.client().await?;
        // A generic plan has parameters in place of values.
        let explaining = async {
            let sql = format!("explain (costs off) {sql}");
            let rows = run(&client, &sql, parameters).await?;
            let lines = rows.iter().map(|row| row.try_get::<_, String>(0));
            Ok::<_, Failure>(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
        };
        Ok(client.within(ANSWER_TIMEOUT, explaining).await?)
    }

    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: PageLimit,
    ) -> Result<ChangesSince, StoreError> {
        let tables = self.tables.current();
        let table = tables.of(collection)?;
        let client = self.client().await?;
        let read = log::changes(&client, &tables, table, since, limit);
        Ok(client.within(ANSWER_TIMEOUT, read).await?)
    }

    async fn changes_of(
        &self,
        key: &RecordKey,
        since: Position,
    ) -> Result<ChangesSince, StoreError> {
        let (tables, client) = (self.tables.current(), self.client().await?);
        let reading = log::read_changes_of(&client, &tables, key, since);
        Ok(client.within(ANSWER_TIMEOUT, reading).await?)
    }

    async fn tables(&self) -> Result<Vec<TableDescription>, StoreError> {
        let client = self.client().await?;
        let described = introspection::tables(&*client);
        Ok(client.within(ANSWER_TIMEOUT, described).await?)
    }

    fn foreign_keys(&self) -> Vec<ForeignKey> {
        self.tables.current().foreign_keys()
    }

    fn max_subscriber_reads(&self) -> usize {
        self.pool.status().max_size / 4
    }

    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let tables = self.tables.current();
        let client = self.client().await?;
        let heads = log::heads(&client, &tables);
        Ok(client.within(ANSWER_TIMEOUT, heads).await?)
    }

    async fn cursor_key(&self) -> Result<CursorKey, StoreError> {
        let (tables, client) = (self.tables.current(), self.client().await?);
        let reading = log::cursor_key(&client, &tables);
        Ok(client.within(ANSWER_TIMEOUT, reading).await?)
    }

    async fn trim(&self, retention: Retention) -> Result<bool, StoreError> {
        let (pool, tables) = (self.pool.clone(), self.tables.current());
        let trimmed = tokio::spawn(async move { trim(&pool, &tables, retention).await });
        let failed = |error: tokio::task::JoinError| Err(StoreError::Backend(error.into()));
        trimmed.await.unwrap_or_else(failed)
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore")
    }
}
