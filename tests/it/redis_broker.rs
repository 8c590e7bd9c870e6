//! Notices on a real Redis, whatever becomes of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fieldsync::conformance::BrokerFixture;
use fieldsync::{Broker, Collection, Edit, Engine, MemoryStore, Notice};
use fieldsync_redis::RedisBroker;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::json;
use tokio::time::timeout;

use crate::proxy::{Network, Proxy};
use crate::servers::{Redis, free_port};

#[async_trait]
impl BrokerFixture for Redis {
    async fn fresh() -> Self {
        Self::start().await
    }

    async fn connect(&self) -> Arc<dyn Broker> {
        Arc::new(RedisBroker::connect(&self.url()).await.unwrap())
    }
}

mod broker {
    fieldsync::broker_tests!(super::Redis);
}

fn notice(offset: u64) -> Notice {
    let collection = "notes".into();
    Notice {
        collection,
        epoch: 7,
        offset,
    }
}

/// Publishes until something of it is heard: what went before may be lost.
async fn publish_until_heard(one: &RedisBroker, heard: &mut BoxStream<'static, Notice>, from: u64) {
    for offset in from..from + 300 {
        // While there is no Redis, that is an error.
        let _ = one.publish(notice(offset)).await;
        match timeout(Duration::from_millis(100), heard.next()).await {
            Ok(Some(notice)) if notice.offset >= from => return,
            _ => {}
        }
    }
    panic!("nothing is heard any more");
}

/// Two nodes, the first through a network that may fail, and what the second hears.
async fn nodes(url: &str) -> (RedisBroker, BoxStream<'static, Notice>) {
    let one = RedisBroker::connect(url).await.unwrap();
    let two = RedisBroker::connect(url).await.unwrap();
    let heard = two.subscribe().await.unwrap();
    (one, heard)
}

#[tokio::test]
async fn b_a_redis_that_was_killed_is_found_again() {
    let mut redis = Redis::start().await;
    let (one, mut heard) = nodes(&redis.url()).await;
    for round in 1..4 {
        publish_until_heard(&one, &mut heard, round * 1000).await;
        redis.kill();
        assert!(one.publish(notice(0)).await.is_err());
        redis.start_again().await;
    }
    publish_until_heard(&one, &mut heard, 10_000).await;
}

#[tokio::test]
async fn b_subscribers_that_redis_throws_out_come_back() {
    let redis = Redis::start().await;
    let (one, mut heard) = nodes(&redis.url()).await;
    for round in 1..10 {
        redis.say(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        publish_until_heard(&one, &mut heard, round * 1000).await;
    }
}

#[tokio::test]
async fn b_a_network_that_swallows_everything_is_noticed() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let (one, mut heard) = nodes(&format!("redis://{}", proxy.address)).await;
    publish_until_heard(&one, &mut heard, 1000).await;
    for (network, from) in [(Network::Swallows, 2000), (Network::Refuses, 3000)] {
        proxy.set(network);
        assert!(one.publish(notice(0)).await.is_err());
        assert!(one.publish(notice(0)).await.is_err());
        proxy.set(Network::Works);
        publish_until_heard(&one, &mut heard, from).await;
    }
}

#[tokio::test]
async fn b_it_starts_while_redis_is_away() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let (one, mut heard) = nodes(&url).await;
    assert!(one.publish(notice(1)).await.is_err());
    let mut redis = Redis::start().await;
    redis.kill();
    redis.port = port;
    redis.start_again().await;
    publish_until_heard(&one, &mut heard, 2).await;
}

#[tokio::test]
async fn what_is_no_url_is_refused() {
    for url in [
        "",
        "localhost",
        "http://127.0.0.1",
        "redis://127.0.0.1:99999",
    ] {
        assert!(RedisBroker::connect(url).await.is_err(), "{url}");
    }
}

#[tokio::test]
async fn apps_with_other_prefixes_do_not_hear_each_other() {
    let redis = Redis::start().await;
    let broker = async |prefix| {
        let broker = RedisBroker::connect(&redis.url()).await.unwrap();
        broker.with_prefix(prefix)
    };
    let (shop, blog) = (broker("shop").await, broker("blog").await);
    let mut heard = shop.subscribe().await.unwrap();
    blog.publish(notice(1)).await.unwrap();
    shop.publish(notice(2)).await.unwrap();
    assert_eq!(heard.next().await, Some(notice(2)));
}

async fn node(store: &MemoryStore, broker: RedisBroker) -> Engine {
    let notes =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    let notes = Collection::from_schema("notes", &notes).open_to_everyone();
    let builder = Engine::builder().collection(notes).store(store.clone());
    builder.broker(broker).start().await.unwrap()
}

/// Whoever can write to the channel can only have a node look at its store.
#[tokio::test(flavor = "multi_thread")]
async fn b_forged_repeated_and_malformed_notices_do_no_harm() {
    let redis = Redis::start().await;
    let store = MemoryStore::new();
    let broker = async || RedisBroker::connect(&redis.url()).await.unwrap();
    let (one, two) = (
        node(&store, broker().await).await,
        node(&store, broker().await).await,
    );
    let mut changes = live(&two).await;
    let forger = async {
        for number in 0..500_u64 {
            for message in [
                format!("1 {} {} notes", u64::MAX - number, u64::MAX),
                format!("1 7 {number} notes"),
                "1 7 1 nothing".to_owned(),
                "2 future".to_owned(),
                "\u{1}\u{2}".repeat(100),
            ] {
                redis.say(&["PUBLISH", "fieldsync:notices", &message]).await;
            }
        }
    };
    let writer = async {
        for number in 0..200 {
            let edit = Edit::create("notes", json!({"text": number.to_string()}));
            one.transaction(vec![edit]).await.unwrap();
        }
    };
    tokio::join!(forger, writer);
    // The other node's subscriber hears of each once, in order.
    let mut heard = 0;
    while heard < 200 {
        let update = timeout(Duration::from_secs(20), changes.next())
            .await
            .unwrap();
        heard += created(&update.unwrap(), heard);
    }
}

/// A subscription that has all there is.
async fn live(engine: &Engine) -> fieldsync::Subscription {
    let mut changes = engine.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(fieldsync::Update::Live { .. })) {}
    changes
}

/// How many of the next notes an update tells of.
fn created(update: &fieldsync::Update, from: usize) -> usize {
    let changes: Vec<_> = match update {
        fieldsync::Update::Change { change, .. } => vec![change],
        fieldsync::Update::Changes { changes, .. } => changes.iter().collect(),
        fieldsync::Update::Reset(reason) => panic!("reset: {reason}"),
        _ => Vec::new(),
    };
    for (number, change) in changes.iter().enumerate() {
        assert_eq!(change.fields["text"], (from + number).to_string());
    }
    changes.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn b_writes_do_not_wait_for_a_redis_that_pauses() {
    let redis = Redis::start().await;
    let store = MemoryStore::new();
    let broker = async || RedisBroker::connect(&redis.url()).await.unwrap();
    let (one, two) = (
        node(&store, broker().await).await,
        node(&store, broker().await).await,
    );
    let mut changes = live(&two).await;
    redis.say(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
    for number in 0..1000 {
        let edit = Edit::create("notes", json!({"text": number.to_string()}));
        let written = timeout(Duration::from_secs(10), one.transaction(vec![edit]));
        written.await.expect("a write does not wait").unwrap();
    }
    // The poll finds what no notice told.
    let mut heard = 0;
    while heard < 1000 {
        let update = timeout(Duration::from_secs(20), changes.next())
            .await
            .unwrap();
        heard += created(&update.unwrap(), heard);
    }
}
