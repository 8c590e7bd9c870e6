//! Why a stream ends before its subscriber leaves.

/// Why what a principal has opened ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lapse {
    /// The principal's credential has expired.
    Expired,
    /// The principal or its session was revoked.
    Revoked,
    /// Revocations were missed, maybe one of this principal: the app must check the credential again.
    Unknown,
}
