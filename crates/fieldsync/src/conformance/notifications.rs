//! How a broker delivers notifications while the network and its server work.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};

use super::tasks::spawn;
use crate::broker::broker::Broker;
use crate::broker::notification::Notification;

/// A broker for one test. A method that fails panics.
#[async_trait]
pub trait BrokerFixture: Send + Sync + Sized + 'static {
    /// Creates a broker that no other test uses.
    async fn fresh() -> Self;

    /// Connects another node.
    async fn connect(&self) -> Arc<dyn Broker>;
}

/// How long to wait for the next notification.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);

fn notification(collection: &str, offset: u64) -> Notification {
    Notification {
        collection: collection.into(),
        epoch: u64::MAX - 1,
        offset,
    }
}

/// Waits until the subscriber has received all these notifications. It may receive others, and each several times.
async fn receive_all(
    notifications: &mut BoxStream<'static, Notification>,
    mut expected: HashSet<Notification>,
) {
    while !expected.is_empty() {
        let next = tokio::time::timeout(RECEIVE_TIMEOUT, notifications.next()).await;
        let next = next.unwrap_or_else(|_| panic!("not received: {expected:?}"));
        expected.remove(&next.expect("the stream does not end while the connection lasts"));
    }
}

pub async fn a_notification_reaches_the_other_nodes<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let (one, two, three) = tokio::join!(broker.connect(), broker.connect(), broker.connect());
    let mut received_by_two = two.subscribe().await.expect("subscribe");
    let mut received_by_three = three.subscribe().await.expect("subscribe");
    let sent = [
        notification("notes", 1),
        notification("naïve", i64::MAX as u64),
    ];
    for notification in &sent {
        one.publish(notification.clone()).await.expect("publish");
    }
    receive_all(&mut received_by_two, sent.clone().into()).await;
    receive_all(&mut received_by_three, sent.into()).await;
}

pub async fn notifications_travel_in_both_directions<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let (one, two) = tokio::join!(broker.connect(), broker.connect());
    let mut received_by_one = one.subscribe().await.expect("subscribe");
    let mut received_by_two = two.subscribe().await.expect("subscribe");
    one.publish(notification("one", 1)).await.expect("publish");
    receive_all(&mut received_by_two, [notification("one", 1)].into()).await;
    two.publish(notification("two", 2)).await.expect("publish");
    receive_all(&mut received_by_one, [notification("two", 2)].into()).await;
}

pub async fn publishing_without_subscribers_succeeds<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let (one, two) = tokio::join!(broker.connect(), broker.connect());
    one.publish(notification("notes", 1))
        .await
        .expect("publish");
    drop(two.subscribe().await.expect("subscribe"));
    one.publish(notification("notes", 2))
        .await
        .expect("publish");
    // A subscriber receives what is published after it has subscribed.
    let mut received = two.subscribe().await.expect("subscribe");
    one.publish(notification("notes", 3))
        .await
        .expect("publish");
    receive_all(&mut received, [notification("notes", 3)].into()).await;
}

pub async fn many_nodes_can_publish_at_the_same_time<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let subscriber = broker.connect().await;
    let mut received = subscriber.subscribe().await.expect("subscribe");
    let mut expected = HashSet::new();
    let mut publishers = Vec::new();
    for publisher in 0..8 {
        let sent: Vec<Notification> = (0..50)
            .map(|offset| notification(&format!("notes{publisher}"), offset))
            .collect();
        expected.extend(sent.iter().cloned());
        let node = broker.connect().await;
        publishers.push(spawn(async move {
            for notification in sent {
                node.publish(notification).await.expect("publish");
            }
        }));
    }
    receive_all(&mut received, expected).await;
    for publisher in publishers {
        publisher.await.expect("the publisher does not fail");
    }
}

pub async fn a_dropped_publish_does_not_affect_later_ones<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let (one, two) = tokio::join!(broker.connect(), broker.connect());
    let mut received = two.subscribe().await.expect("subscribe");
    for offset in 0..50 {
        // The future is polled once.
        let _ = one.publish(notification("dropped", offset)).now_or_never();
    }
    one.publish(notification("notes", 1))
        .await
        .expect("publish");
    receive_all(&mut received, [notification("notes", 1)].into()).await;
}
