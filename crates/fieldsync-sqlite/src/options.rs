//! How a store treats its file.

use std::time::Duration;

/// How a [`SqliteStore`](crate::SqliteStore) treats its file. Made by
/// [`SqliteStore::options`](crate::SqliteStore::options).
///
/// ```no_run
/// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use fieldsync_sqlite::{SqliteStore, Synchronous};
///
/// let store = SqliteStore::options()
///     .synchronous(Synchronous::Normal)
///     .busy_timeout(Duration::from_secs(2))
///     .open("app.db")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct SqliteOptions {
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
}

/// What an acknowledged edit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// A crash of the process, a crash of the system, and a power failure: each transaction waits for the disk.
    #[default]
    Full,
    /// A crash of the process. A crash of the system or a power failure may undo the last transactions, each as a whole.
    Normal,
}

impl Synchronous {
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

impl SqliteOptions {
    pub(crate) fn new() -> Self {
        Self {
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(5),
        }
    }

    /// Sets what an acknowledged edit survives. [`Synchronous::Full`] by default.
    pub fn synchronous(self, synchronous: Synchronous) -> Self {
        Self {
            synchronous,
            ..self
        }
    }

    /// Sets how long to wait while another process writes. 5 seconds by default. A batch never waits beyond its deadline.
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self {
            busy_timeout,
            ..self
        }
    }
}
