#![doc = include_str!("../README.md")]

mod arguments;

mod progress;

mod database;

// What the database has.
mod tables;

mod check;

mod ddl;

// What `serve` answers.
mod serve;

mod site;

mod server;

mod axum;

mod actix;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};

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
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = match Arguments::parse().command {
        Command::Serve(options) => serve::serve(options).await.map(|()| true),
        Command::Check(options) => check::check(&options).await,
        Command::Ddl(options) => ddl::ddl(&options).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            // As for a wrong command line: 1 is an answer of `check`.
            ExitCode::from(2)
        }
    }
}
