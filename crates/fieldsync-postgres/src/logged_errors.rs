//! The errors that were logged: what fails at each poll is logged once, until it succeeds or fails in another way.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::error::Failure;

/// The last error of each table's capture.
#[derive(Debug, Default)]
pub(crate) struct LoggedErrors(Mutex<HashMap<String, String>>);

impl LoggedErrors {
    /// Whether this is not the error that was logged last.
    pub(crate) fn is_new(&self, table: &str, failure: &Failure) -> bool {
        let text = failure.text();
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        errors.insert(table.to_owned(), text.clone()) != Some(text)
    }

    /// The capture of the table works again.
    pub(crate) fn clear(&self, table: &str) {
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        errors.remove(table);
    }
}
