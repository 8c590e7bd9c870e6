//! Notifications through a real Redis and a real PostgreSQL, which fail in several ways.

mod postgres;
mod redis;
mod redis_deployed;

use std::time::Duration;

use fieldsync::backend::{Broker, Notification};
use fieldsync::{Collection, Edit, Engine, MemoryStore, Subscription, Update};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::json;
use tokio::time::timeout;

use crate::proxy::{Network, Proxy};
use crate::tasks::within_limit;

fn notice(offset: u64) -> Notification {
    let collection = "notes".into();
    Notification {
        collection,
        epoch: 7,
        offset,
    }
}

/// Two nodes. The second subscribes, and subscribes again when its subscription ends, as the engine does.
struct Nodes {
    one: Box<dyn Broker>,
    two: Box<dyn Broker>,
    subscription: Option<BoxStream<'static, Notification>>,
}

impl Nodes {
    fn of(one: impl Broker, two: impl Broker) -> Self {
        Self {
            one: Box::new(one),
            two: Box::new(two),
            subscription: None,
        }
    }

    async fn receive(&mut self) -> Notification {
        loop {
            if let Some(subscription) = &mut self.subscription
                && let Some(notice) = subscription.next().await
            {
                return notice;
            }
            // The wait may be given up meanwhile, and a subscription that has ended must not be polled again.
            self.subscription = None;
            self.subscription = self.two.subscribe().await.ok();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the broker accepts a notification within the time that the engine allows.
    async fn publish(&self, offset: u64) -> bool {
        let published = timeout(Duration::from_secs(1), self.one.publish(notice(offset))).await;
        matches!(published, Ok(Ok(())))
    }

    /// Publishes until the second node receives one of the notifications. The first ones may be lost.
    async fn publish_until_received(&mut self, from: u64) {
        for offset in from..from + 600 {
            self.publish(offset).await;
            let received = timeout(Duration::from_millis(100), self.receive()).await;
            if received.is_ok_and(|notice| notice.offset >= from) {
                return;
            }
        }
        panic!("the second node receives no notification");
    }

    /// Checks that notifications come again after each network failure. The nodes use this network.
    async fn check_network_failures(mut self, proxy: &Proxy) {
        self.publish_until_received(1000).await;
        for (network, from) in [(Network::Blackhole, 2000), (Network::Refuses, 3000)] {
            proxy.set(network);
            assert!(!self.publish(0).await && !self.publish(0).await);
            proxy.set(Network::Works);
            self.publish_until_received(from).await;
        }
    }
}

async fn engine(store: &MemoryStore, broker: impl Broker) -> Engine {
    let notes =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    let notes = Collection::from_schema("notes", &notes).open_to_everyone();
    let builder = Engine::builder().collection(notes).store(store.clone());
    builder.broker(broker).start().await.unwrap()
}

/// Creates notes, numbered from 0.
async fn write(engine: &Engine, count: usize) {
    // Far less time than if each write waited for a broker that does not answer.
    let writes = async {
        for number in 0..count {
            let edit = Edit::create("notes", json!({"text": number.to_string()}));
            engine.transaction(vec![edit]).await.unwrap();
        }
    };
    within_limit("writes that do not wait for the broker", writes).await;
}

/// A subscription that is live.
async fn live(engine: &Engine) -> Subscription {
    let mut changes = engine.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    changes
}

/// Receives a number of notes, each once and in order.
async fn receive_all(mut changes: Subscription, count: usize) {
    let mut received = 0;
    while received < count {
        let update = within_limit("a change", changes.next()).await;
        let created: Vec<_> = match update.unwrap() {
            Update::Change { change, .. } => vec![change],
            Update::Changes { changes, .. } => changes,
            Update::Reset(reason) => panic!("reset: {reason}"),
            _ => Vec::new(),
        };
        for change in created {
            assert_eq!(change.fields["text"], received.to_string());
            received += 1;
        }
    }
}

/// Checks that forged notifications only make a node read its store.
async fn check_forged_notifications(one: impl Broker, two: impl Broker, forge: impl AsyncFn(&str)) {
    let store = MemoryStore::new();
    let (one, two) = (engine(&store, one).await, engine(&store, two).await);
    let changes = live(&two).await;
    let forger = async {
        for number in 0..500_u64 {
            for message in [
                format!("1 {} {} notes", u64::MAX - number, u64::MAX),
                format!("1 7 {number} notes"),
                "1 7 1 nothing".to_owned(),
                "2 future".to_owned(),
                "\u{1}\u{2}".repeat(100),
            ] {
                forge(&message).await;
            }
        }
    };
    tokio::join!(forger, write(&one, 200));
    receive_all(changes, 200).await;
}
