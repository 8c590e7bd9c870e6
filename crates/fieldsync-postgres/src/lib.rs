#![doc = include_str!("../README.md")]

mod store;

// How the way of a write is gone.
mod pipeline;
mod writer;

// What it reads and writes.
mod prepare;
mod table;

// Of which they are made.
mod columns;
mod error;
mod keys;
mod log;

pub use store::{ConnectError, PostgresStore};
