#![doc = include_str!("../README.md")]

mod store;

mod writer;

// What the threads do.
mod prepare;

mod catalog;

mod heads;

mod transaction;

// The threads and their connections.
mod worker;

mod connection;

mod options;

// Translations.
mod dialect;

mod column_types;

mod blame;

mod error;

pub use error::OpenError;
pub use options::{SqliteOptions, Synchronous};
pub use store::SqliteStore;

/// The driver whose version this crate uses. An app that opens the same file itself should use it, too.
pub use rusqlite;
