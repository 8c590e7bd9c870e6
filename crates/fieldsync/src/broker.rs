//! What carries notices between the nodes of an app.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

/// Tells other nodes that a collection's log has grown. It is a hint to look: whoever hears it reads the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// The collection.
    pub collection: Arc<str>,
    /// The log's epoch.
    pub epoch: u64,
    /// The log's last offset.
    pub offset: u64,
}

/// A broker could not do what was asked. Never the reason of a failed edit.
#[derive(Debug, thiserror::Error)]
#[error("the broker failed")]
pub struct BrokerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Carries notices between nodes.
///
/// Nothing depends on it but speed: a broker may lose, repeat, reorder, delay or invent notices. What it loses is found
/// by reading the heads of all collections once per poll interval.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Passes a notice to the other nodes; the own node may hear it too. May be dropped half way. The engine calls it
    /// after the commit, never in the way of a write.
    async fn publish(&self, notice: Notice) -> Result<(), BrokerError>;

    /// The notices of other nodes, from now on. The stream reconnects by itself and ends only with the broker.
    async fn subscribe(&self) -> Result<BoxStream<'static, Notice>, BrokerError>;
}
