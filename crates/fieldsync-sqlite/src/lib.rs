#![doc = include_str!("../README.md")]

mod options;
mod store;

// How the threads work.
mod connection;
mod worker;

// What they do.
mod prepare;
mod table;
mod writer;

// Of which they are made.
mod columns;
mod error;
mod keys;
mod log;
mod rows;

pub use options::{OpenError, SqliteOptions, Synchronous};
pub use store::SqliteStore;
