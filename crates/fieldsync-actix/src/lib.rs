#![doc = include_str!("../README.md")]

mod rest;

mod live;

mod principal;

mod error;

mod limit_writes;

mod probes;

// actix has the types of an older `http`, and no upgrades.

mod translate;

mod socket;

mod run;

pub use error::Error;
pub use limit_writes::limit_writes;
pub use live::live;
pub use principal::Principal;
pub use probes::{healthz, readyz};
pub use rest::{Rest, events, not_found, rest};
pub use run::run;
