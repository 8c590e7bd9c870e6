//! Tasks that run beside a test. A panic in one of them fails the test at once, whatever the test waits for.

use futures_util::future::join_all;
use tokio::task::JoinHandle;

/// Waits for a task. Await this together with what depends on the task, with `tokio::join!`.
///
/// # Panics
/// If the task panicked.
pub(super) async fn finished<T>(task: JoinHandle<T>) -> T {
    task.await.expect("a task of the test panicked")
}

/// Waits for several tasks.
///
/// # Panics
/// As soon as one of them panicked.
pub(super) async fn all_finished<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    join_all(tasks.into_iter().map(finished)).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    #[should_panic(expected = "a task of the test panicked")]
    async fn a_panic_in_a_task_ends_what_waits_for_it() {
        let panicking = tokio::spawn(async { panic!("on purpose") });
        let endless = tokio::spawn(std::future::pending::<()>());
        let both = all_finished([panicking, endless]);
        let waited = tokio::time::timeout(Duration::from_secs(10), both).await;
        assert!(waited.is_ok(), "the test hangs");
    }
}
