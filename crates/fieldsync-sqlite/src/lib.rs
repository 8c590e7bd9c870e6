#![doc = include_str!("../README.md")]

mod options;
mod store;

mod worker;

mod writer;

mod table;

mod rows;

mod log;

mod error;

pub use options::{SqliteOptions, Synchronous};
pub use store::SqliteStore;
