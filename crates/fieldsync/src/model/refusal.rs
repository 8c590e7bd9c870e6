//! Why an edit is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::model::access::Denied;
use crate::model::field_errors::FieldErrors;
use crate::model::record::{Fields, RecordKey};

/// Why an edit was refused. Nothing of a refused edit is stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The collection does not exist, or is hidden from the principal.
    #[error("collection {0} not found")]
    NoSuchCollection(Arc<str>),
    /// The record does not exist, or is hidden from the principal.
    #[error("record {0} not found")]
    NotFound(RecordKey),
    /// The principal is not allowed to make this edit.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The collection does not accept new records.
    #[error("collection {0} does not accept new records")]
    NotCreatable(Arc<str>),
    /// The collection accepts no edits.
    #[error("collection {0} is read-only")]
    ReadOnly(Arc<str>),
    /// A precondition does not hold for the current record.
    #[error("a precondition does not hold for the current record")]
    PreconditionFailed,
    /// Fields that the edit sets have changed since its base.
    #[error("changed since the base: {}", .0.keys().cloned().collect::<Vec<_>>().join(", "))]
    ChangedSinceBase(BTreeMap<String, FieldConflict>),
    /// The log no longer contains the changes since the edit's base, or the base belongs to another log.
    #[error("the changes since the base are unknown")]
    BaseUnknown {
        /// The current record, as far as the principal may read it.
        current: Fields,
    },
    /// The edit is not an object of fields.
    #[error("{0}")]
    Malformed(String),
    /// A query can't be read, or asks about fields that do not exist or can't be compared. The errors name its parameters or fields.
    #[error("bad query: {0}")]
    BadQuery(FieldErrors),
    /// Fields have values that are not allowed.
    #[error("invalid fields: {0}")]
    Invalid(FieldErrors),
    /// The edit conflicts with another record, which has the same unique value or refers to this record.
    #[error("conflict in fields: {0}")]
    Conflict(FieldErrors),
    /// The record would be larger than [`Limits::record_bytes`](crate::Limits::record_bytes). The error
    /// names the largest field that the edit sets.
    #[error("record too large: {0}")]
    RecordTooLarge(FieldErrors),
    /// The transaction has more edits than [`Limits::transaction_edits`](crate::Limits::transaction_edits).
    #[error("a transaction of {edits} edits, of which at most {limit} are allowed")]
    TooManyEdits {
        /// The number of its edits.
        edits: usize,
        /// The limit.
        limit: usize,
    },
    /// The principal has used up one of its [limits](crate::Limits), for now. 429.
    #[error("the principal has used up its limit of {limit}")]
    OverLimit {
        /// The limit, in words.
        limit: String,
        /// The time after which it may try again.
        retry_after: Duration,
    },
    /// The principal may change the record, but not these fields of it.
    #[error("the principal may not set all of these fields: {0}")]
    FieldsDenied(FieldErrors),
    /// The idempotency key was used for another edit.
    #[error("the idempotency key was used for another edit")]
    KeyReused,
    /// The app's own code panicked on this edit: a rule, a check or a closure.
    #[error("the app's code panicked on this edit")]
    AppPanicked,
    /// The app's own code can't handle this edit: the record does not fit the type of a closure, or `on_create` has set
    /// an unknown field. The message may contain stored values, and is never sent to the client.
    #[error("the app's code failed on this edit: {0}")]
    AppFailed(String),
    /// A trigger of the app's database refused the edit: `raise exception`, or `raise(abort, …)`.
    #[error("the database refused the edit: {message}")]
    DatabaseRefused {
        /// The trigger's message. The client receives it if the collection
        /// [shows](crate::Collection::show_database_messages) such messages.
        message: String,
        /// The field that the trigger names, if it names one.
        field: Option<String>,
        /// Whether the client receives the message.
        is_shown: bool,
    },
    /// The database failed on this edit for a reason that is not in its values, for example a broken trigger. The message
    /// names the cause, and is never sent to the client.
    #[error("the database failed on this edit: {0}")]
    DatabaseFailed(String),
    /// The edit could not be tried before its deadline.
    #[error("too busy to apply the edit in time")]
    Busy,
    /// Another transaction holds a lock that the edit needs. Only stores return this, and only for a group of a larger
    /// batch: the engine then tries the group again alone.
    #[error("another transaction has locked what the edit needs")]
    Locked,
}

impl From<FieldErrors> for Refusal {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

/// A field that has changed since an edit's base.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FieldConflict {
    /// The value at the base, where it is known and the principal may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Value>,
    /// The value that the edit sets. A delete sets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mine: Option<Value>,
    /// The current value, where the principal may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theirs: Option<Value>,
}
