//! What is checked of edits before any rule is asked, and which limits a refusal counts for.

use crate::error::EngineError;
use crate::metrics::Limit;
use crate::model::principal::Principal;
use crate::model::refusal::Refusal;

/// The maximum length of a principal's name, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// Refuses a name that no store can keep.
pub(crate) fn check_name(principal: Option<&Principal>) -> Result<(), Refusal> {
    let fits = |name: &str| name.len() <= MAX_NAME_BYTES && !name.contains('\0');
    match principal.and_then(Principal::name) {
        Some(name) if !fits(name) => Err(Refusal::AppFailed(
            "the name of a principal must have at most 1024 bytes, and no NUL".into(),
        )),
        _ => Ok(()),
    }
}

/// Refuses a transaction that would keep other edits waiting for long.
pub(crate) fn check_length(edits: usize, limit: usize) -> Result<(), Refusal> {
    if edits <= limit {
        Ok(())
    } else {
        Limit::TransactionEdits.reached();
        Err(Refusal::TooManyEdits { edits, limit })
    }
}

pub(crate) fn count_limit(error: &EngineError) {
    match error {
        EngineError::Refused(Refusal::RecordTooLarge(_)) => Limit::RecordBytes.reached(),
        EngineError::Refused(Refusal::Busy) => Limit::CommitQueue.reached(),
        // The other limits of a principal are checked before.
        EngineError::Refused(Refusal::OverLimit { .. }) => Limit::PrincipalKeys.reached(),
        _ => {}
    }
}
