//! The `Broker` trait, which carries notifications between nodes, the broker inside one process, and the relay between
//! a broker and the engine. Imports `model`.

pub(crate) mod broker;
pub(crate) mod error;
pub(crate) mod local;
pub(crate) mod notification;
pub(crate) mod relay;
