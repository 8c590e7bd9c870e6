//! WebSockets: the opening handshake and one connection's life. The messages are those of `protocol`.

pub(crate) mod connection;
pub(crate) mod counted_io;
pub(crate) mod handshake;
