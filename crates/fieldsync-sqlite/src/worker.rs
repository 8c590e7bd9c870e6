//! Threads that run jobs, so that no async runtime waits for a disk. Independent of SQLite.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use fieldsync::backend::StoreError;
use tokio::sync::{mpsc, oneshot};

/// The most jobs in the queue. A caller with another job waits until there is room.
const MAX_QUEUED: usize = 256;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Threads with one state each and a common queue. They end when this is dropped and the queue is empty.
pub(crate) struct Workers<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S: Send + 'static> Workers<S> {
    /// Starts a thread for each state.
    pub(crate) fn start(name: &str, states: impl IntoIterator<Item = S>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(MAX_QUEUED);
        let waiting = Arc::new(Mutex::new(waiting));
        for state in states {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&waiting, state))?;
        }
        Ok(Self { jobs })
    }

    /// Runs a job on one of the threads. Dropping the future cancels a job that has not begun.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            if !answer.is_closed() {
                // The caller may have gone away meanwhile.
                let _ = answer.send(job(state));
            }
        });
        let gone = || StoreError::Backend("the database thread panicked".into());
        self.jobs.send(job).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn work<S>(waiting: &Mutex<mpsc::Receiver<Job<S>>>, mut state: S) {
    loop {
        // One thread waits for the queue; the others wait for the lock.
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(job) = next else { return };
        // A job that panics fails alone: dropping its transaction has rolled it back.
        let _ = catch_unwind(AssertUnwindSafe(|| job(&mut state)));
    }
}

impl<S> fmt::Debug for Workers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn threads_end_when_they_are_dropped() {
        let alive = Arc::new(());
        let workers = Workers::start("test", (0..3).map(|_| Arc::clone(&alive))).unwrap();
        workers.call(|_| Ok(())).await.unwrap();
        assert_eq!(Arc::strong_count(&alive), 4);
        drop(workers);
        let ended = async {
            while Arc::strong_count(&alive) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended)
            .await
            .expect("the threads end");
    }

    #[tokio::test]
    async fn a_job_that_panics_fails_alone() {
        let workers = Workers::start("test", [0]).unwrap();
        let failed = workers.call(|_| -> Result<(), _> { panic!("on purpose") });
        assert!(matches!(failed.await, Err(StoreError::Backend(_))));
        let next = workers.call(|state| {
            *state += 1;
            Ok(*state)
        });
        assert_eq!(next.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_job_whose_future_is_dropped_before_it_begins_does_not_run() {
        let workers = Workers::start("test", [Vec::new()]).unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = workers.call(move |_| {
            let _ = wait.recv();
            Ok(())
        });
        let second = workers.call(|done: &mut Vec<i32>| {
            done.push(2);
            Ok(())
        });
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        tokio::select! {
            biased;
            _ = &mut first => unreachable!("the job waits"),
            _ = &mut second => unreachable!("the job waits behind the first"),
            () = tokio::task::yield_now() => {}
        }
        drop(second);
        go.send(()).unwrap();
        first.await.unwrap();
        let done = workers.call(|done| Ok(done.clone())).await.unwrap();
        assert!(done.is_empty());
    }
}
