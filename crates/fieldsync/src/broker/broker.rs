//! The contract between a message broker and the engine.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::fmt;

use crate::broker::error::BrokerError;
use crate::broker::notification::Notification;

/// Carries notices between nodes.
///
/// Nothing depends on it but speed: a broker may lose, repeat, reorder, delay or invent notices. What it loses is found
/// by reading the heads of all collections once per poll interval.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Passes a notice to the other nodes; the own node may hear it too. May be dropped half way. The engine calls it
    /// after the commit, never in the way of a write.
    async fn publish(&self, notice: Notification) -> Result<(), BrokerError>;

    /// The notices of other nodes, from now on. The stream ends where the connection is lost, one that is dead without a
    /// word included: then the engine subscribes again, after a pause that grows and is drawn by lot.
    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError>;
}
