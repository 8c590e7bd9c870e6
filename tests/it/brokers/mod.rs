//! Notices on a real Redis and a real PostgreSQL, whatever becomes of them.

mod postgres;
mod redis;

use std::time::Duration;

use fieldsync::{Broker, Collection, Edit, Engine, MemoryStore, Notice, Subscription, Update};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::json;
use tokio::time::timeout;

use crate::proxy::{Network, Proxy};

fn notice(offset: u64) -> Notice {
    let collection = "notes".into();
    Notice {
        collection,
        epoch: 7,
        offset,
    }
}

/// Two nodes, of which the second listens, and subscribes again whenever it must, as the engine does.
struct Nodes {
    one: Box<dyn Broker>,
    two: Box<dyn Broker>,
    heard: Option<BoxStream<'static, Notice>>,
}

impl Nodes {
    fn of(one: impl Broker, two: impl Broker) -> Self {
        Self {
            one: Box::new(one),
            two: Box::new(two),
            heard: None,
        }
    }

    async fn hear(&mut self) -> Notice {
        loop {
            if let Some(heard) = &mut self.heard
                && let Some(notice) = heard.next().await
            {
                return notice;
            }
            self.heard = self.two.subscribe().await.ok();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the broker takes a notice, within the time that the engine gives it.
    async fn publish(&self, offset: u64) -> bool {
        let published = timeout(Duration::from_secs(1), self.one.publish(notice(offset))).await;
        matches!(published, Ok(Ok(())))
    }

    /// Publishes until something of it is heard: what went before may be lost.
    async fn publish_until_heard(&mut self, from: u64) {
        for offset in from..from + 300 {
            self.publish(offset).await;
            let heard = timeout(Duration::from_millis(100), self.hear()).await;
            if heard.is_ok_and(|notice| notice.offset >= from) {
                return;
            }
        }
        panic!("nothing is heard any more");
    }

    /// The first node's network is this one.
    async fn find_each_other_after_the_network_failed(mut self, proxy: &Proxy) {
        self.publish_until_heard(1000).await;
        for (network, from) in [(Network::Swallows, 2000), (Network::Refuses, 3000)] {
            proxy.set(network);
            assert!(!self.publish(0).await && !self.publish(0).await);
            proxy.set(Network::Works);
            self.publish_until_heard(from).await;
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

async fn write(engine: &Engine, count: usize) {
    for number in 0..count {
        let edit = Edit::create("notes", json!({"text": number.to_string()}));
        let written = timeout(Duration::from_secs(10), engine.transaction(vec![edit]));
        written.await.expect("a write does not wait").unwrap();
    }
}

/// A subscription that has all there is.
async fn live(engine: &Engine) -> Subscription {
    let mut changes = engine.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    changes
}

/// Waits until so many notes were heard of, each once and in order.
async fn hear_all(mut changes: Subscription, count: usize) {
    let mut heard = 0;
    while heard < count {
        let update = timeout(Duration::from_secs(20), changes.next()).await;
        let created: Vec<_> = match update.unwrap().unwrap() {
            Update::Change { change, .. } => vec![change],
            Update::Changes { changes, .. } => changes,
            Update::Reset(reason) => panic!("reset: {reason}"),
            _ => Vec::new(),
        };
        for change in created {
            assert_eq!(change.fields["text"], heard.to_string());
            heard += 1;
        }
    }
}

/// Whoever can write to the channel can only have a node look at its store.
async fn do_no_harm_when_forged(one: impl Broker, two: impl Broker, forge: impl AsyncFn(&str)) {
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
    hear_all(changes, 200).await;
}
