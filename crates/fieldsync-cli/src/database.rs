//! The database that is served.

use std::error::Error;
use std::path::PathBuf;
use std::str::FromStr;

use fieldsync::backend::{Store, StoreError, TableDescription};
use fieldsync::{Collection, EngineBuilder};
use fieldsync_postgres::PostgresStore;
use fieldsync_sqlite::SqliteStore;

use crate::progress::during;

/// Which database, from the command line.
#[derive(Debug, Clone)]
pub(crate) enum Dsn {
    Sqlite(PathBuf),
    Postgres(String),
}

impl FromStr for Dsn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            _ => Err("expected sqlite:PATH or postgres://USER@HOST/DATABASE".into()),
        }
    }
}

/// A database that was opened.
pub(crate) enum Database {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Database {
    pub(crate) async fn open(dsn: &Dsn, side_schema: Option<&str>) -> Result<Self, String> {
        match dsn {
            Dsn::Sqlite(_) if side_schema.is_some() => {
                Err("--side-schema: SQLite has no schemas".to_owned())
            }
            // A wrong name would make an empty database.
            Dsn::Sqlite(path) if !path.exists() => {
                Err(format!("{} does not exist", path.display()))
            }
            Dsn::Sqlite(path) => {
                let store = during("Opening the database", SqliteStore::open(path)).await;
                Ok(Self::Sqlite(store.map_err(|error| {
                    explain("can't open the database", &error)
                })?))
            }
            Dsn::Postgres(url) => {
                let store = during("Connecting to the database", PostgresStore::connect(url)).await;
                let store =
                    store.map_err(|error| explain("can't connect to the database", &error))?;
                Ok(Self::Postgres(match side_schema {
                    Some(schema) => store.with_side_schema(schema),
                    None => store,
                }))
            }
        }
    }

    pub(crate) async fn tables(&self) -> Result<Vec<TableDescription>, String> {
        let reading = async {
            match self {
                Self::Sqlite(store) => store.tables().await,
                Self::Postgres(store) => store.tables().await,
            }
        };
        let tables = during("Reading the schema", reading).await;
        tables.map_err(|error| explain("can't read the schema", &error))
    }

    pub(crate) async fn ddl(&self, collections: &[Collection]) -> Result<String, StoreError> {
        let comparing = async {
            match self {
                Self::Sqlite(store) => store.ddl(collections).await,
                Self::Postgres(store) => store.ddl(collections).await,
            }
        };
        during("Comparing the tables with what fieldsync needs", comparing).await
    }

    /// The statements that remove everything of fieldsync's.
    pub(crate) async fn drop_ddl(&self) -> Result<String, StoreError> {
        match self {
            Self::Sqlite(store) => store.drop_ddl().await,
            Self::Postgres(store) => store.drop_ddl().await,
        }
    }

    pub(crate) fn store_of(self, builder: EngineBuilder) -> EngineBuilder {
        match self {
            Self::Sqlite(store) => builder.store(store),
            Self::Postgres(store) => builder.store(store),
        }
    }
}

/// The error and its causes.
pub(crate) fn explain(what: &str, error: &dyn Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
