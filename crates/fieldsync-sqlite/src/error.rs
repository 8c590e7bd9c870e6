//! SQLite's errors, sorted by what can be done about them.

use std::fmt;
use std::path::PathBuf;

use fieldsync::StoreError;
use rusqlite::ErrorCode;

/// Sorts an error: the disk, locks and the like may be well later; the rest is a fault.
pub(crate) fn sort(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen,
        ) => StoreError::Unavailable(error.into()),
        _ => StoreError::Backend(error.into()),
    }
}

/// A database that can't be opened.
#[derive(Debug)]
pub(crate) struct CannotOpen {
    pub(crate) path: PathBuf,
    pub(crate) source: StoreError,
}

impl fmt::Display for CannotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(
            f,
            "{path} can't be opened: its folder must be there and writable, and the file a SQLite database"
        )
    }
}

impl std::error::Error for CannotOpen {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.source)
    }
}
