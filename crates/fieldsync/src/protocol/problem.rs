//! Problem details (RFC 9457): what a refused request is answered with.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::authorize::Denied;
use crate::collection::FieldErrors;
use crate::edit::{EngineError, FieldConflict, Refusal};
use crate::record::Fields;
use crate::store::StoreError;

/// A problem. Holds no value that was sent, no SQL, no path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    pub(crate) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "FieldErrors::is_empty")]
    errors: FieldErrors,
    /// Fields that changed since the request's base.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    conflicts: BTreeMap<String, FieldConflict>,
    /// The record as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Fields>,
    /// Seconds after which it may be tried again.
    #[serde(skip)]
    pub(crate) retry_after: Option<u32>,
}

impl Problem {
    pub(crate) fn new(status: u16, kind: &str, detail: impl Into<String>) -> Self {
        let (kind, detail) = (format!("urn:fieldsync:{kind}"), Some(detail.into()));
        Self {
            kind,
            title: title(status),
            status,
            detail,
            errors: FieldErrors::new(),
            conflicts: BTreeMap::new(),
            current: None,
            retry_after: None,
        }
    }

    pub(crate) fn of_fields(status: u16, kind: &str, errors: FieldErrors) -> Self {
        let mut problem = Self::new(status, kind, "see errors, per field");
        problem.errors = errors;
        problem
    }

    /// Whether a peer on a socket may cause it a few times only: what is no message at all, and what goes over a limit.
    pub(crate) fn counts_against_peer(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "urn:fieldsync:bad-message" | "urn:fieldsync:limit"
        )
    }

    pub(crate) fn unavailable(detail: &str) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(503, "unavailable", detail)
        }
    }
}

/// The statuses that requests are refused with: here, and nowhere else.
impl From<&EngineError> for Problem {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Stopping => Self::unavailable("the server is stopping"),
            EngineError::Store(error) => match **error {
                StoreError::Unavailable(_) => {
                    Self::unavailable("the store is unavailable; try again")
                }
                StoreError::Schema(_) | StoreError::Backend(_) => {
                    Self::new(500, "internal", "the server failed")
                }
            },
            EngineError::Unreadable { .. } => Self::new(500, "internal", "the server failed"),
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NoSuchCollection(_) => {
                Self::new(404, "not-found", "there is no such collection")
            }
            Refusal::NotFound(_) => Self::new(404, "not-found", "there is no such record"),
            Refusal::Denied(Denied::Unauthenticated) => {
                Self::new(401, "unauthenticated", "a login is needed")
            }
            Refusal::Denied(Denied::Forbidden) => Self::new(403, "forbidden", "not allowed"),
            Refusal::Denied(Denied::Hidden) => {
                Self::new(404, "not-found", "there is no such collection")
            }
            Refusal::NotCreatable(_) => {
                Self::new(405, "not-creatable", "the collection takes no new records")
            }
            Refusal::PreconditionFailed => Self::new(
                412,
                "precondition-failed",
                "the record is not in the state that the precondition names",
            ),
            Refusal::ChangedSinceBase(conflicts) => {
                let detail = "fields that the request touches have changed since its base; see conflicts, per field";
                Self {
                    conflicts: conflicts.clone(),
                    ..Self::new(409, "changed-since-base", detail)
                }
            }
            Refusal::BaseUnknown { current } => {
                let detail = "what changed since the request's base can't be told; see current";
                Self {
                    current: Some(current.clone()),
                    ..Self::new(409, "base-unknown", detail)
                }
            }
            Refusal::AppPanicked => Self::new(
                500,
                "internal",
                "the server failed; nothing of it is stored",
            ),
            Refusal::Malformed(message) => Self::new(400, "malformed", message.clone()),
            Refusal::Invalid(errors) => Self::of_fields(422, "invalid", errors.clone()),
            Refusal::Conflict(errors) => Self::of_fields(409, "conflict", errors.clone()),
            Refusal::KeyReused => Self::new(
                422,
                "idempotency-key-reused",
                "Idempotency-Key was used for another request",
            ),
            Refusal::Busy | Refusal::Locked => {
                Self::unavailable("too busy to apply the edit in time; nothing of it is stored")
            }
        }
    }
}

/// The status's name (RFC 9110, section 15).
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
