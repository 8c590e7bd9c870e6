//! How much is done for each figure.

use std::path::PathBuf;

/// The number of users in each table.
pub(crate) const USERS: usize = 1000;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The pairs of measurements for each figure.
    pub(crate) pairs: usize,
    /// The folder of the databases.
    pub(crate) folder: PathBuf,
    /// Whether this is only a check that the bench works.
    pub(crate) smoke: bool,
}

impl Plan {
    /// Returns the first number for a measurement, the second for a smoke test.
    pub(crate) fn size(&self, measured: usize, smoke: usize) -> usize {
        if self.smoke { smoke } else { measured }
    }
}
