//! Why a call of the engine failed, and why an engine could not start.

use std::sync::Arc;

use crate::model::record::RecordKey;
use crate::model::refusal::Refusal;
use crate::store::error::StoreError;

/// Why an edit or a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The edit or the read was refused. Nothing is stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed. Whether an edit was committed is unknown. It can be repeated with the same idempotency key.
    #[error("the store failed")]
    Store(#[from] Arc<StoreError>),
    /// The engine is stopping, and accepts no more work.
    #[error("the engine is stopping")]
    Stopping,
    /// The stored record does not fit the app's type. An edit that returns this is committed.
    #[error("record {key} does not fit the type")]
    Unreadable {
        /// The record.
        key: RecordKey,
        /// Why it does not fit.
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
    /// A collection is faulty.
    #[error("collection {collection}: {fault}")]
    Collection {
        /// Its name.
        collection: Arc<str>,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// Something is missing or does not fit together.
    #[error("{0}")]
    Incomplete(String),
    /// An allowed origin is not an origin.
    #[error(
        "allowed origin {0:?} is not an origin: write it like https://app.example, http://localhost:3000 or https://*.app.example, \
         without a path"
    )]
    Origin(String),
    /// A setting can't work.
    #[error("setting {0}")]
    Setting(&'static str),
    /// The store could not be prepared.
    #[error("the store could not be prepared")]
    Store(#[from] StoreError),
}
