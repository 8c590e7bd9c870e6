//! Notifications through PostgreSQL's LISTEN and NOTIFY.

use std::sync::Arc;

use async_trait::async_trait;
use fieldsync::MemoryStore;
use fieldsync::backend::Broker;
use fieldsync::backend::conformance::BrokerFixture;
use fieldsync_postgres::PostgresBroker;
use futures_util::StreamExt as _;

use crate::cluster::{Cluster, cluster, connect, fresh_database};
use crate::proxy::{Network, Proxy};

use super::{Nodes, check_forged_notifications, engine, live, notice, receive_all, write};

struct Database(String);

#[async_trait]
impl BrokerFixture for Database {
    async fn fresh() -> Self {
        Self(fresh_database().await)
    }

    async fn connect(&self) -> Arc<dyn Broker> {
        Arc::new(broker(&self.0).await)
    }
}

mod broker {
    fieldsync::backend::broker_tests!(super::Database);
}

async fn broker(url: &str) -> PostgresBroker {
    PostgresBroker::connect(url).await.unwrap()
}

async fn nodes(url: &str) -> Nodes {
    Nodes::of(broker(url).await, broker(url).await)
}

#[tokio::test]
async fn b_the_broker_reconnects_to_a_database_that_was_stopped() {
    let mut cluster = Cluster::fast();
    let mut nodes = nodes(&cluster.url("postgres")).await;
    for round in 1..3 {
        nodes.publish_until_received(round * 1000).await;
        cluster.stop_at_once();
        assert!(!nodes.publish(0).await);
        cluster.start_again();
    }
    nodes.publish_until_received(10_000).await;
}

#[tokio::test]
async fn b_the_broker_reconnects_when_its_sessions_are_terminated() {
    let url = fresh_database().await;
    let mut nodes = nodes(&url).await;
    let admin = connect(&url).await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()";
    for round in 1..10 {
        admin.batch_execute(end).await.unwrap();
        nodes.publish_until_received(round * 1000).await;
    }
}

#[tokio::test]
async fn b_a_network_that_drops_everything_is_detected() {
    let url = fresh_database().await;
    let port = cluster().port;
    let proxy = Proxy::to(port).await;
    let through = url.replace(&format!("127.0.0.1:{port}"), &proxy.address.to_string());
    let nodes = nodes(&through).await;
    nodes.check_network_failures(&proxy).await;
}

#[tokio::test]
async fn b_the_broker_starts_while_the_database_is_down() {
    let mut cluster = Cluster::fast();
    cluster.stop_at_once();
    let mut nodes = nodes(&cluster.url("postgres")).await;
    assert!(!nodes.publish(1).await);
    cluster.start_again();
    nodes.publish_until_received(2).await;
}

#[tokio::test]
async fn apps_with_different_prefixes_do_not_receive_each_others_notifications() {
    let url = fresh_database().await;
    let shop = broker(&url).await.with_prefix("the \"shop\"; it's");
    let blog = broker(&url).await.with_prefix("blog");
    let mut notifications = shop.subscribe().await.unwrap();
    blog.publish(notice(1)).await.unwrap();
    shop.publish(notice(2)).await.unwrap();
    assert_eq!(notifications.next().await, Some(notice(2)));
    let endless = broker(&url).await.with_prefix(&"x".repeat(56));
    assert!(endless.subscribe().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn b_forged_repeated_and_malformed_notifications_do_no_harm() {
    let url = fresh_database().await;
    let (one, two) = (broker(&url).await, broker(&url).await);
    let forger = connect(&url).await;
    let forge = async |message: &str| {
        let sql = "select pg_notify('fieldsync:notices', $1)";
        forger.query(sql, &[&message]).await.unwrap();
    };
    check_forged_notifications(one, two, forge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_writes_do_not_wait_for_a_database_that_does_not_answer() {
    let url = fresh_database().await;
    let port = cluster().port;
    let proxy = Proxy::to(port).await;
    let through = url.replace(&format!("127.0.0.1:{port}"), &proxy.address.to_string());
    let store = MemoryStore::new();
    let (one, two) = (broker(&through).await, broker(&through).await);
    let (one, two) = (engine(&store, one).await, engine(&store, two).await);
    let changes = live(&two).await;
    proxy.set(Network::Blackhole);
    write(&one, 1000).await;
    // The poll finds the changes without a notification.
    receive_all(changes, 1000).await;
}
