//! Notices on Redis.

use std::sync::Arc;

use async_trait::async_trait;
use fieldsync::conformance::BrokerFixture;
use fieldsync::{Broker, MemoryStore};
use fieldsync_redis::RedisBroker;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::demo::{Demo, Tally};
use crate::proxy::Proxy;
use crate::servers::{Redis, free_port};

use super::{Nodes, do_no_harm_when_forged, engine, hear_all, live, notice, write};

#[async_trait]
impl BrokerFixture for Redis {
    async fn fresh() -> Self {
        Self::start().await
    }

    async fn connect(&self) -> Arc<dyn Broker> {
        Arc::new(broker(&self.url()).await)
    }
}

mod broker {
    fieldsync::broker_tests!(super::Redis);
}

async fn broker(url: &str) -> RedisBroker {
    RedisBroker::connect(url).await.unwrap()
}

async fn nodes(url: &str) -> Nodes {
    Nodes::of(broker(url).await, broker(url).await)
}

#[tokio::test]
async fn b_a_redis_that_was_killed_is_found_again() {
    let mut redis = Redis::start().await;
    let mut nodes = nodes(&redis.url()).await;
    for round in 1..4 {
        nodes.publish_until_heard(round * 1000).await;
        redis.kill();
        assert!(!nodes.publish(0).await);
        redis.start_again().await;
    }
    nodes.publish_until_heard(10_000).await;
}

#[tokio::test]
async fn b_subscribers_that_redis_throws_out_come_back() {
    let redis = Redis::start().await;
    let mut nodes = nodes(&redis.url()).await;
    for round in 1..10 {
        redis.say(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        nodes.publish_until_heard(round * 1000).await;
    }
}

#[tokio::test]
async fn b_a_network_that_swallows_everything_is_noticed() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let nodes = nodes(&format!("redis://{}", proxy.address)).await;
    nodes.find_each_other_after_the_network_failed(&proxy).await;
}

#[tokio::test]
async fn b_it_starts_while_redis_is_away() {
    let port = free_port();
    let mut nodes = nodes(&format!("redis://127.0.0.1:{port}")).await;
    assert!(!nodes.publish(1).await);
    let mut redis = Redis::start().await;
    redis.kill();
    redis.port = port;
    redis.start_again().await;
    nodes.publish_until_heard(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_a_node_starts_while_redis_is_away_and_says_so_once() {
    let port = free_port();
    let broker = format!("redis://127.0.0.1:{port}");
    let tally = Tally::of(&["the broker"]);
    let node = Demo::node(&["--store", "memory:", "--broker", &broker], &tally);
    node.wait_to_say("the broker can't be reached");
    let user = reqwest::Client::new().post(node.url("/api/users/"));
    let created = user.json(&json!({"first_name": "Ada"})).send().await;
    assert_eq!(created.unwrap().status(), 201);
    let mut redis = Redis::start().await;
    redis.kill();
    redis.port = port;
    redis.start_again().await;
    node.wait_to_say("the broker is back");
    assert_eq!(tally.counts()[0].1, 2, "one line each");
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
    let shop = broker(&redis.url()).await.with_prefix("shop");
    let blog = broker(&redis.url()).await.with_prefix("blog");
    let mut heard = shop.subscribe().await.unwrap();
    blog.publish(notice(1)).await.unwrap();
    shop.publish(notice(2)).await.unwrap();
    assert_eq!(heard.next().await, Some(notice(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn b_forged_repeated_and_malformed_notices_do_no_harm() {
    let redis = Redis::start().await;
    let (one, two) = (broker(&redis.url()).await, broker(&redis.url()).await);
    let forge = async |message: &str| redis.say(&["PUBLISH", "fieldsync:notices", message]).await;
    do_no_harm_when_forged(one, two, forge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_writes_do_not_wait_for_a_redis_that_pauses() {
    let redis = Redis::start().await;
    let store = MemoryStore::new();
    let (one, two) = (broker(&redis.url()).await, broker(&redis.url()).await);
    let (one, two) = (engine(&store, one).await, engine(&store, two).await);
    let changes = live(&two).await;
    redis.say(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
    write(&one, 1000).await;
    // The poll finds what no notice told.
    hear_all(changes, 1000).await;
}
