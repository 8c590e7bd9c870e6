//! The contract between a message broker and the engine.

use std::fmt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::broker::error::BrokerError;
use crate::broker::notification::Notification;

/// Carries notifications between nodes, so that a change reaches the subscribers of the other nodes at once.
///
/// A broker only affects speed. It may lose, repeat, reorder, delay or invent notifications. If it loses one, the other
/// nodes find the change when they read the heads of all collections, once per poll interval.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Sends a notification to the other nodes. This node may receive it too. It is no error if no node is subscribed.
    ///
    /// The engine calls it after the commit, from a task of its own, so that no write waits for it. The engine may drop
    /// the future at any time.
    async fn publish(&self, notification: Notification) -> Result<(), BrokerError>;

    /// Subscribes to the notifications that other nodes publish from now on.
    ///
    /// The stream must end when the connection is lost, also when the peer is silently dead. The engine then subscribes
    /// again, after a random delay that grows with each failure.
    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError>;
}
