//! The examples are in the folders beside this one: `cargo run --example two_windows`.
//!
//! The program in the README is compiled here:
#![doc = include_str!("../../README.md")]
