#![doc = include_str!("../README.md")]

mod rest;

mod live;

mod principal;

mod error;

mod limit_writes;

mod probes;

pub use error::Error;
pub use limit_writes::limit_writes;
pub use live::live;
pub use principal::Principal;
pub use probes::{healthz, readyz};
pub use rest::{events, not_found, rest};
