//! Notifications through Redis.

use std::sync::Arc;

use async_trait::async_trait;
use fieldsync::MemoryStore;
use fieldsync::backend::Broker;
use fieldsync::backend::conformance::BrokerFixture;
use fieldsync_redis::RedisBroker;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::demo::{Demo, LogCounter};
use crate::proxy::Proxy;
use crate::servers::{Redis, free_port};

use super::{Nodes, check_forged_notifications, engine, live, notice, receive_all, write};

#[async_trait]
impl BrokerFixture for Redis {
    async fn fresh() -> Self {
        Self::start().await
    }

    async fn connect(&self) -> Arc<dyn Broker> {
        Arc::new(broker(&self.url()).await)
    }
}

/// The log lines of a node.
const DOWN: &str = "the broker can't be reached";
const UP: &str = "the broker is back";

mod broker {
    fieldsync::backend::broker_tests!(super::Redis);
}

async fn broker(url: &str) -> RedisBroker {
    RedisBroker::connect(url).await.unwrap()
}

async fn nodes(url: &str) -> Nodes {
    Nodes::of(broker(url).await, broker(url).await)
}

#[tokio::test]
async fn b_the_broker_reconnects_to_a_redis_that_was_killed() {
    let mut redis = Redis::start().await;
    let mut nodes = nodes(&redis.url()).await;
    for round in 1..4 {
        nodes.publish_until_received(round * 1000).await;
        redis.kill();
        assert!(!nodes.publish(0).await);
        redis.start_again().await;
    }
    nodes.publish_until_received(10_000).await;
}

#[tokio::test]
async fn b_the_broker_subscribes_again_when_redis_disconnects_subscribers() {
    let redis = Redis::start().await;
    let mut nodes = nodes(&redis.url()).await;
    for round in 1..10 {
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        nodes.publish_until_received(round * 1000).await;
    }
}

#[tokio::test]
async fn b_a_network_that_drops_everything_is_detected() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let nodes = nodes(&format!("redis://{}", proxy.address)).await;
    nodes.check_network_failures(&proxy).await;
}

#[tokio::test]
async fn b_the_broker_starts_while_redis_is_down() {
    let port = free_port();
    let mut nodes = nodes(&format!("redis://127.0.0.1:{port}")).await;
    assert!(!nodes.publish(1).await);
    let mut redis = Redis::start().await;
    redis.kill();
    redis.port = port;
    redis.start_again().await;
    nodes.publish_until_received(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_a_node_starts_while_redis_is_down_and_logs_that_once() {
    let port = free_port();
    let broker = format!("redis://127.0.0.1:{port}");
    let counter = LogCounter::of(&[DOWN, UP]);
    let node = Demo::node(&["--store", "memory:", "--broker", &broker], &counter);
    node.wait_for_log(DOWN);
    let user = reqwest::Client::new().post(node.url("/api/users/"));
    let created = user.json(&json!({"first_name": "Ada"})).send().await;
    assert_eq!(created.unwrap().status(), 201);
    let mut redis = Redis::start().await;
    redis.kill();
    redis.port = port;
    redis.start_again().await;
    node.wait_for_log(UP);
    assert_eq!(counter.counts(), [(DOWN, 1), (UP, 1)]);
}

#[tokio::test]
async fn a_malformed_url_is_refused() {
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
async fn apps_with_different_prefixes_do_not_receive_each_others_notifications() {
    let redis = Redis::start().await;
    let shop = broker(&redis.url()).await.with_prefix("shop");
    let blog = broker(&redis.url()).await.with_prefix("blog");
    let mut notifications = shop.subscribe().await.unwrap();
    blog.publish(notice(1)).await.unwrap();
    shop.publish(notice(2)).await.unwrap();
    assert_eq!(notifications.next().await, Some(notice(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn b_forged_repeated_and_malformed_notifications_do_no_harm() {
    let redis = Redis::start().await;
    let (one, two) = (broker(&redis.url()).await, broker(&redis.url()).await);
    let forge = async |message: &str| {
        let publish = ["PUBLISH", "fieldsync:notices", message];
        redis.command(&publish).await;
    };
    check_forged_notifications(one, two, forge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_writes_do_not_wait_for_a_redis_that_is_paused() {
    let redis = Redis::start().await;
    let store = MemoryStore::new();
    let (one, two) = (broker(&redis.url()).await, broker(&redis.url()).await);
    let (one, two) = (engine(&store, one).await, engine(&store, two).await);
    let changes = live(&two).await;
    redis.command(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
    write(&one, 1000).await;
    // The poll finds the changes without a notification.
    receive_all(changes, 1000).await;
}
