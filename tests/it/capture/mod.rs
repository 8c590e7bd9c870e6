//! Changes that the engine did not make: by the database itself, and by other programs.

mod cascades;
mod interruptions;
mod keys;
#[cfg(feature = "services")]
mod killed;
mod others;
mod random_writes;
mod replace;
mod triggers;
mod window;

#[cfg(feature = "services")]
use std::process::Command;
use std::time::Duration;

use fieldsync::{Collection, Engine, EngineBuilder};
use fieldsync_sqlite::{SqliteStore, Synchronous};
use serde_json::{Value, json};

/// How soon an engine of these tests looks for what others have written.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A database of one test, with the SQL of other programs.
pub(crate) trait Database: Sized + Send + Sync {
    const IS_SQLITE: bool;

    async fn fresh() -> Self;

    /// Gives the engine a new store on the database.
    async fn store(&self, builder: EngineBuilder) -> EngineBuilder;

    /// Runs SQL on another connection.
    async fn sql(&self, sql: &str);

    /// A program that runs the SQL of its standard input, and prints what it selects.
    #[cfg(feature = "services")]
    fn program(&self) -> Command;

    /// Starts an engine with capture on these collections.
    async fn start(&self, collections: impl IntoIterator<Item = Collection> + Send) -> Engine {
        self.start_polling(POLL_INTERVAL, collections).await
    }

    async fn start_polling(
        &self,
        interval: Duration,
        collections: impl IntoIterator<Item = Collection> + Send,
    ) -> Engine {
        let mut builder = Engine::builder().poll_interval(interval);
        for collection in collections {
            builder = builder.collection(collection.capture().open_to_everyone());
        }
        self.store(builder).await.start().await.unwrap()
    }

    /// The SQL for this database.
    fn either<'a>(sqlite: &'a str, postgres: &'a str) -> &'a str {
        if Self::IS_SQLITE { sqlite } else { postgres }
    }
}

pub(crate) struct SqliteFile(tempfile::TempDir);

impl SqliteFile {
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.0.path().join("app.db")
    }

    /// A connection of another program.
    pub(crate) fn connect(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection
            .pragma_update(None, "synchronous", "off")
            .unwrap();
        connection
            .pragma_update(None, "foreign_keys", true)
            .unwrap();
        connection
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        let options = SqliteStore::options().synchronous(Synchronous::Normal);
        options.open(self.path()).await.unwrap()
    }
}

impl Database for SqliteFile {
    const IS_SQLITE: bool = true;

    async fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn store(&self, builder: EngineBuilder) -> EngineBuilder {
        builder.store(self.open().await)
    }

    async fn sql(&self, sql: &str) {
        self.connect().execute_batch(sql).unwrap();
    }

    #[cfg(feature = "services")]
    fn program(&self) -> Command {
        const SCRIPT: &str = "\
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for line in sys.stdin:
    for row in database.execute(line):
        print(*row, flush=True)
";
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", SCRIPT]).arg(self.path());
        command
    }
}

#[cfg(feature = "services")]
pub(crate) struct PostgresDatabase(String);

#[cfg(feature = "services")]
impl Database for PostgresDatabase {
    const IS_SQLITE: bool = false;

    async fn fresh() -> Self {
        Self(crate::cluster::fresh_database().await)
    }

    async fn store(&self, builder: EngineBuilder) -> EngineBuilder {
        let store = fieldsync_postgres::PostgresStore::connect(&self.0).await;
        builder.store(store.unwrap())
    }

    async fn sql(&self, sql: &str) {
        let client = crate::cluster::connect(&self.0).await;
        client.batch_execute(sql).await.unwrap();
    }

    fn program(&self) -> Command {
        let mut command = Command::new("psql");
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            &self.0,
        ]);
        command
    }
}

/// A collection on an existing table. The fields are given as their JSON types: `string`, or `string?` where null is allowed.
pub(crate) fn collection(name: &str, fields: &[(&str, &str)]) -> Collection {
    let fields = fields.iter().map(|(name, kind)| {
        let schema = match kind.strip_suffix('?') {
            Some(kind) => json!({"type": [kind, "null"]}),
            None => json!({"type": kind}),
        };
        ((*name).to_owned(), schema)
    });
    let properties: serde_json::Map<String, Value> = fields.collect();
    Collection::from_schema(name, &json!({"type": "object", "properties": properties}))
}

/// Makes one test per database of each case.
macro_rules! on_every_database {
    ($($case:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case::<$crate::capture::SqliteFile>().await;
            })+
        }
        #[cfg(feature = "services")]
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case::<$crate::capture::PostgresDatabase>().await;
            })+
        }
    };
}
use on_every_database;
