//! What a principal asks to do, and why it is denied.

use std::error::Error;
use std::sync::Arc;

/// What a principal asks to do with a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read records and their changes.
    Read,
    /// Create a record.
    Create,
    /// Change fields of a record.
    Update,
    /// Delete a record.
    Delete,
}

/// Why access is denied.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// The principal is anonymous, and a known one might be allowed. 401.
    #[error("authentication is required")]
    Unauthenticated,
    /// The principal's credential has [expired](crate::Principal::expires_at). 401.
    #[error("the credential has expired")]
    Expired,
    /// The principal is not allowed. 403.
    #[error("not allowed")]
    Forbidden,
    /// The collection does not exist for this principal. 404.
    #[error("not found")]
    Hidden,
    /// The rule could not be evaluated, for example because a database that it asks is down. 503.
    ///
    /// The source is logged and never sent to the client.
    #[error("the authorizer failed")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
}

impl Denied {
    /// The rule could not be evaluated because of this error.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(source.into().into())
    }
}

/// Two failed evaluations are equal when they failed with the same error value.
impl PartialEq for Denied {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unavailable(source), Self::Unavailable(other)) => Arc::ptr_eq(source, other),
            (Self::Unauthenticated, Self::Unauthenticated)
            | (Self::Expired, Self::Expired)
            | (Self::Forbidden, Self::Forbidden)
            | (Self::Hidden, Self::Hidden) => true,
            _ => false,
        }
    }
}
