//! What is the adapter's own business, on a real `HttpServer`. What every adapter does is in the workspace's `tests`.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod app;
mod raw;

mod http;
mod live;
mod patience;
