//! What only this adapter does, on a real `HttpServer`. The workspace's `tests` has what every adapter does.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod app;
mod raw;

mod http;
mod live;
mod slow_clients;
