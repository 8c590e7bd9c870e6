//! The PostgreSQL store and broker, with a real PostgreSQL.

#![cfg(feature = "services")]
#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod changes;
mod cluster;

mod capture;
mod capture_repair;
mod conformance;
mod ddl;
mod faults;
mod ids;
mod odd_databases;
mod poolers;
mod side_effects;
mod tls;
mod types;
