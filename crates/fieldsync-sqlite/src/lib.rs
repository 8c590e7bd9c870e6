#![doc = include_str!("../README.md")]

mod store;

mod writer;

// What the threads do.
mod prepare;

mod catalog;

mod introspection;

mod bare_sql;

mod heads;

mod transaction;

mod values;

// Capture: the triggers, and what they noted.
mod app_transaction;

mod drain;

mod captured;

mod capture_setup;

mod capture;

mod triggers;

mod unique_indexes;

mod replaced_nulls;

// The threads and their connections.
mod worker;

mod connection;

mod options;

// Translations.
mod dialect;

mod column_types;

mod time_form;

mod blame;

mod error;

pub use error::OpenError;
pub use options::{SqliteOptions, Synchronous};
pub use store::SqliteStore;

/// The driver whose version this crate uses. An app that opens the same file itself should use it, too.
pub use rusqlite;
