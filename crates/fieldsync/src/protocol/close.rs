//! The close codes of a WebSocket.

use crate::live::lapse::Lapse;

/// Why the server closes a connection (RFC 6455, section 7.4; 1012 and 1013 are from the IANA registry, 4401 is like the status 401).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// 1003: the client sent binary data.
    BinaryData,
    /// 1008: the client sent too many messages, or too many that the server refused, or may not read any feed.
    Policy,
    /// 1009: the client sent a message over the size limit.
    TooBig,
    /// 1011: the app's own code panicked.
    Internal,
    /// 1012: the engine drains, or it does not know any more which principals were revoked.
    Restart,
    /// 1013: a plain feed cannot deliver what the subscriber missed.
    TryAgain,
    /// 4401: the principal's credential has expired.
    Expired,
    /// 4401: the principal or its session was revoked.
    Revoked,
}

impl From<Lapse> for Close {
    fn from(lapse: Lapse) -> Self {
        match lapse {
            Lapse::Expired => Self::Expired,
            Lapse::Revoked => Self::Revoked,
            Lapse::Unknown => Self::Restart,
        }
    }
}

impl Close {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::BinaryData => 1003,
            Self::Policy => 1008,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::Restart => 1012,
            Self::TryAgain => 1013,
            Self::Expired | Self::Revoked => 4401,
        }
    }

    /// The reason that is sent with the code.
    ///
    /// For 1012 and 1013 it is a random delay, so that clients do not reconnect all at once.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::BinaryData => "messages must be JSON text".into(),
            Self::Policy => "too many messages, or errors".into(),
            Self::TooBig => "the message is too big".into(),
            Self::Internal => "the server failed".into(),
            Self::Restart => format!("retry-after-ms={}", fastrand::u32(200..3000)),
            Self::TryAgain => format!("retry-after-ms={}", fastrand::u32(0..1000)),
            Self::Expired => "expired".into(),
            Self::Revoked => "revoked".into(),
        }
    }
}
