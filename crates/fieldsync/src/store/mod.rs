//! The `Store` trait, which each database implements, and the in-memory store. Imports `write` and the layers before
//! it.

pub(crate) mod error;
pub(crate) mod from_table;
pub(crate) mod listing;
pub(crate) mod memory;
pub(crate) mod memory_log;
pub(crate) mod memory_state;
pub(crate) mod memory_table;
pub(crate) mod page;
pub(crate) mod read_changes;
pub(crate) mod store;
