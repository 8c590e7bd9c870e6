//! Whether the store answers, for the probes of load balancers and orchestrators.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::store::error::StoreError;
use crate::store::store::Store;

/// How long a check waits for the store.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the result of a check answers further probes. However many there are, the store is asked twice a second.
const MAX_AGE: Duration = Duration::from_millis(500);

/// Why an engine can't serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// The runtime on which the engine was started has ended.
    Stopped,
    Draining,
    StoreSilent,
    StoreUnavailable,
    StoreFailed,
    /// The tables no longer fit, or some are missing.
    Tables,
}

/// The last check of the store.
#[derive(Debug)]
pub(crate) struct Readiness {
    asking: Semaphore,
    last: Mutex<Option<(Instant, Result<(), NotReady>)>>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Self {
            asking: Semaphore::new(1),
            last: Mutex::new(None),
        }
    }

    /// Asks the store, or takes the result of a check that was made a moment ago. Those who come while one is asking wait for its
    /// result.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<(), NotReady> {
        let Ok(permit) = timeout(CHECK_TIMEOUT, self.asking.acquire()).await else {
            return Err(NotReady::StoreSilent);
        };
        let _permit = permit.expect("the semaphore is never closed");
        if let Some(result) = self.recent() {
            return result;
        }
        let asked = ask(store).await.map_err(|error| match error {
            None => NotReady::StoreSilent,
            Some(StoreError::Unavailable(_)) => NotReady::StoreUnavailable,
            Some(StoreError::Schema(_) | StoreError::NotPrepared { .. }) => NotReady::Tables,
            Some(StoreError::Backend(_) | StoreError::Unordered(_)) => NotReady::StoreFailed,
        });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), asked));
        asked
    }

    fn recent(&self) -> Option<Result<(), NotReady>> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, result) = last?;
        (at.elapsed() < MAX_AGE).then_some(result)
    }
}

/// Asks the store for the heads of its logs, as each edit does. `None` is a store that does not answer.
pub(crate) async fn ask(store: &dyn Store) -> Result<(), Option<StoreError>> {
    match timeout(CHECK_TIMEOUT, store.heads()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Some(error)),
        Err(_) => Err(None),
    }
}
