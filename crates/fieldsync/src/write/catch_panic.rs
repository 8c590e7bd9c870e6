//! Runs the app's own code: closures, checks and row filters.

use std::panic::AssertUnwindSafe;

use crate::model::refusal::Refusal;

/// Runs the app's code. A panic there refuses the edit instead of ending the task that commits.
pub(crate) fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, Refusal> {
    std::panic::catch_unwind(AssertUnwindSafe(code)).map_err(|_| Refusal::AppPanicked)
}
