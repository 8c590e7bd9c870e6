//! What is refused, as bytes on the wire: each row of a table is an input and the one answer to it. The numbers are those
//! of the cases that such systems are known to get wrong: H for HTTP, W for WebSockets. Each case runs on every server and
//! store; `twins.rs` sends every row to both frameworks and compares the answers; `server.rs` has what they refuse before any
//! handler, with a column for each.
//!
//! Rows that need more than one request are tests of their own: H26 and H31 in `rules.rs`, H38 to H40 in `http.rs`, H41 in
//! the stores' conformance, H45 and W22 in `live.rs` and `events.rs`, H47 in `faults/`, W24 in `frames.rs`, W31 and W32 in
//! `patience.rs`, W33 and W34 in `faults/stop.rs`, W35 in `rules.rs`.

mod frames;
mod handshakes;
mod requests;
mod server;
mod twins;
mod wire;
