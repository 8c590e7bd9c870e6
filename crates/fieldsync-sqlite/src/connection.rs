//! One thread's connection: how it is opened, when it is opened anew, and how long it waits for locks.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fieldsync::{Position, StoreError};
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags};

use crate::error::Failure;
use crate::options::{OpenError, SqliteOptions};

/// More than the statements of most apps, so that hardly one is prepared twice.
const STATEMENTS: usize = 256;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
}

/// One thread's place for a connection to the database.
#[derive(Debug)]
pub(crate) struct Session {
    path: Arc<PathBuf>,
    options: SqliteOptions,
    role: Role,
    open: Option<Open>,
}

/// An open connection, and what was learned on it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) connection: Connection,
    pub(crate) heads: Option<KnownHeads>,
}

/// The ends of the logs, and the version of the data in which they were read.
#[derive(Debug)]
pub(crate) struct KnownHeads {
    pub(crate) version: i64,
    pub(crate) heads: Vec<(Arc<str>, Position)>,
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

    /// A reader of the same database.
    pub(crate) fn reader(&self) -> Self {
        Self {
            path: Arc::clone(&self.path),
            options: self.options.clone(),
            role: Role::Reader,
            open: None,
        }
    }

    /// Opens the database for the first time, and makes the file if there is none.
    pub(crate) fn create(&mut self) -> Result<(), OpenError> {
        self.wait_for_locks_until(None);
        match self.connect(OpenFlags::SQLITE_OPEN_CREATE) {
            Ok(open) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) => Err(explained(&self.path, error)),
        }
    }

    /// Works on the connection. It waits for locks until the deadline, and no longer than the options say.
    pub(crate) fn with<T>(
        &mut self,
        deadline: Option<Instant>,
        work: impl FnOnce(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.wait_for_locks_until(deadline);
        // It is taken out, so that it is closed when the work panics.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect(OpenFlags::empty()).map_err(Failure::from)?,
        };
        match work(&mut open) {
            Ok(done) => {
                self.open = Some(open);
                Ok(done)
            }
            Err(failure) => {
                // After a failed write to the disk SQLite's handle goes on as if nothing was; a new one reads what is
                // really there.
                if !failure.is_broken() {
                    self.open = Some(open);
                }
                Err(failure.into())
            }
        }
    }

    /// Until when this thread's connection waits: the deadline, but no longer than the options say.
    fn wait_for_locks_until(&self, deadline: Option<Instant>) {
        let now = Instant::now();
        let patience = now
            .checked_add(self.options.busy_timeout)
            .unwrap_or(now + A_YEAR);
        PATIENCE.set(deadline.map_or(patience, |deadline| deadline.min(patience)));
    }

    fn connect(&self, more: OpenFlags) -> rusqlite::Result<Open> {
        // The database has one thread; a mutex would guard it from nobody.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
        let mut connection = Connection::open_with_flags(self.path.as_path(), flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.busy_handler(Some(wait_for_others))?;
        match self.role {
            Role::Writer => {
                Self::use_wal(&connection)?;
                let synchronous = self.options.synchronous.keyword();
                connection.pragma_update(None, "synchronous", synchronous)?;
                connection.pragma_update(None, "foreign_keys", true)?;
            }
            Role::Reader => connection.pragma_update(None, "query_only", true)?,
        }
        Ok(Open {
            connection,
            heads: None,
        })
    }

    /// Switches the file to WAL, for good. The busy timeout does not cover the switch, and another node may be at it.
    fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
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

pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

thread_local! {
    /// Until when the work in hand waits for locks.
    static PATIENCE: Cell<Instant> = Cell::new(Instant::now());
}

/// Asks for a lock again soon. SQLite's own way waits up to 100 ms between two tries, and so may never have its turn
/// beside a process that writes all the time.
fn wait_for_others(_tries: i32) -> bool {
    thread::sleep(Duration::from_micros(fastrand::u64(200..2000)));
    Instant::now() < PATIENCE.get()
}

fn explained(path: &Path, error: rusqlite::Error) -> OpenError {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => match path.parent() {
            _ if path.is_dir() => "it is a directory; name a file in it",
            Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
                "its directory does not exist; make it first"
            }
            _ => {
                "this user may not open or make it; let it read and write the file and its directory"
            }
        },
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            "this user may not write it; let it read and write the file and its directory"
        }
        Some(ErrorCode::NotADatabase) => {
            "the file is no SQLite database, or is encrypted; name another"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process has locked it; stop that one, or try again when it is done"
        }
        Some(ErrorCode::NoLargeFileSupport | ErrorCode::FileLockingProtocolFailed) => {
            "its file system has not the locks and shared memory that WAL needs; put it on a local disk"
        }
        Some(ErrorCode::DiskFull) => "the disk is full; make room",
        _ => "SQLite gave an error",
    };
    OpenError::caused_by(path, advice, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    /// Whether the connection is another one after work on it failed with this code.
    fn is_new_after(code: i32) -> bool {
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
    fn after_a_failed_write_to_the_disk_the_connection_is_another_one() {
        assert!(is_new_after(ffi::SQLITE_IOERR_FSYNC));
        assert!(is_new_after(ffi::SQLITE_FULL));
        assert!(!is_new_after(ffi::SQLITE_BUSY));
    }
}
