//! The store: passes each request to the writer's thread or to one of the readers' threads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use fieldsync::backend::{
    Batch, ChangesSince, Committed, ForeignKey, Listing, LoggedCaptures, MAX_LIST_TIME, PageLimit,
    Position, RecordPage, Store, StoreError, TableDescription, own_collections,
};
use fieldsync::{Collection, CursorKey, Record, RecordId, RecordKey, Retention};
use fieldsync_sql::{
    Row, SqlValue, TableRegistry, Transaction as _, read_changes, read_changes_of, read_cursor_key,
    read_page, read_record, read_records, run_ready, script, trim,
};
use rusqlite::TransactionBehavior;
use tokio::sync::{Notify, oneshot};

use crate::connection::{Open, Session, interrupted_at};
use crate::dialect::{Sqlite, Tables};
use crate::error::{Failure, OpenError, is_interrupted};
use crate::options::SqliteOptions;
use crate::transaction::Transaction;
use crate::worker::Workers;
use crate::{drain, heads, introspection, prepare, writer};

/// Reads of the disk overlap with reads of the cache. More readers would not be faster on the few cores of most servers.
const READERS: usize = 4;

/// How many of them may read for subscribers at a time.
const MAX_SUBSCRIBER_READS: usize = 2;

/// The app's tables and the change logs, in an SQLite database.
///
/// One thread writes and a few read, each on its own connection. Reads never wait for writes, and no async runtime waits
/// for the disk. The threads end when the store is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fieldsync::{Collection, Engine};
/// use fieldsync_sqlite::SqliteStore;
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
/// #[serde(default)]
/// struct User { first_name: String, last_name: String }
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("app.db");
/// let engine = Engine::builder()
///     .collection(Collection::of::<User>("users").timestamps().open_to_everyone())
///     .store(SqliteStore::open(path).await?)
///     .start()
///     .await?;
/// let ada = engine.collection("users").create(User { first_name: "Ada".into(), ..User::default() }).await?;
/// assert_eq!(engine.collection::<User>("users").get(&ada.id).await?.expect("it was just created"), ada);
/// # Ok(())
/// # }
/// ```
///
/// A clone is the same store.
#[derive(Debug, Clone)]
pub struct SqliteStore(pub(crate) Arc<Shared>);

/// What the clones of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) writer: Workers<Session>,
    readers: Workers<Session>,
    tables: TableRegistry<Sqlite>,
    /// The version of the schema at which the triggers were last compared with what they should be.
    looked_at: AtomicI64,
    /// The app has written.
    pub(crate) written: Notify,
}

impl SqliteStore {
    /// Opens a database with the default options. Creates the file if it does not exist.
    ///
    /// # Errors
    /// If the file can't be opened, is not a database, or is on a file system without the locks that SQLite needs.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::options().open(path).await
    }

    /// Options for opening a database, with their defaults.
    pub fn options() -> SqliteOptions {
        SqliteOptions::new()
    }

    async fn open_with(path: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        if matches!(path.to_str(), Some("" | ":memory:")) {
            let advice = "each connection would have another database in memory; name a file, or use a MemoryStore";
            return Err(OpenError::new(path, advice));
        }
        let session = Session::writer(path, options);
        let readers = (0..READERS).map(|_| session.reader()).collect::<Vec<_>>();
        let no_threads = |error| OpenError::caused_by(path, "a thread can't be started", error);
        let writer = Workers::start("fieldsync-write", [session]).map_err(no_threads)?;
        let readers = Workers::start("fieldsync-read", readers).map_err(no_threads)?;
        let (answer, opened) = oneshot::channel();
        let create = move |session: &mut Session| {
            let _ = answer.send(session.create());
            Ok(())
        };
        let panicked = "the writer's thread panicked";
        let created = writer.call(create).await;
        created.map_err(|error| OpenError::caused_by(path, panicked, error))?;
        opened
            .await
            .map_err(|error| OpenError::caused_by(path, panicked, error))??;
        Ok(Self(Arc::new(Shared {
            writer,
            readers,
            tables: TableRegistry::default(),
            looked_at: AtomicI64::default(),
            written: Notify::new(),
        })))
    }

    /// The SQL that a start with these collections would run, for the app's own migrations. Empty if everything is in place:
    /// then a start writes nothing.
    ///
    /// # Errors
    /// If a table does not fit its collection, or the database can't be read.
    pub async fn ddl(&self, collections: &[Collection]) -> Result<String, StoreError> {
        let collections = collections.iter().cloned().chain(own_collections());
        let collections: Vec<_> = collections.map(Arc::new).collect();
        self.0
            .writer
            .call(move |session| {
                session.with(None, |open| {
                    prepare::ddl(&mut open.connection, &collections)
                })
            })
            .await
    }

    /// The SQL that removes everything of fieldsync's from the database: the triggers and the side tables.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn drop_ddl(&self) -> Result<String, StoreError> {
        let read = |session: &mut Session| {
            session.with(None, |open| introspection::removal(&open.connection))
        };
        Ok(script(&self.0.readers.call(read).await?))
    }

    /// Reads on one of the readers' threads, in a transaction: the reads see one state of the database.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Transaction<'_>, &Tables) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tables = self.0.tables.current();
        self.0
            .readers
            .call(move |session| {
                session.with(None, |open| {
                    let transaction = open
                        .connection
                        .transaction_with_behavior(TransactionBehavior::Deferred)?;
                    read(&mut Transaction::new(&transaction), &tables)
                })
            })
            .await
    }
}

/// What an interrupted statement of a list means.
fn too_long(failure: Failure) -> Failure {
    match failure {
        Failure::Sqlite(error) if is_interrupted(&error) => {
            let message = "the list took too long: no index serves it";
            StoreError::Unavailable(message.into()).into()
        }
        failure => failure,
    }
}

impl SqliteOptions {
    /// Opens a database. Creates the file if it does not exist.
    ///
    /// # Errors
    /// If the file can't be opened, is not a database, or is on a file system without the locks that SQLite needs.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, OpenError> {
        SqliteStore::open_with(path.as_ref(), self).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError> {
        let collections = collections.to_vec();
        let prepared = self
            .0
            .writer
            .call(move |session| {
                session.with(None, |open| {
                    Session::use_wal(&open.connection)?;
                    prepare::prepare(&mut open.connection, &collections)
                })
            })
            .await?;
        self.0.tables.extend(prepared);
        Ok(())
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let tables = self.0.tables.current();
        self.0
            .writer
            .call(move |session| writer::commit(session, &tables, batch))
            .await
    }

    /// The retention limits only the age of what is logged: what waits is limited in number.
    async fn log_captured(&self, _: Retention) -> Result<LoggedCaptures, StoreError> {
        let tables = self.0.tables.current();
        if tables.captured().is_empty() {
            return Ok(LoggedCaptures::default());
        }
        let looked_at = self.0.looked_at.load(Ordering::Relaxed);
        // Writers do not wait for this look.
        let is_needed = move |open: &mut Open| {
            let transaction = open
                .connection
                .transaction_with_behavior(TransactionBehavior::Deferred)?;
            drain::is_needed(&transaction, looked_at)
        };
        let looking = self
            .0
            .readers
            .call(move |session| session.with(None, is_needed));
        if !looking.await? {
            return Ok(LoggedCaptures::default());
        }
        let drain = move |open: &mut Open| drain::drain(open, &tables, looked_at);
        let draining = self.0.writer.call(move |session| session.with(None, drain));
        let (logged, looked_at) = draining.await?;
        self.0.looked_at.store(looked_at, Ordering::Relaxed);
        Ok(logged)
    }

    /// Resolves after [`SqliteStore::transaction`]. SQLite does not tell what other programs write.
    async fn captured(&self) {
        self.0.written.notified().await;
    }

    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError> {
        let table = Arc::clone(self.0.tables.current().of(&key.collection)?);
        let id = key.id.clone();
        self.read(move |transaction, tables| {
            run_ready(read_record(transaction, tables, &table, &id))
        })
        .await
    }

    async fn get_many(
        &self,
        collection: &str,
        ids: &[RecordId],
        limit: PageLimit,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let table = Arc::clone(self.0.tables.current().of(collection)?);
        let ids = ids.to_vec();
        self.read(move |transaction, _| run_ready(read_records(transaction, &table, &ids, limit)))
            .await
    }

    async fn list(&self, collection: &str, listing: &Listing) -> Result<RecordPage, StoreError> {
        let listing = listing.clone();
        let table = Arc::clone(self.0.tables.current().of(collection)?);
        self.read(move |transaction, tables| {
            let limit = Instant::now() + MAX_LIST_TIME;
            let reading = || run_ready(read_page(transaction, tables, &table, &listing));
            interrupted_at(Some(limit), reading).map_err(too_long)
        })
        .await
    }

    async fn explain(&self, collection: &str, listing: &Listing) -> Result<String, StoreError> {
        let listing = listing.clone();
        let table = Arc::clone(self.0.tables.current().of(collection)?);
        self.read(move |transaction, _| {
            let statement = table.list(&listing, listing.limit.rows);
            let sql = format!("explain query plan {}", statement.sql);
            let mut plan: Vec<String> = Vec::new();
            let mut read = |row: &dyn Row| {
                if let SqlValue::Text(step) = row.value(3).map_err(StoreError::Backend)? {
                    plan.push(step.into_owned());
                }
                Ok(true)
            };
            run_ready(transaction.query(&sql, &statement.parameters, &mut read))?;
            Ok(plan.join("\n"))
        })
        .await
    }

    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: PageLimit,
    ) -> Result<ChangesSince, StoreError> {
        let collection = Arc::clone(&self.0.tables.current().of(collection)?.collection);
        self.read(move |transaction, tables| {
            let reading = read_changes(transaction, tables, &collection, since, limit);
            run_ready(reading)
        })
        .await
    }

    async fn changes_of(
        &self,
        key: &RecordKey,
        since: Position,
    ) -> Result<ChangesSince, StoreError> {
        let key = key.clone();
        self.read(move |transaction, tables| {
            run_ready(read_changes_of(transaction, tables, &key, since))
        })
        .await
    }

    async fn tables(&self) -> Result<Vec<TableDescription>, StoreError> {
        let read = |session: &mut Session| {
            session.with(None, |open| introspection::tables(&open.connection))
        };
        self.0.readers.call(read).await
    }

    fn foreign_keys(&self) -> Vec<ForeignKey> {
        self.0.tables.current().foreign_keys()
    }

    fn max_subscriber_reads(&self) -> usize {
        MAX_SUBSCRIBER_READS
    }

    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let tables = self.0.tables.current();
        self.0
            .readers
            .call(move |session| session.with(None, |open| heads::heads(open, &tables)))
            .await
    }

    async fn cursor_key(&self) -> Result<CursorKey, StoreError> {
        self.read(|transaction, tables| run_ready(read_cursor_key(transaction, tables)))
            .await
    }

    async fn trim(&self, retention: Retention) -> Result<bool, StoreError> {
        let tables = self.0.tables.current();
        self.0
            .writer
            .call(move |session| {
                session.with(None, |open| {
                    // Whoever may write the file trims it.
                    if open.connection.is_readonly("main")? {
                        return Ok(false);
                    }
                    let transaction = open
                        .connection
                        .transaction_with_behavior(TransactionBehavior::Immediate)?;
                    let mut trimmed = Transaction::new(&transaction);
                    let more = run_ready(trim(&mut trimmed, &tables, retention))?;
                    transaction.commit()?;
                    Ok(more)
                })
            })
            .await
    }
}
