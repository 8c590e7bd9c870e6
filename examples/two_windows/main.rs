//! Two windows on the same users: the first edits first names, the second last names, and each shows at once what the
//! other does. `cargo run --example two_windows`, then open the two addresses that it prints.

mod options;
mod pages;
mod server;

use std::error::Error;
use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use fieldsync::{Action, Collection, Engine, MemoryStore, StartError};
use fieldsync_postgres::{PostgresBroker, PostgresStore};
use fieldsync_redis::RedisBroker;
use fieldsync_sqlite::SqliteStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::options::{BrokerOption, Options, StoreOption};

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct User {
    #[schemars(length(max = 100))]
    first_name: String,
    #[schemars(length(max = 100))]
    last_name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    // actix has an error in the log for whatever is no request.
    let usual = || "warn,actix_http=off".into();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| usual());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    let engine = start_engine(&options).await?;
    if !options.no_sample_data {
        create_sample_data(&engine)
            .await
            .map_err(|error| explain("The sample data can't be created", &error))?;
    }
    let listen = options.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let what_to_do = "Is another one running? Stop it, or choose another address with --listen 127.0.0.1:8001";
        format!("Can't listen on {listen}: {error}.\n{what_to_do}")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    // Whoever started the program may not read what it says.
    let _ = writeln!(
        stdout(),
        "Window 1: http://{address}/window1/\nWindow 2: http://{address}/window2/"
    );
    server::serve(listener, engine, &options).await
}

async fn start_engine(options: &Options) -> Result<Engine, String> {
    // The demo has no login: everybody may read and write everything.
    let users = Collection::of::<User>("users")
        .timestamps()
        .open_to_everyone();
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
    let builder = match &options.store {
        StoreOption::Memory => builder.store(MemoryStore::new()),
        StoreOption::Postgres(url) => {
            let store = PostgresStore::connect(url).await;
            builder.store(store.map_err(|error| explain("--store", &error))?)
        }
        StoreOption::Sqlite(path) => {
            let store = SqliteStore::open(path).await;
            builder.store(store.map_err(|error| {
                let what_to_do =
                    "Choose another file with --store sqlite:PATH, or none with --store memory:";
                format!(
                    "{}\n{what_to_do}",
                    explain("The users can't be opened", &error)
                )
            })?)
        }
    };
    builder.start().await.map_err(|error| match error {
        StartError::Origin(_) => format!("--allow-origin: {error}"),
        error => explain("The engine can't start", &error),
    })
}

async fn create_sample_data(engine: &Engine) -> Result<(), fieldsync::EngineError> {
    if engine.list::<User>("users", None, 1).await?.is_empty() {
        for (first_name, last_name) in [("John", "Doe"), ("Jane", "Smith")] {
            let user = User {
                first_name: first_name.into(),
                last_name: last_name.into(),
            };
            engine.create("users", user).await?;
        }
    }
    Ok(())
}

/// An error with its causes, in one line.
fn explain(what: &str, error: &dyn Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
