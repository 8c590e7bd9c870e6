#![doc = include_str!("../README.md")]

mod rest;

mod live;

mod principal;

mod error;

pub use error::Error;
pub use live::live;
pub use principal::Principal;
pub use rest::{not_found, rest};
