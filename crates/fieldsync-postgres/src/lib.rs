#![doc = include_str!("../README.md")]

mod store;

mod broker;

// The write path.
mod writer;

mod read_set;

mod captured;

mod row_writes;

mod blame;

mod effects;

mod statement_groups;

mod commit_status;

// Changes that others make.
mod log_captured;

mod logged_errors;

mod doorbell;

mod capture;

mod capture_ddl;

mod capture_state;

// What it reads and writes.
mod prepare;

mod unfit;

mod catalog;

mod introspection;
mod left_behind;

mod oids;

mod privileges;

mod list_statement;
mod log;

mod trim;

// How statements are sent.
mod pipeline;

mod value;

mod time;

// How the database is reached.
mod connection;

mod address;

mod pooler;

mod tls;

// Translations.
mod dialect;

mod side_statements;

mod column_types;

mod exact_json;

mod error;

pub use broker::PostgresBroker;
pub use error::ConnectError;
pub use store::PostgresStore;

/// The pool that [`PostgresStore::with_pool`] takes.
pub use deadpool_postgres;
