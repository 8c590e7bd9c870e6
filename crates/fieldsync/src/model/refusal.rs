//! Why an edit is refused.

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::access::Denied;
use crate::model::field_errors::FieldErrors;
use crate::model::record::{Fields, RecordKey};

/// Why an edit was refused. Nothing of a refused edit is stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such collection, or none for this principal.
    #[error("collection {0} not found")]
    NoSuchCollection(Arc<str>),
    /// There is no such record, or none for this principal.
    #[error("record {0} not found")]
    NotFound(RecordKey),
    /// Not allowed.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The collection takes no new records.
    #[error("collection {0} takes no new records")]
    NotCreatable(Arc<str>),
    /// The record is not in the state that the precondition names.
    #[error("the record is not in the state that the precondition names")]
    PreconditionFailed,
    /// Fields that the edit touches have changed since its base.
    #[error("changed since the base: {}", .0.keys().cloned().collect::<Vec<_>>().join(", "))]
    ChangedSinceBase(BTreeMap<String, FieldConflict>),
    /// What changed since the edit's base can't be told: the log was trimmed, or is another one.
    #[error("what changed since the base can't be told")]
    BaseUnknown {
        /// The record as it is now, as far as it may be seen.
        current: Fields,
    },
    /// The edit is not an object of fields.
    #[error("{0}")]
    Malformed(String),
    /// Fields hold what they must not.
    #[error("invalid fields: {}", names(.0))]
    Invalid(FieldErrors),
    /// Another record has what must be unique, or refers to this one.
    #[error("conflict in fields: {}", names(.0))]
    Conflict(FieldErrors),
    /// The idempotency key was used for another edit.
    #[error("the idempotency key was used for another edit")]
    KeyReused,
    /// The app's own code panicked on it: a rule's test on rows, a check, or a closure.
    #[error("the app's own code panicked on this edit")]
    AppPanicked,
    /// It could not be tried in time; nothing of it is stored.
    #[error("too busy to apply the edit in time")]
    Busy,
    /// Somebody else's lock keeps it out of a batch. Said by stores alone: the engine hands the edit in again, by itself.
    #[error("somebody else has locked what the edit needs")]
    Locked,
}

/// A field that changed since an edit's base.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldConflict {
    /// What it held at the base, where that is known and may be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Value>,
    /// What the edit would have set; nothing for a delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mine: Option<Value>,
    /// What it holds now, where that may be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theirs: Option<Value>,
}

fn names(errors: &FieldErrors) -> String {
    errors
        .iter()
        .map(|(name, messages)| format!("{name} {}", messages.join(", ")))
        .collect::<Vec<_>>()
        .join("; ")
}
