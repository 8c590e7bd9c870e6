//! The contract of a store, and one in memory. Imports `write` and the layers before it.

pub(crate) mod error;
pub(crate) mod memory;
pub(crate) mod memory_log;
pub(crate) mod memory_table;
pub(crate) mod reading;
pub(crate) mod store;
