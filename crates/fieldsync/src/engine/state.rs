//! What an app and its probes can ask of a running engine: its numbers, and whether it can serve.

use crate::engine::engine::Engine;
use crate::engine::gauges::Stats;
use crate::engine::readiness::{NotReady, ask};
use crate::error::EngineError;
use crate::store::error::StoreError;

impl Engine {
    /// The state of the engine in numbers, as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.gauges().read(self.subscriber_reads().count())
    }

    /// Asks the store for the heads of its logs, as each edit does, for at most two seconds.
    ///
    /// # Errors
    /// Why the engine can't serve: it is stopping, or the store can't be reached.
    pub async fn health(&self) -> Result<(), EngineError> {
        self.check_ready()?;
        let slow = || StoreError::Unavailable("the store did not answer within two seconds".into());
        let asked = ask(&**self.store()).await;
        Ok(asked.map_err(|error| error.unwrap_or_else(slow))?)
    }

    /// Whether the process can serve. A check that was made a moment ago counts.
    pub(crate) async fn readiness(&self) -> Result<(), NotReady> {
        self.liveness()?;
        if !self.is_ready() {
            return Err(NotReady::Draining);
        }
        self.last_check().check(&**self.store()).await
    }
}
