//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::database::Dsn;

/// Serves the tables of an existing database live.
#[derive(Debug, Parser)]
#[command(name = "fieldsync", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves every table as a live collection, with a page that shows and edits them.
    #[command(after_help = "Examples:\n  \
        fieldsync serve sqlite:app.db --capture\n  \
        fieldsync serve postgres://user@localhost/app --without-capture --table public.film --table public.actor")]
    Serve(ServeOptions),
    /// Says which tables and columns can be served, and why the others can't. Exits with 1 if something can't be served, and
    /// with 2 if the database can't be read.
    #[command(
        after_help = "Examples:\n  fieldsync check sqlite:app.db\n  fieldsync check postgres://user@localhost/app --json"
    )]
    Check(CheckOptions),
    /// Prints the SQL that fieldsync would run on the database.
    #[command(
        after_help = "Examples:\n  fieldsync ddl sqlite:app.db --capture\n  fieldsync ddl postgres://user@localhost/app --drop"
    )]
    Ddl(DdlOptions),
}

/// Which tables.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// The database: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`.
    #[arg(value_name = "DSN")]
    pub(crate) dsn: Dsn,

    /// The tables of this schema. Can be given several times. By default `public`.
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Vec<String>,

    /// Only this table, with or without its schema. Can be given several times.
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Vec<String>,

    /// The schema of fieldsync's own tables.
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) side_schema: Option<String>,
}

/// What becomes of changes that others make.
#[derive(Debug, Args)]
pub(crate) struct CaptureChoice {
    /// Announce every change, also those of other programs and of the database itself: creates triggers on the tables.
    #[arg(long, conflicts_with = "without_capture")]
    pub(crate) capture: bool,

    /// Announce only what is edited through fieldsync, and leave the tables as they are.
    #[arg(long)]
    pub(crate) without_capture: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) selection: Selection,

    #[command(flatten)]
    pub(crate) capture: CaptureChoice,

    /// The address to listen on, such as `localhost:8000`.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) listen: String,

    /// The web framework.
    #[arg(long, value_enum, default_value = "axum")]
    pub(crate) server: ServerOption,

    /// The broker that notifies other nodes: `redis://HOST:PORT`, or `postgres://USER@HOST/DATABASE`.
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,

    /// Refuse every edit.
    #[arg(long)]
    pub(crate) read_only: bool,

    /// An origin, such as `https://app.example`, whose pages may call the API and open the WebSocket. Can be given several times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,

    /// A name under which clients reach the server, besides those of the loopback. Can be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,

    /// Listen on an address that others can reach. There is no login: everyone may read and write everything.
    #[arg(long)]
    pub(crate) open_to_everyone: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    pub(crate) selection: Selection,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DdlOptions {
    #[command(flatten)]
    pub(crate) selection: Selection,

    #[command(flatten)]
    pub(crate) capture: CaptureChoice,

    /// Print the SQL that removes everything of fieldsync's.
    #[arg(long, conflicts_with_all = ["capture", "without_capture"])]
    pub(crate) drop: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerOption {
    Axum,
    Actix,
}

impl CaptureChoice {
    /// Whether changes of others are captured.
    pub(crate) fn is_on(&self) -> Result<bool, String> {
        if self.capture || self.without_capture {
            return Ok(self.capture);
        }
        Err("choose what becomes of changes that others make:\n  \
             --capture          announces every change, also those of other programs and of the database itself; it creates \
             triggers on the tables, and `fieldsync ddl DSN --drop` prints what removes them\n  \
             --without-capture  announces only what is edited through fieldsync, and leaves the tables as they are"
            .to_owned())
    }
}
