//! What a broker that has nothing to lose does with notices.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::tasks::spawn;
use crate::broker::broker::Broker;
use crate::broker::notification::Notification;

/// A broker for one test. What fails panics.
#[async_trait]
pub trait BrokerFixture: Send + Sync + Sized + 'static {
    /// Makes a broker that nobody else uses.
    async fn fresh() -> Self;

    /// Connects another node.
    async fn connect(&self) -> Arc<dyn Broker>;
}

fn notice(collection: &str, offset: u64) -> Notification {
    Notification {
        collection: collection.into(),
        epoch: u64::MAX - 1,
        offset,
    }
}

/// Waits until all these were heard; others, and the same again, are allowed.
async fn hear(notices: &mut BoxStream<'static, Notification>, mut expected: HashSet<Notification>) {
    while !expected.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(30), notices.next()).await;
        let notice = next.unwrap_or_else(|_| panic!("never heard: {expected:?}"));
        expected.remove(&notice.expect("the stream does not end before the broker"));
    }
}

pub async fn a_notification_reaches_the_other_nodes<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let (one, two, three) = tokio::join!(broker.connect(), broker.connect(), broker.connect());
    let mut heard_by_two = two.subscribe().await.expect("subscribe");
    let mut heard_by_three = three.subscribe().await.expect("subscribe");
    let sent = [notice("notes", 1), notice("naïve", i64::MAX as u64)];
    for notice in &sent {
        one.publish(notice.clone()).await.expect("publish");
    }
    hear(&mut heard_by_two, sent.clone().into()).await;
    hear(&mut heard_by_three, sent.into()).await;
}

pub async fn notifications_travel_in_both_directions<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let (one, two) = tokio::join!(broker.connect(), broker.connect());
    let mut heard_by_one = one.subscribe().await.expect("subscribe");
    let mut heard_by_two = two.subscribe().await.expect("subscribe");
    one.publish(notice("one", 1)).await.expect("publish");
    hear(&mut heard_by_two, [notice("one", 1)].into()).await;
    two.publish(notice("two", 2)).await.expect("publish");
    hear(&mut heard_by_one, [notice("two", 2)].into()).await;
}

pub async fn publishing_without_subscribers_succeeds<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let (one, two) = tokio::join!(broker.connect(), broker.connect());
    one.publish(notice("notes", 1)).await.expect("publish");
    drop(two.subscribe().await.expect("subscribe"));
    one.publish(notice("notes", 2)).await.expect("publish");
    // A subscriber hears what comes from now on.
    let mut heard = two.subscribe().await.expect("subscribe");
    one.publish(notice("notes", 3)).await.expect("publish");
    hear(&mut heard, [notice("notes", 3)].into()).await;
}

pub async fn many_nodes_can_publish_at_the_same_time<F: BrokerFixture>() {
    let broker = F::fresh().await;
    let listener = broker.connect().await;
    let mut heard = listener.subscribe().await.expect("subscribe");
    let mut expected = HashSet::new();
    let mut publishers = Vec::new();
    for publisher in 0..8 {
        let sent: Vec<Notification> = (0..50)
            .map(|offset| notice(&format!("notes{publisher}"), offset))
            .collect();
        expected.extend(sent.iter().cloned());
        let node = broker.connect().await;
        publishers.push(spawn(async move {
            for notice in sent {
                node.publish(notice).await.expect("publish");
            }
        }));
    }
    hear(&mut heard, expected).await;
    for publisher in publishers {
        publisher.await.expect("a publisher");
    }
}
