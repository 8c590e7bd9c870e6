//! Serves WebSockets: the opening handshake, and a connection from then until it is closed.
//!
//! `live` supplies the changes, `protocol` the messages and close codes, `http` the refusal of a bad handshake. An adapter
//! crate passes the handshake's headers and the bytes in.

mod connection;
mod counted_io;
mod handshake;
mod heartbeat;
mod message_rate;
mod openings;
mod serve;
mod syncs;

pub use handshake::{Accepted, ExtendedConnect, accept};
pub use serve::serve;
