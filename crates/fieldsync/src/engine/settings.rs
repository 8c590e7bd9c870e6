//! The settings of an engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::limits::Limits;
use crate::engine::origins::Origins;
use crate::live::feed::Feed;
use crate::model::cursor_seal::CursorKeys;
use crate::store::store::Retention;

const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
const MAX_HEARTBEAT: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Settings {
    /// Origins of pages that may open sockets, besides the server's own.
    pub(crate) origins: Origins,
    /// The plain feed of each collection that has one.
    pub(crate) feeds: BTreeMap<Arc<str>, Feed>,
    pub(crate) limits: Limits,
    /// How often the server sends a heartbeat on each connection.
    pub(crate) heartbeat: Duration,
    /// How often the heads of all collections are read, to find what the broker has lost.
    pub(crate) poll_interval: Duration,
    pub(crate) retention: Retention,
    /// The keys of cursors: the app's, or once the engine has started that of the store.
    pub(crate) cursor_keys: CursorKeys,
}

impl Settings {
    /// The first setting that can't work, and why.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let faults = [
            (
                !(MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&self.heartbeat),
                "heartbeat must be between 100 ms and 1 hour",
            ),
            (
                self.poll_interval.is_zero(),
                "poll_interval must not be zero",
            ),
        ];
        let fault = faults.into_iter().find(|(is_fault, _)| *is_fault);
        let fault = fault.map(|(_, message)| message);
        fault.or_else(|| self.limits.fault())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            origins: Origins::default(),
            feeds: BTreeMap::new(),
            limits: Limits::default(),
            heartbeat: Duration::from_secs(15),
            poll_interval: Duration::from_secs(1),
            retention: Retention::default(),
            cursor_keys: CursorKeys::default(),
        }
    }
}
