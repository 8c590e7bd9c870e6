//! The error of brokers.

/// An operation of a broker failed. An edit never fails for this reason: the broker is called after the commit.
#[derive(Debug, thiserror::Error)]
#[error("the broker failed")]
pub struct BrokerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
