//! What the app itself runs on the writer's connection.

use fieldsync::backend::StoreError;
use rusqlite::TransactionBehavior;

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
    /// That of `work`, or the database's.
    pub async fn transaction<T, E>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let work = move |open: &mut Open| {
            let transaction = open
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = match work(&transaction) {
                Ok(done) => done,
                Err(error) => return Ok(Err(error)),
            };
            if transaction.is_autocommit() {
                let error = "the transaction was ended by its own SQL";
                return Err(Failure::Store(StoreError::Backend(error.into())));
            }
            transaction.commit()?;
            Ok(Ok(done))
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
