#![doc = include_str!("../README.md")]

mod broker;

mod subscription;

pub use broker::RedisBroker;
pub use redis;
