//! What a principal asks to do, and why it is denied.

/// What somebody wants to do with a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// See records and their changes.
    Read,
    /// Make a record.
    Create,
    /// Change fields of a record.
    Update,
    /// Delete a record.
    Delete,
}

/// Why nothing was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Nobody in particular may not; somebody might. 401.
    #[error("a login is needed")]
    Unauthenticated,
    /// This principal may not. 403.
    #[error("not allowed")]
    Forbidden,
    /// For this principal there is no such collection. 404.
    #[error("not found")]
    Hidden,
}
