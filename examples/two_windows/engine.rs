//! Starts the engine: its store, its broker, and the messages of its plain feed.

use std::error::Error;

use fieldsync::{Action, Collection, Engine, MemoryStore, StartError};
use fieldsync_postgres::{PostgresBroker, PostgresStore};
use fieldsync_redis::RedisBroker;
use fieldsync_sqlite::SqliteStore;
use serde_json::json;

use crate::logins;
use crate::options::{BrokerOption, Options, StoreOption};

/// Starts an engine with this collection of users. Returns also whether that created their table.
pub(crate) async fn start(options: &Options, users: Collection) -> Result<(Engine, bool), String> {
    let users = if options.roles {
        users.authorize_fn(logins::rule)
    } else {
        // Without logins everyone may read and write everything.
        users.open_to_everyone()
    };
    let all = [users.clone()];
    // An existing table is another app's.
    let creates_table = |sql: Result<String, _>| {
        let sql = sql.map_err(|error| explain("the engine can't start", &error))?;
        let mut lines = sql.lines();
        Ok::<_, String>(
            lines.any(|line| line.starts_with("create table ") && line.ends_with("\"users\" (")),
        )
    };
    let mut builder = Engine::builder().collection(users).feed("users", |change| {
        match change.action {
            Action::Delete => {
                json!({"type": "user_update", "data": {"action": "delete", "user_id": change.id}})
            }
            action => {
                json!({"type": "user_update", "data": {"action": action, "user": change.record}})
            }
        }
    });
    for origin in &options.allow_origin {
        builder = builder.allow_origin(origin);
    }
    match &options.broker {
        None => {}
        Some(BrokerOption::Redis(url)) => {
            let broker = RedisBroker::connect(url).await;
            builder = builder.broker(broker.map_err(|error| explain("--broker", &error))?);
        }
        Some(BrokerOption::Postgres(url)) => {
            let broker = PostgresBroker::connect(url).await;
            builder = builder.broker(broker.map_err(|error| explain("--broker", &error))?);
        }
    }
    let (builder, is_new) = match &options.store {
        StoreOption::Memory => (builder.store(MemoryStore::new()), true),
        StoreOption::Postgres(url) => {
            let store = PostgresStore::connect(url).await;
            let store = store.map_err(|error| explain("--store", &error))?;
            let is_new = creates_table(store.ddl(&all).await)?;
            (builder.store(store), is_new)
        }
        StoreOption::Sqlite(path) => {
            let store = SqliteStore::open(path).await;
            let store = store.map_err(|error| {
                let what_to_do =
                    "Name another file with --store sqlite:PATH, or use --store memory:";
                format!("{}\n{what_to_do}", explain("--store", &error))
            })?;
            let is_new = creates_table(store.ddl(&all).await)?;
            (builder.store(store), is_new)
        }
    };
    let engine = builder.start().await.map_err(|error| match error {
        StartError::Origin(_) => format!("--allow-origin: {error}"),
        error => explain("the engine can't start", &error),
    })?;
    Ok((engine, is_new))
}

/// The error and its causes, in one line.
pub(crate) fn explain(what: &str, error: &dyn Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
