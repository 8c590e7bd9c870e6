//! Why a broker failed.

/// A broker could not do what was asked. Never the reason of a failed edit.
#[derive(Debug, thiserror::Error)]
#[error("the broker failed")]
pub struct BrokerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
