//! SQLite's errors: those that may pass, those that break the connection, and those that refuse an edit.

use std::path::{Path, PathBuf};

use fieldsync::backend::StoreError;
use fieldsync_sql::Constraint;
use rusqlite::ffi::{self, ErrorCode};

/// A database that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't open the database {}: {advice}", path.display())]
pub struct OpenError {
    path: PathBuf,
    advice: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl OpenError {
    pub(crate) fn new(path: &Path, advice: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            advice,
            source: None,
        }
    }

    pub(crate) fn caused_by(
        path: &Path,
        advice: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(path, advice)
        }
    }

    /// Adds what to do about an error of SQLite.
    pub(crate) fn explain(path: &Path, error: rusqlite::Error) -> Self {
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen) => match path.parent() {
                _ if path.is_dir() => "it is a directory; name a file in it",
                Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
                    "its directory does not exist; create it first"
                }
                _ => {
                    "this user may not open or create it; allow reading and writing of the file and its directory"
                }
            },
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
                "this user may not write it; allow reading and writing of the file and its directory"
            }
            Some(ErrorCode::NotADatabase) => {
                "the file is not an SQLite database, or it is encrypted; name another"
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another process has locked it; stop that process, or try again when it is done"
            }
            Some(ErrorCode::NoLargeFileSupport | ErrorCode::FileLockingProtocolFailed) => {
                "its file system lacks the locks and shared memory that WAL needs; put it on a local disk"
            }
            Some(ErrorCode::DiskFull) => "the disk is full; free some space",
            _ => "SQLite returned an error",
        };
        Self::caused_by(path, advice, error)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Why work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl Failure {
    /// Whether the connection must be reopened.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::Sqlite(error) => is_damaged(error),
            Self::Store(_) => false,
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Store(error) => return error,
            Failure::Sqlite(error) => error,
        };
        if is_unavailable(&error) {
            Self::Unavailable(error.into())
        } else {
            Self::Backend(error.into())
        }
    }
}

fn is_unavailable(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
        )
    )
}

/// Whether the connection may have something else in memory than the disk has.
fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::OutOfMemory
        )
    )
}

/// Whether another connection holds a lock.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Whether a statement was stopped at its time limit.
pub(crate) fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

/// Whether the error is about the database, and not about what is written.
pub(crate) fn is_about_database(error: &rusqlite::Error) -> bool {
    is_unavailable(error) || is_damaged(error) || is_interrupted(error)
}

/// The constraint that an error is about. A strict type counts as a check.
pub(crate) fn constraint_of(error: &rusqlite::Error) -> Option<Constraint> {
    let error = error.sqlite_error()?;
    if error.code != ErrorCode::ConstraintViolation {
        return None;
    }
    Some(match error.extended_code {
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Constraint::ForeignKey,
        ffi::SQLITE_CONSTRAINT_NOTNULL => Constraint::NotNull,
        ffi::SQLITE_CONSTRAINT_UNIQUE
        | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        | ffi::SQLITE_CONSTRAINT_ROWID => Constraint::Unique,
        _ => Constraint::Check,
    })
}

/// The message of a trigger's `raise`.
pub(crate) fn raised(error: &rusqlite::Error) -> Option<&str> {
    match error {
        rusqlite::Error::SqliteFailure(error, Some(message))
            if error.extended_code == ffi::SQLITE_CONSTRAINT_TRIGGER =>
        {
            Some(message)
        }
        _ => None,
    }
}
