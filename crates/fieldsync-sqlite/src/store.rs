//! The store: hands jobs to one thread that writes and some that read.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use fieldsync::{
    Backlog, Batch, Collection, GroupResult, Position, Record, RecordId, RecordKey, Retention,
    Store, StoreError,
};

use crate::error::{CannotOpen, sort};
use crate::options::SqliteOptions;
use crate::table::{Table, prepare};
use crate::worker::Workers;
use crate::{log, rows, writer};

/// The tables of the collections, by collection.
pub(crate) type Tables = HashMap<Arc<str>, Arc<Table>>;

/// A [`Store`] on a SQLite database. Its threads end when it is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use fieldsync_sqlite::SqliteStore;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
///
/// let store = SqliteStore::options().busy_timeout(Duration::from_secs(1)).open(path).await?;
/// # Ok(())
/// # }
/// ```
pub struct SqliteStore {
    writer: Workers,
    readers: Workers,
    tables: RwLock<Arc<Tables>>,
}

impl SqliteStore {
    /// Opens the database at this path, and makes the file if there is none.
    ///
    /// # Errors
    /// When the file can't be opened or is not a database; names the path.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::options().open(path).await
    }

    /// The defaults, to be changed before opening.
    pub fn options() -> SqliteOptions {
        SqliteOptions::default()
    }

    pub(crate) async fn start(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let writer = Workers::start("fieldsync-sqlite-writer", 1, path, &options);
        let readers = Workers::start("fieldsync-sqlite-reader", options.readers, path, &options);
        let opened = writer
            .run(|connection| {
                connection
                    .execute_batch("select count(*) from sqlite_schema")
                    .map_err(sort)
            })
            .await;
        opened.map_err(|source| {
            StoreError::Unavailable(
                CannotOpen {
                    path: path.to_owned(),
                    source,
                }
                .into(),
            )
        })?;
        Ok(Self {
            writer,
            readers,
            tables: RwLock::default(),
        })
    }

    fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn table(&self, collection: &str) -> Result<Arc<Table>, StoreError> {
        let table = self.tables().get(collection).cloned();
        table.ok_or_else(|| {
            StoreError::Backend(format!("collection {collection} was not prepared").into())
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError> {
        let collections = collections.to_vec();
        let prepared = self
            .writer
            .run(move |connection| prepare(connection, &collections))
            .await?;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = Tables::clone(&tables);
        all.extend(prepared);
        *tables = Arc::new(all);
        Ok(())
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<GroupResult>, StoreError> {
        let tables = self.tables();
        self.writer
            .run(move |connection| writer::commit(connection, &tables, &batch))
            .await
    }

    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError> {
        let (table, id) = (self.table(&key.collection)?, key.id);
        self.readers
            .run(move |connection| {
                let reading = connection.transaction().map_err(sort)?;
                let record = rows::get(&reading, &table, id).map_err(sort)?;
                Ok((
                    record,
                    log::head(&reading, table.collection.name()).map_err(sort)?,
                ))
            })
            .await
    }

    async fn list(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<(Vec<Record>, Position), StoreError> {
        let table = self.table(collection)?;
        self.readers
            .run(move |connection| {
                let reading = connection.transaction().map_err(sort)?;
                let records = rows::list(&reading, &table, after, limit).map_err(sort)?;
                Ok((
                    records,
                    log::head(&reading, table.collection.name()).map_err(sort)?,
                ))
            })
            .await
    }

    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: usize,
    ) -> Result<Backlog, StoreError> {
        let collection: Arc<str> = collection.into();
        self.readers
            .run(move |connection| {
                let reading = connection.transaction().map_err(sort)?;
                log::changes(&reading, &collection, since, limit)
            })
            .await
    }

    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let tables = self.tables();
        self.readers
            .run(move |connection| {
                let mut heads = log::heads(connection).map_err(sort)?;
                heads.retain(|(collection, _)| tables.contains_key(collection));
                Ok(heads)
            })
            .await
    }

    async fn trim(&self, retention: Retention) -> Result<bool, StoreError> {
        self.writer
            .run(move |connection| log::trim(connection, retention).map_err(sort))
            .await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}
