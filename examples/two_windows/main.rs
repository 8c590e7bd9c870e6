//! Two windows on the same users: the first edits first names, the second last names, and each shows the edits of the other
//! at once. `cargo run --example two_windows`, then open the two addresses that it prints.

mod engine;
mod logins;
mod options;
mod pages;
mod server;

use std::process::ExitCode;

use clap::Parser as _;
use fieldsync::{Collection, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::options::Options;

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
    // actix logs an error for each malformed request, which any client can send.
    let default = || "warn,actix_http=off".into();
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
    // Below this, the driver logs statements with the values of records.
    let driver = "tokio_postgres=info".parse();
    let filter = filter.add_directive(driver.expect("the directive is valid"));
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
    let users = Collection::of::<User>("users").timestamps().capture();
    let (engine, is_new) = engine::start(&options, users).await?;
    if is_new && !options.no_sample_data {
        create_sample_data(&engine).await.map_err(|error| {
            engine::explain(
                "can't create the sample data (--no-sample-data leaves it out)",
                &error,
            )
        })?;
    }
    server::serve(engine, &options).await
}

async fn create_sample_data(engine: &Engine) -> Result<(), fieldsync::EngineError> {
    for (first_name, last_name) in [("John", "Doe"), ("Jane", "Smith")] {
        let user = User {
            first_name: first_name.into(),
            last_name: last_name.into(),
        };
        engine.collection("users").create(user).await?;
    }
    Ok(())
}
