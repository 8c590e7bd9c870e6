//! The examples are in the folders beside this one: `cargo run --example two_windows`.
//!
//! The program in the README is compiled here:
#![doc = include_str!("../../README.md")]

/// The pieces of the guide are compiled here.
#[doc = include_str!("../../docs/guide.md")]
pub mod guide {}

/// What is in `docs/deploy.md` is compiled here.
#[doc = include_str!("../../docs/deploy.md")]
pub mod deploy {}
