//! Problem details (RFC 9457), the body of every refusal. The status for each error is chosen here and nowhere else.

use std::collections::BTreeMap;
use std::time::Duration;

use ::http::StatusCode;
use serde::{Serialize, Serializer};

use crate::engine::usage::Refused;
use crate::error::EngineError;
use crate::model::access::Denied;
use crate::model::field_errors::FieldErrors;
use crate::model::record::Fields;
use crate::model::refusal::{FieldConflict, Refusal};
use crate::store::error::StoreError;

/// The detail of a 500. It never contains the cause, which is logged.
const SERVER_FAILED: &str = "the server failed to handle the request";

/// The longest time that a client is asked to wait, in seconds.
const MAX_RETRY_AFTER: f64 = 3600.0;

/// A problem. It contains no value from the request, no SQL and no path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type", serialize_with = "as_urn")]
    pub(crate) kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    pub(crate) status: StatusCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "FieldErrors::is_empty")]
    errors: FieldErrors,
    /// The fields that changed since the request's base.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    conflicts: BTreeMap<String, FieldConflict>,
    /// The current record.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Fields>,
    /// The number of seconds after which the client may retry.
    #[serde(skip)]
    pub(crate) retry_after: Option<u32>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: title(status),
            status,
            detail: Some(detail.into()),
            errors: FieldErrors::new(),
            conflicts: BTreeMap::new(),
            current: None,
            retry_after: None,
        }
    }

    /// A problem with messages for some fields, parameters or headers.
    pub(crate) fn of_fields(status: StatusCode, kind: &'static str, errors: FieldErrors) -> Self {
        Self {
            errors,
            ..Self::new(status, kind, "see \"errors\" for the reason for each field")
        }
    }

    /// A 503 that asks the client to retry after a second.
    pub(crate) fn unavailable(detail: &str) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    /// A 429 for a principal that has used up its limit, for now.
    fn over_limit(limit: &str, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs_f64().ceil().clamp(1.0, MAX_RETRY_AFTER);
        let detail = format!("you have used up your limit of {limit}; nothing was stored");
        Self {
            retry_after: Some(seconds as u32),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "limit", detail)
        }
    }

    /// A 500.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", SERVER_FAILED)
    }

    /// A 422 for an edit that the database refused, with its message if the app shows it.
    fn refused_by_database(message: Option<&str>, field: Option<&str>) -> Self {
        let of_field = message.unwrap_or("is not allowed by the database");
        let errors = field.into_iter().map(|field| (field, of_field));
        Self {
            errors: errors.collect(),
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused-by-database",
                message.unwrap_or("the database refused the edit"),
            )
        }
    }

    fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// Whether it refuses a credential that was valid before.
    pub(crate) fn is_expiry(&self) -> bool {
        self.kind == "expired"
    }

    /// Whether a connection is closed after a few such problems: messages that are not JSON objects.
    pub(crate) fn counts_against_peer(&self) -> bool {
        self.kind == "bad-message"
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ByNode => Self::unavailable("the server has all the connections it may have"),
            Refused::ByPrincipal(refusal) => (&refusal).into(),
        }
    }
}

impl From<&EngineError> for Problem {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Stopping => Self::unavailable("the server is shutting down"),
            EngineError::Store(error) => match **error {
                StoreError::Unavailable(_) => {
                    Self::unavailable("the store is unavailable; try again")
                }
                StoreError::Schema(_)
                | StoreError::NotPrepared { .. }
                | StoreError::Unordered(_)
                | StoreError::Backend(_) => Self::internal(),
            },
            EngineError::Unreadable { .. } => Self::internal(),
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        let of_fields =
            |status, kind, errors: &FieldErrors| Self::of_fields(status, kind, errors.clone());
        match refusal {
            Refusal::NoSuchCollection(_) => Self::not_found("the collection does not exist"),
            Refusal::NotFound(_) => Self::not_found("the record does not exist"),
            Refusal::Denied(denied) => denied.into(),
            Refusal::NotCreatable(_) => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "not-creatable",
                "the collection does not accept new records",
            ),
            Refusal::ReadOnly(_) => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "read-only",
                "the collection accepts no edits",
            ),
            Refusal::PreconditionFailed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "precondition-failed",
                "the current record does not meet the precondition",
            ),
            Refusal::ChangedSinceBase(conflicts) => Self {
                conflicts: conflicts.clone(),
                ..Self::new(
                    StatusCode::CONFLICT,
                    "changed-since-base",
                    "fields of the request have changed since its base; see \"conflicts\"",
                )
            },
            Refusal::BaseUnknown { current } => Self {
                current: Some(current.clone()),
                ..Self::new(
                    StatusCode::CONFLICT,
                    "base-unknown",
                    "the changes since the request's base are not known; see \"current\"",
                )
            },
            Refusal::AppPanicked | Refusal::AppFailed(_) | Refusal::DatabaseFailed(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the server failed to handle the request; nothing was stored",
            ),
            Refusal::DatabaseRefused {
                message,
                field,
                is_shown,
            } => {
                let shown = is_shown.then_some(&**message);
                Self::refused_by_database(shown, field.as_deref())
            }
            Refusal::Malformed(message) => {
                Self::new(StatusCode::BAD_REQUEST, "malformed", message.clone())
            }
            Refusal::BadQuery(errors) => of_fields(StatusCode::BAD_REQUEST, "bad-query", errors),
            Refusal::Invalid(errors) => {
                of_fields(StatusCode::UNPROCESSABLE_ENTITY, "invalid", errors)
            }
            Refusal::FieldsDenied(errors) => of_fields(StatusCode::FORBIDDEN, "forbidden", errors),
            Refusal::Conflict(errors) => of_fields(StatusCode::CONFLICT, "conflict", errors),
            Refusal::RecordTooLarge(errors) => {
                of_fields(StatusCode::PAYLOAD_TOO_LARGE, "record-too-large", errors)
            }
            Refusal::TooManyEdits { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-many-edits",
                refusal.to_string(),
            ),
            Refusal::OverLimit { limit, retry_after } => Self::over_limit(limit, *retry_after),
            Refusal::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "Idempotency-Key was already used for a different request",
            ),
            Refusal::Busy | Refusal::Locked => {
                Self::unavailable("the server is too busy to apply the edit; nothing was stored")
            }
        }
    }
}

impl From<&Denied> for Problem {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "authentication is required",
            ),
            Denied::Expired => Self::new(
                StatusCode::UNAUTHORIZED,
                "expired",
                "your credential has expired",
            ),
            Denied::Forbidden => Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "you do not have permission to do this",
            ),
            Denied::Unavailable(_) => {
                Self::unavailable("your permissions could not be determined; try again")
            }
            Denied::Hidden => Self::not_found("the collection does not exist"),
        }
    }
}

/// The name of a status (RFC 9110, section 15). `http` still has the older names of two of them.
fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Content Too Large",
        StatusCode::UNPROCESSABLE_ENTITY => "Unprocessable Content",
        status => status.canonical_reason().unwrap_or("Unknown"),
    }
}

fn as_urn<S: Serializer>(kind: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:fieldsync:{kind}"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
