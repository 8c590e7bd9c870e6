#![doc = include_str!("../README.md")]

mod live;
mod request;
mod rest;
mod socket;

pub use live::live;
pub use rest::rest;
