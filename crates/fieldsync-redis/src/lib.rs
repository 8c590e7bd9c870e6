#![doc = include_str!("../README.md")]

mod broker;

mod listener;

mod message;

pub use broker::RedisBroker;
