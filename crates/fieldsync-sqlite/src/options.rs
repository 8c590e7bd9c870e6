//! How to open a database, and what can go wrong with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::SqliteStore;

/// How a [`SqliteStore`] treats its file. Made by [`SqliteStore::options`].
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
    /// A crash of the process, of the system, and a power cut: each transaction waits for the disk.
    #[default]
    Full,
    /// A crash of the process. After a crash of the system or a power cut the last transactions may be gone, each as
    /// a whole.
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

    /// What an acknowledged edit survives. [`Synchronous::Full`] by default.
    pub fn synchronous(self, synchronous: Synchronous) -> Self {
        Self {
            synchronous,
            ..self
        }
    }

    /// How long to wait while another process writes. 5 seconds by default, and never beyond a batch's deadline.
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self {
            busy_timeout,
            ..self
        }
    }

    /// Opens a database, and makes the file if there is none.
    ///
    /// # Errors
    /// When the file can't be opened, is no database, or is on a file system without the locks that SQLite needs.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, OpenError> {
        SqliteStore::open_with(path.as_ref(), self).await
    }
}

/// A database that can't be opened.
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

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
