//! The contract of a broker, one within the process, and the relay between a broker and the engine.

pub(crate) mod broker;
pub(crate) mod error;
pub(crate) mod local;
pub(crate) mod notification;
pub(crate) mod relay;
