//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

/// Two windows that show the same users: edit a name in one, and see it in the other at once.
#[derive(Debug, Parser)]
#[command(name = "two_windows")]
pub(crate) struct Options {
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,

    /// The web framework.
    #[arg(long, value_enum, default_value = "axum")]
    pub(crate) server: ServerOption,

    /// The store of the users: `sqlite:PATH`, `postgres://USER@HOST/DATABASE`, or `memory:` until the program ends.
    #[arg(long, value_name = "STORE", default_value = "sqlite:two_windows.db")]
    pub(crate) store: StoreOption,

    /// The broker that notifies other nodes on the same store: `redis://HOST:PORT`, or `postgres://USER@HOST/DATABASE` for its
    /// LISTEN and NOTIFY. Without a broker, nodes look for changes once a second.
    #[arg(long, value_name = "BROKER")]
    pub(crate) broker: Option<BrokerOption>,

    /// An origin, such as https://app.example, whose pages may call the API and open the WebSocket. Can be given several
    /// times. Without it, only the two windows may.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,

    /// Give the windows to two people who are signed in: Ada may set first names, Grace last names. The logins are lost when the
    /// program ends.
    #[arg(long)]
    pub(crate) roles: bool,

    /// Do not create John Doe and Jane Smith in a new table. A table that exists is never filled.
    #[arg(long)]
    pub(crate) no_sample_data: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ServerOption {
    Axum,
    Actix,
}

#[derive(Debug, Clone)]
pub(crate) enum StoreOption {
    Sqlite(PathBuf),
    Postgres(String),
    Memory,
}

impl FromStr for StoreOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some(("memory", "")) => Ok(Self::Memory),
            _ => Err("expected sqlite:PATH, postgres://USER@HOST/DATABASE, or memory:".into()),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum BrokerOption {
    Redis(String),
    Postgres(String),
}

impl FromStr for BrokerOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some((scheme, _)) if scheme.starts_with("redis") => Ok(Self::Redis(text.to_owned())),
            _ => Err("expected redis://HOST:PORT or postgres://USER@HOST/DATABASE".into()),
        }
    }
}
