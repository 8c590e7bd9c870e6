//! Why a call of the engine failed, and why an engine could not start.

use std::sync::Arc;

use crate::model::record::RecordKey;
use crate::model::refusal::Refusal;
use crate::store::error::StoreError;

/// Why an edit or a reading failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// It was refused, and nothing of it is stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed. What became of an edit is unknown; with the same idempotency key it can be tried again.
    #[error("the store failed")]
    Store(#[from] Arc<StoreError>),
    /// The engine is stopping, and takes no more edits.
    #[error("the engine is stopping")]
    Stopping,
    /// The stored record does not fit the app's type. What was to be done to it is done.
    #[error("record {key} does not fit the type")]
    Unreadable {
        /// The record.
        key: RecordKey,
        /// Why.
        source: serde_json::Error,
    },
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A collection is not as it must be.
    #[error("collection {collection}: {fault}")]
    Collection {
        /// Its name.
        collection: Arc<str>,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// Something else was left out or doubled.
    #[error("{0}")]
    Incomplete(String),
    /// An allowed origin is none.
    #[error(
        "{0:?} is no origin; it is like https://app.example or http://localhost:3000, without a path"
    )]
    Origin(String),
    /// The store could not be prepared.
    #[error("the store could not be prepared")]
    Store(#[from] StoreError),
}
