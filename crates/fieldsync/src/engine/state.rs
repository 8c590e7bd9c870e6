//! What an app can ask of a running engine: its numbers.

use crate::engine::engine::Engine;
use crate::engine::gauges::Stats;

impl Engine {
    /// The state of the engine in numbers, as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.gauges().read()
    }
}
