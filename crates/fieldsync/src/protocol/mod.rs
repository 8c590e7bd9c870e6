//! The messages of `fieldsync.v1`: what is sent, whatever carries it. `http` and `websocket` carry it.

pub(crate) mod message_stream;
pub(crate) mod messages;
pub(crate) mod problem;
