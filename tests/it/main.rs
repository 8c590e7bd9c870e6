//! Tests of fieldsync through its public interfaces: HTTP, WebSockets and the Rust API, most of them on every store and under
//! every web framework. `tests/README.md` says how to run them, and what letters and numbers in their names mean.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod app;
mod app_code;
#[cfg(feature = "services")]
#[path = "../../crates/fieldsync-postgres/tests/it/cluster.rs"]
mod cluster;
mod cut_snapshots;
mod database;
mod demo;
mod random;
mod random_rights;
#[cfg(feature = "services")]
mod slow_links;
mod slow_queries;
mod slow_rules;
mod socket;
mod tasks;
#[path = "../../examples/third_adapter/adapter.rs"]
mod third_adapter;

mod app_handlers;
mod bad_input;
mod blame;
#[cfg(feature = "services")]
mod brokers;
#[cfg(feature = "services")]
mod browser;
mod capture;
mod captured_model;
#[cfg(feature = "services")]
mod command_line;
mod cursors;
#[cfg(feature = "services")]
mod django;
mod each_limit;
mod event_topics;
mod events;
mod exact_json;
mod existing_table;
mod far_bases;
mod faults;
mod feed;
#[cfg(feature = "services")]
mod guide_page;
mod hidden_data;
mod hooked_store;
mod http;
mod http2;
mod imports;
mod indexes;
mod isolation;
mod layering;
mod leaks;
mod limits;
mod list_queries;
mod live;
mod live_queries;
mod log_secrecy;
#[cfg(feature = "services")]
mod log_size;
mod logged_values;
mod many_topics;
mod many_views;
mod membership;
mod metrics;
mod model;
mod mounting;
mod msrv;
mod probes;
mod promise;
#[cfg(feature = "services")]
mod proxy;
mod record_keys;
mod references;
mod refused_edits;
#[cfg(feature = "services")]
mod reverse_proxies;
mod rules;
mod rules_as_data;
mod rust_api;
mod rust_types;
mod sealed_cursors;
#[cfg(feature = "services")]
mod serve_page;
#[cfg(feature = "services")]
mod servers;
mod size_limits;
mod subscribe_during_writes;
mod timeouts;
#[cfg(feature = "services")]
mod two_people;
mod two_windows;
mod validity;
mod versions;
#[cfg(feature = "services")]
mod wide_records;
mod window_model;
mod windows;
