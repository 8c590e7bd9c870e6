#![doc = include_str!("../README.md")]

mod options;
mod store;

// How the threads work.
mod connection;
mod worker;

// What they do.
mod log;
mod prepare;
mod rows;
mod table;
mod writer;

mod columns;
mod error;

pub use options::{OpenError, SqliteOptions, Synchronous};
pub use store::SqliteStore;
