//! Threads that own a connection each: SQLite blocks, the async runtime must not.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fieldsync::StoreError;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use crate::error::sort;
use crate::options::{SqliteOptions, Synchronous};

/// So many jobs may wait for a thread; who brings more waits to be let in.
const WAITING_JOBS: usize = 1024;
/// So many prepared statements a connection keeps.
const STATEMENTS: usize = 256;

/// A job and, in its hands, the connection; whether the connection can still be trusted after it.
type Job = Box<dyn FnOnce(Result<&mut Connection, StoreError>) -> Trust + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Kept,
    Lost,
}

/// Some threads that take jobs from one queue. They end when this is dropped and the queue is empty.
#[derive(Debug)]
pub(crate) struct Workers {
    jobs: mpsc::Sender<Job>,
}

impl Workers {
    /// Starts threads that open a connection each, once the first job comes.
    pub(crate) fn start(name: &str, count: usize, path: &Path, options: &SqliteOptions) -> Self {
        let (jobs, waiting) = mpsc::channel::<Job>(WAITING_JOBS);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..count {
            let (waiting, path, options) = (Arc::clone(&waiting), path.to_owned(), options.clone());
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            thread
                .spawn(move || work(&waiting, &path, &options))
                .expect("the system has a thread to give");
        }
        Self { jobs }
    }

    /// Does something with a connection, on a thread. It is done also when the future is dropped.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.and_then(job);
            // After an error of the disk SQLite's handle goes on as if nothing was: it is opened anew.
            let trust = if result.is_err() {
                Trust::Lost
            } else {
                Trust::Kept
            };
            // Whoever asked may be gone.
            let _ = answer.send(result);
            trust
        });
        let gone = || StoreError::Backend("the threads of the database are gone".into());
        self.jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Job>>, path: &Path, options: &SqliteOptions) {
    let mut connection = None;
    loop {
        let job = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(job) = job else { return };
        PATIENCE.set(Instant::now() + options.busy_timeout);
        let opened = match &mut connection {
            Some(connection) => Ok(connection),
            None => connect(path, options).map(|opened| connection.insert(opened)),
        };
        if job(opened) == Trust::Lost {
            connection = None;
        }
    }
}

thread_local! {
    /// Until when the job in hand waits for other processes.
    static PATIENCE: Cell<Instant> = Cell::new(Instant::now());
}

/// Asks for the lock again soon. SQLite's own handler waits up to 100 ms between two tries, and so may never get
/// its turn beside a process that writes all the time.
fn wait_for_others(_tries: i32) -> bool {
    std::thread::sleep(Duration::from_micros(fastrand::u64(200..2000)));
    Instant::now() < PATIENCE.get()
}

fn connect(path: &Path, options: &SqliteOptions) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_handler(Some(wait_for_others))?;
        // Another process may be switching at this moment, and then it is WAL already.
        let mode: String =
            connection.query_row("pragma journal_mode = wal", [], |row| row.get(0))?;
        let synchronous = match options.synchronous {
            Synchronous::Full => "pragma synchronous = full",
            Synchronous::Normal => "pragma synchronous = normal",
        };
        connection.execute_batch(synchronous)?;
        connection.execute_batch("pragma foreign_keys = on")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        tracing::debug!(%mode, "opened a connection to SQLite");
        Ok(connection)
    };
    open().map_err(sort)
}
