//! Runs a test and the tasks that it spawns. A panic in a task fails the test at once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The time limit of a test: far longer than any test takes on a machine with a busy disk.
const TEST_TIMEOUT: Duration = Duration::from_secs(300);

tokio::task_local! {
    /// Receives the messages of panics in the tasks of a test.
    static PANICS: mpsc::UnboundedSender<String>;
}

/// Runs a test on its own runtime. A test that hangs fails.
#[doc(hidden)]
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system can start a runtime");
    let (sender, mut panics) = mpsc::unbounded_channel();
    runtime.block_on(async {
        tokio::select! {
            biased;
            Some(message) = panics.recv() => panic!("a task of the test panicked: {message}"),
            done = timeout(TEST_TIMEOUT, PANICS.scope(sender, test)) => {
                assert!(done.is_ok(), "the test did not end within {TEST_TIMEOUT:?}");
            }
        }
    });
}

/// Spawns a task of a test.
pub(super) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let panics = PANICS.with(Clone::clone);
    tokio::spawn(async move {
        let done = AssertUnwindSafe(task).catch_unwind().await;
        done.unwrap_or_else(|panic| {
            // The test may have ended already.
            let _ = panics.send(message_of(&*panic));
            resume_unwind(panic)
        })
    })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic = "a task of the test panicked: on purpose"]
    fn a_panic_in_a_task_fails_a_test_that_waits_for_something_else() {
        run(async {
            spawn(async { panic!("on purpose") });
            std::future::pending::<()>().await;
        });
    }
}
