//! How a database is opened.

use std::path::Path;
use std::time::Duration;

use fieldsync::StoreError;

use crate::store::SqliteStore;

/// How a database is opened. [`SqliteStore::options`] gives the defaults.
#[derive(Debug, Clone)]
#[must_use]
pub struct SqliteOptions {
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) readers: usize,
}

/// When an edit is answered, seen from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// When it is on the disk. Survives a failure of power.
    Full,
    /// When the operating system has it. Survives the end of the process; a failure of power may take the last edits.
    Normal,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            readers: 2,
        }
    }
}

impl SqliteOptions {
    /// When an edit is answered. [`Synchronous::Full`] without this.
    pub fn synchronous(self, synchronous: Synchronous) -> Self {
        Self {
            synchronous,
            ..self
        }
    }

    /// How long to wait for another process that writes to the same file. 5 seconds without this.
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self {
            busy_timeout,
            ..self
        }
    }

    /// How many threads read. 2 without this.
    pub fn readers(self, readers: usize) -> Self {
        Self {
            readers: readers.max(1),
            ..self
        }
    }

    /// Opens the database, and makes the file if there is none.
    ///
    /// # Errors
    /// When the file can't be opened or is not a database; names the path.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        SqliteStore::start(path.as_ref(), self).await
    }
}
