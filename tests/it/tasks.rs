//! Spawned tasks whose panic fails their test at once, and waits that end.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The limit on a wait: far longer than it takes on a machine whose disk is busy.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for a future. Panics, with what was awaited, when that takes longer than `WAIT_TIMEOUT`.
pub(crate) async fn within_limit<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    let done = timeout(WAIT_TIMEOUT, future).await;
    done.unwrap_or_else(|_| panic!("{awaited}: not within {WAIT_TIMEOUT:?}"))
}

/// Tasks of a test. A panic in one of them ends each wait of the test.
#[derive(Clone)]
pub(crate) struct Tasks {
    /// The message of the first panic.
    panicked: Arc<watch::Sender<Option<String>>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            panicked: Arc::new(watch::Sender::new(None)),
        }
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let panicked = Arc::clone(&self.panicked);
        tokio::spawn(async move {
            let done = AssertUnwindSafe(task).catch_unwind().await;
            done.unwrap_or_else(|panic| {
                let message = message_of(&*panic);
                panicked.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(message);
                    is_first
                });
                std::panic::resume_unwind(panic)
            })
        })
    }

    /// Waits for a future within the limit. Panics as soon as a task has panicked.
    pub(crate) async fn wait<T>(&self, awaited: &str, future: impl Future<Output = T>) -> T {
        let mut panicked = self.panicked.subscribe();
        tokio::select! {
            biased;
            message = panicked.wait_for(Option::is_some) => {
                let message = message.unwrap().clone().unwrap_or_default();
                panic!("{awaited}: a task of the test panicked: {message}")
            }
            done = within_limit(awaited, future) => done,
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}

#[tokio::test]
#[should_panic = "a delivery: a task of the test panicked: on purpose"]
async fn a_panic_in_a_task_ends_the_wait_of_its_test() {
    let tasks = Tasks::new();
    tasks.spawn(async { panic!("on purpose") });
    tasks.wait("a delivery", std::future::pending::<()>()).await;
}

#[tokio::test(start_paused = true)]
#[should_panic = "a delivery: not within 60s"]
async fn a_wait_without_end_fails_its_test() {
    within_limit("a delivery", std::future::pending::<()>()).await;
}
