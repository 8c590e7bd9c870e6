//! fieldsync as its users meet it: over HTTP, over WebSockets, and by its Rust API; each case on every adapter and
//! store. Names begin with the letter of the promise that they show, where they show one.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod app;
#[cfg(feature = "services")]
#[path = "../../crates/fieldsync-postgres/tests/it/cluster.rs"]
mod cluster;
mod demo;
mod socket;
#[path = "../../examples/third_adapter/adapter.rs"]
mod third_adapter;

mod bad_input;
#[cfg(feature = "services")]
mod brokers;
#[cfg(feature = "services")]
mod browser;
mod events;
mod existing_table;
mod faults;
mod feed;
mod hidden_data;
mod http;
mod imports;
mod layering;
mod live;
mod model;
#[cfg(feature = "services")]
mod nginx;
mod promise;
#[cfg(feature = "services")]
mod proxy;
mod rules;
mod rust_api;
#[cfg(feature = "services")]
mod servers;
mod subscribe_during_writes;
mod timeouts;
mod two_windows;
mod versions;
