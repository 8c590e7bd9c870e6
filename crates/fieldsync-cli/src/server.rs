//! What the servers of both frameworks share: the end, and what pages of other origins may use.

use std::time::Duration;

/// How long a stop waits for requests and WebSockets.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The methods and headers that pages of other origins may use, if the options allow any.
pub(crate) const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"];
pub(crate) const ALLOWED_HEADERS: [&str; 7] = [
    "content-type",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "fieldsync-base",
    "last-event-id",
    "prefer",
];
pub(crate) const EXPOSED_HEADERS: [&str; 6] = [
    "etag",
    "location",
    "link",
    "fieldsync-cursor",
    "retry-after",
    "content-range",
];
