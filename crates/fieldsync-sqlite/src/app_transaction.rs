//! What the app itself runs on the writer's connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fieldsync::backend::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::capture_setup::remove_all;
use crate::connection::Open;
use crate::error::Failure;
use crate::store::SqliteStore;

impl SqliteStore {
    /// Runs the app's own SQL in a transaction on the writer's thread. If `work` returns an error or panics, the transaction is
    /// rolled back. Otherwise it is committed, and what it changed in the tables of collections is announced at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # use fieldsync::{Collection, Engine, Fields};
    /// # use fieldsync_sqlite::SqliteStore;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.db");
    /// let schema = serde_json::json!({
    ///     "type": "object", "properties": {"paid": {"type": "boolean", "default": false}}
    /// });
    /// let store = SqliteStore::open(path).await?;
    /// let engine = Engine::builder()
    ///     .collection(Collection::from_schema("orders", &schema).open_to_everyone())
    ///     .store(store.clone())
    ///     .start()
    ///     .await?;
    ///
    /// type Error = Box<dyn std::error::Error + Send + Sync>;
    /// // The collection's table and one that fieldsync does not know, in one transaction.
    /// let order = store
    ///     .transaction(|transaction| {
    ///         transaction.execute_batch("create table if not exists receipts (order_id integer, text text)")?;
    ///         transaction.execute("insert into orders (paid) values (1)", [])?;
    ///         let order = transaction.last_insert_rowid();
    ///         transaction.execute("insert into receipts values (?1, 'thank you')", [order])?;
    ///         Ok::<_, Error>(order)
    ///     })
    ///     .await?;
    /// let order = engine.collection::<Fields>("orders").get(order).await?.expect("it was committed");
    /// assert_eq!(order.fields["paid"], true);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Edits wait meanwhile, so `work` should be short. It must not wait for the engine.
    ///
    /// # Errors
    /// That of `work`, or the database's. Also if the SQL of `work` ends the transaction, or leaves a temporary table that
    /// hides one of the database: then everything is rolled back.
    pub async fn transaction<T, E>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let work = move |open: &mut Open| {
            let ending = Ending::watch(&mut open.connection)?;
            let done = run(&mut open.connection, &ending, work);
            Ending::unwatch(&mut open.connection)?;
            done
        };
        let running = self.0.writer.call(move |session| session.with(None, work));
        let done = running.await??;
        self.0.written.notify_one();
        Ok(done)
    }

    /// Drops the triggers and the table `fieldsync_captured`, so that nothing of fieldsync takes part in the writes of other
    /// programs. Call it while no engine is running: before a migration that the triggers would stop, or to stop using
    /// fieldsync.
    ///
    /// The next engine that starts with capture creates them again. Its subscribers start anew, because writes may have been
    /// missed.
    ///
    /// # Errors
    /// The database's.
    pub async fn drop_capture(&self) -> Result<(), StoreError> {
        let remove = |open: &mut Open| {
            let transaction = open
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            remove_all(&transaction)?;
            Ok(transaction.commit()?)
        };
        self.0
            .writer
            .call(move |session| session.with(None, remove))
            .await
    }
}

/// Runs the app's work in a transaction. The outer error is ours, the inner one the app's.
fn run<T, E>(
    connection: &mut Connection,
    ending: &Ending,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<Result<T, E>, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction);
    let was_rolled_back = ending.was_rolled_back.load(Ordering::Relaxed);
    if ending.refused_commit.load(Ordering::Relaxed) || done.is_ok() && was_rolled_back {
        let error = "the transaction was ended by its own SQL, so nothing of it is committed: \
                     leave out COMMIT and ROLLBACK, and return an error to roll back";
        return Err(StoreError::Backend(error.into()).into());
    }
    let Ok(done) = done else {
        return Ok(done);
    };
    if let Some(name) = hidden_table(&transaction)? {
        let error = format!(
            "the temporary table {name} hides the table of that name from fieldsync: give it another name"
        );
        return Err(StoreError::Backend(error.into()).into());
    }
    ending.may_commit.store(true, Ordering::Relaxed);
    transaction.commit()?;
    Ok(Ok(done))
}

/// A table of the database that the app has hidden from this connection by a temporary one.
fn hidden_table(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "select t.name from temp.sqlite_schema t join main.sqlite_schema m \
               on m.name = t.name collate nocase and m.type in ('table', 'view') \
               where t.type in ('table', 'view') and t.name not like 'sqlite\\_%' escape '\\'";
    connection.query_row(sql, [], |row| row.get(0)).optional()
}

/// Whether the app's SQL has ended the transaction. A COMMIT of its own is refused: it would commit one part without the other.
#[derive(Debug, Default)]
struct Ending {
    may_commit: AtomicBool,
    refused_commit: AtomicBool,
    was_rolled_back: AtomicBool,
}

impl Ending {
    fn watch(connection: &mut Connection) -> rusqlite::Result<Arc<Self>> {
        let ending = Arc::new(Self::default());
        let committing = Arc::clone(&ending);
        connection.commit_hook(Some(move || {
            let is_refused = !committing.may_commit.load(Ordering::Relaxed);
            committing
                .refused_commit
                .fetch_or(is_refused, Ordering::Relaxed);
            is_refused
        }))?;
        let rolling_back = Arc::clone(&ending);
        connection.rollback_hook(Some(move || {
            rolling_back.was_rolled_back.store(true, Ordering::Relaxed);
        }))?;
        Ok(ending)
    }

    fn unwatch(connection: &mut Connection) -> rusqlite::Result<()> {
        connection.commit_hook(None::<fn() -> bool>)?;
        connection.rollback_hook(None::<fn()>)
    }
}
