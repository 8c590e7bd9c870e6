//! What an engine was told when it was built.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::live::feed::Feed;
use crate::store::store::Retention;

#[derive(Debug)]
pub(crate) struct Settings {
    /// Origins of pages that may open sockets, besides the server's own.
    pub(crate) allowed_origins: Vec<String>,
    /// The plain feed of each collection that has one.
    pub(crate) feeds: BTreeMap<Arc<str>, Feed>,
    /// The most bytes of a request's body.
    pub(crate) max_body: usize,
    /// The most bytes of a message from a client on a socket.
    pub(crate) max_message: usize,
    /// The most subscriptions on one socket.
    pub(crate) max_subscriptions: usize,
    /// How often a socket is told that it is alive, and asked whether it is.
    pub(crate) heartbeat: Duration,
    /// How often the heads of all collections are read, for what the broker lost.
    pub(crate) poll_interval: Duration,
    pub(crate) retention: Retention,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            feeds: BTreeMap::new(),
            max_body: 1024 * 1024,
            max_message: 64 * 1024,
            max_subscriptions: 256,
            heartbeat: Duration::from_secs(15),
            poll_interval: Duration::from_secs(1),
            retention: Retention::default(),
        }
    }
}
