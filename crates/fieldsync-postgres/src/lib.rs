#![doc = include_str!("../README.md")]

mod store;

mod broker;

// How the way of a write is gone.
mod fate;
mod pipeline;
mod steps;
mod writer;

// What it reads and writes.
mod prepare;
mod table;

// How the database is reached.
mod address;
mod connection;
mod tls;

// Of which they are made.
mod columns;
mod error;
mod keys;
mod log;
mod time;

pub use broker::PostgresBroker;
pub use error::ConnectError;
pub use store::PostgresStore;
