//! Results, and waits that end.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use tokio::time::timeout;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The limit on each wait: far longer than anything here takes on a slow machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for a future, and returns an error that says what was awaited when that takes longer than `WAIT_TIMEOUT`.
pub(crate) async fn within_limit<T>(
    awaited: impl Display,
    future: impl Future<Output = T>,
) -> Result<T> {
    timeout(WAIT_TIMEOUT, future)
        .await
        .map_err(|_| format!("{awaited}: not within {} s", WAIT_TIMEOUT.as_secs()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_without_end_is_an_error_that_says_what_was_missing() {
        let error = within_limit("a reply", std::future::pending::<()>()).await;
        let error = error.expect_err("it never ends").to_string();
        assert_eq!(error, "a reply: not within 60 s");
    }
}
