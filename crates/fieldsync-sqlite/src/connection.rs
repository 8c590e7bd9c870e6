//! One thread's connection: how it is opened, when it is reopened, and how long it waits for locks.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fieldsync::backend::{Position, StoreError};
use rusqlite::{Connection, OpenFlags};

use crate::capture::KnownCapture;
use crate::error::{Failure, OpenError, is_busy};
use crate::options::SqliteOptions;

/// The prepared statements that a connection keeps: more than most apps have, so that few are prepared twice.
const MAX_STATEMENTS: usize = 256;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
}

/// One thread's connection to the database, opened on demand.
#[derive(Debug)]
pub(crate) struct Session {
    path: Arc<PathBuf>,
    options: SqliteOptions,
    role: Role,
    open: Option<Open>,
}

/// An open connection, and what was read on it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) connection: Connection,
    pub(crate) heads: Option<KnownHeads>,
    /// What the file was when it was opened as one that nobody changes.
    unchanging: Option<FileVersion>,
    pub(crate) capture: Option<KnownCapture>,
}

/// The heads of the logs, and the version of the data in which they were read.
#[derive(Debug)]
pub(crate) struct KnownHeads {
    pub(crate) version: i64,
    pub(crate) heads: Vec<(Arc<str>, Position)>,
}

/// Tells whether a file has changed, or is about to.
#[derive(Debug, PartialEq, Eq)]
struct FileVersion {
    modified: SystemTime,
    length: u64,
}

impl FileVersion {
    /// `None` if someone has the file open for writing.
    fn of(path: &Path) -> Option<Self> {
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let file = path.metadata().ok()?;
        let version = Self {
            modified: file.modified().ok()?,
            length: file.len(),
        };
        (!Path::new(&wal).exists()).then_some(version)
    }
}

impl Open {
    fn is_current(&self, path: &Path) -> bool {
        match &self.unchanging {
            Some(version) => FileVersion::of(path).as_ref() == Some(version),
            None => true,
        }
    }
}

impl Session {
    pub(crate) fn writer(path: &Path, options: SqliteOptions) -> Self {
        Self {
            path: Arc::new(path.to_owned()),
            options,
            role: Role::Writer,
            open: None,
        }
    }

    /// Another thread's session, for reads of the same database.
    pub(crate) fn reader(&self) -> Self {
        Self {
            path: Arc::clone(&self.path),
            options: self.options.clone(),
            role: Role::Reader,
            open: None,
        }
    }

    /// Opens the database for the first time. Creates the file if it does not exist.
    pub(crate) fn create(&mut self) -> Result<(), OpenError> {
        self.wait_for_locks_until(None);
        match self.connect(OpenFlags::SQLITE_OPEN_CREATE) {
            Ok(open) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) => Err(OpenError::explain(&self.path, error)),
        }
    }

    /// Runs work on the connection. It waits for locks until the deadline, but no longer than the busy timeout.
    pub(crate) fn with<T>(
        &mut self,
        deadline: Option<Instant>,
        work: impl FnOnce(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.wait_for_locks_until(deadline);
        // Taken out, so that the connection is closed if the work panics.
        let mut open = match self.open.take() {
            Some(open) if open.is_current(&self.path) => open,
            _ => self.connect(OpenFlags::empty()).map_err(Failure::from)?,
        };
        match work(&mut open) {
            Ok(done) => {
                self.open = Some(open);
                Ok(done)
            }
            Err(failure) => {
                // After a failed write to the disk, SQLite's handle goes on with what it has in memory. A new handle reads
                // what the disk has.
                if !failure.is_broken() {
                    self.open = Some(open);
                }
                Err(failure.into())
            }
        }
    }

    /// Sets until when this thread's connection waits for locks.
    fn wait_for_locks_until(&self, deadline: Option<Instant>) {
        let now = Instant::now();
        let busy = now
            .checked_add(self.options.busy_timeout)
            .unwrap_or(now + ONE_YEAR);
        LOCK_DEADLINE.set(deadline.map_or(busy, |deadline| deadline.min(busy)));
    }

    fn connect(&self, more: OpenFlags) -> rusqlite::Result<Open> {
        // Only one thread uses the connection, so SQLite's mutex is not needed.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
        let mut connection = Connection::open_with_flags(self.path.as_path(), flags)?;
        let mut unchanging = None;
        // SQLite opens a file that may not be written for reading.
        let is_read_only = connection.is_readonly("main")?;
        if is_read_only && let Some((reader, version)) = self.read_only(&connection)? {
            (connection, unchanging) = (reader, Some(version));
        }
        connection.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
        connection.busy_handler(Some(wait_for_others))?;
        connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(is_too_late))?;
        match self.role {
            // It refuses every edit.
            Role::Writer if is_read_only => {}
            Role::Writer => {
                let synchronous = self.options.synchronous.keyword();
                connection.pragma_update(None, "synchronous", synchronous)?;
                connection.pragma_update(None, "foreign_keys", true)?;
            }
            Role::Reader => connection.pragma_update(None, "query_only", true)?,
        }
        Ok(Open {
            connection,
            heads: None,
            unchanging,
            capture: None,
        })
    }

    /// Another connection, if this one can't read: a file in WAL mode needs files beside it, which this user may not create
    /// in a directory that is read-only, too. If they are missing, nobody has the file open for writing.
    fn read_only(
        &self,
        connection: &Connection,
    ) -> rusqlite::Result<Option<(Connection, FileVersion)>> {
        let Err(error) = connection.execute_batch("select 1 from sqlite_schema") else {
            return Ok(None);
        };
        let (Some(path), Some(version)) = (self.path.to_str(), FileVersion::of(&self.path)) else {
            return Err(error);
        };
        let path = path
            .replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
        Ok(Some((reader, version)))
    }

    /// Switches the file to WAL, for good. The busy handler does not cover the switch, and another node may be switching.
    pub(crate) fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
        if connection.is_readonly("main")? {
            return Ok(());
        }
        loop {
            let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| {
                row.get::<_, String>(0)
            });
            match mode {
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(_) => {
                    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOLFS);
                    return Err(rusqlite::Error::SqliteFailure(
                        code,
                        Some(NO_WAL.to_owned()),
                    ));
                }
                Err(error) if is_busy(&error) && wait_for_others(0) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

const NO_WAL: &str = "the file can't be switched to journal_mode=wal";

const ONE_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

thread_local! {
    /// Until when the current work waits for locks.
    static LOCK_DEADLINE: Cell<Instant> = Cell::new(Instant::now());

    /// When this thread's statements are interrupted.
    static TIME_LIMIT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// SQLite looks at the clock after this many steps of a statement: in less than a millisecond.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Runs work whose statements are interrupted at a time.
pub(crate) fn interrupted_at<T>(time: Option<Instant>, work: impl FnOnce() -> T) -> T {
    /// Ends the limit also if the work panics.
    struct Unlimited;
    impl Drop for Unlimited {
        fn drop(&mut self) {
            TIME_LIMIT.set(None);
        }
    }
    TIME_LIMIT.set(time);
    let _unlimited = Unlimited;
    work()
}

fn is_too_late() -> bool {
    TIME_LIMIT
        .get()
        .is_some_and(|limit| limit <= Instant::now())
}

/// Tries again for a lock soon. SQLite's own handler waits up to 100 ms between two tries, and may never get the lock
/// beside a process that writes all the time.
fn wait_for_others(_tries: i32) -> bool {
    thread::sleep(Duration::from_micros(fastrand::u64(200..2000)));
    Instant::now() < LOCK_DEADLINE.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    /// Whether the session has another connection after work failed with this code.
    fn is_reopened_after(code: i32) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let options = crate::SqliteStore::options();
        let mut session = Session::writer(&folder.path().join("app.db"), options);
        session.create().unwrap();
        let failed = session.with(None, |open| {
            open.connection
                .execute_batch("create temp table mark (a)")?;
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            Err::<(), _>(Failure::from(error))
        });
        assert!(matches!(failed, Err(StoreError::Unavailable(_))));
        let mark =
            |open: &mut Open| Ok(open.connection.execute_batch("select * from mark").is_err());
        session.with(None, mark).unwrap()
    }

    #[test]
    fn after_a_failed_write_to_the_disk_the_connection_is_reopened() {
        assert!(is_reopened_after(ffi::SQLITE_IOERR_FSYNC));
        assert!(is_reopened_after(ffi::SQLITE_FULL));
        assert!(!is_reopened_after(ffi::SQLITE_BUSY));
    }
}
