//! The examples are in the folders next to this one: `cargo run --example two_windows`.
//!
//! This crate compiles the code in the README, the guide and `docs/deploy.md`.
#![doc = include_str!("../../README.md")]

/// Compiles the code in `docs/guide.md`.
#[doc = include_str!("../../docs/guide.md")]
pub mod guide {}

/// Compiles the code in `docs/deploy.md`.
#[doc = include_str!("../../docs/deploy.md")]
pub mod deploy {}

/// Compiles the code in `docs/metrics.md`.
#[doc = include_str!("../../docs/metrics.md")]
pub mod metrics {}
