//! A PostgreSQL behind a network that drops requests or replies.

use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use fieldsync::{Collection, Edit, Engine, EngineError, Fields, Outcome, Subscription, Update};
use fieldsync_postgres::PostgresStore;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::cluster::{Cluster, cluster, connect, fresh_database};
use crate::proxy::{Network, Proxy};
use crate::tasks::within_limit;

/// Starts a proxy to the server of a URL, and returns it with the URL of the proxy.
async fn proxy(url: &str, port: u16) -> (Proxy, String) {
    let proxy = Proxy::to(port).await;
    let through = url.replace(&format!("127.0.0.1:{port}"), &proxy.address.to_string());
    (proxy, through)
}

async fn node(url: &str) -> Engine {
    node_on(PostgresStore::connect(url).await.unwrap()).await
}

async fn node_on(store: PostgresStore) -> Engine {
    let notes =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    let notes = Collection::from_schema("notes", &notes).open_to_everyone();
    let builder = Engine::builder().collection(notes).store(store);
    builder.start().await.unwrap()
}

async fn create(node: &Engine, number: u32) -> Result<Vec<Outcome>, EngineError> {
    let edit = Edit::create("notes", json!({"text": number.to_string()}));
    let edit = edit.with_idempotency_key(number.to_string());
    node.transaction(vec![edit]).await
}

async fn live(node: &Engine) -> Subscription {
    let mut changes = node.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    changes
}

async fn count(url: &str, table: &str) -> i64 {
    let sql = format!("select count(*) from {table}");
    let client = connect(url).await;
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

fn number_of(note: &Fields) -> u32 {
    note["text"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_a_node_recovers_when_the_network_to_its_database_does() {
    let url = fresh_database().await;
    let (proxy, through) = proxy(&url, cluster().port).await;
    let (node, other) = (node(&through).await, node(&url).await);
    let mut changes = live(&node).await;
    create(&node, 0).await.unwrap();

    proxy.set(Network::Blackhole);
    let begun = Instant::now();
    let edits = join_all((1..40).map(|number| create(&node, number)));
    let notes = node.collection::<Value>("notes");
    let reads = join_all((1..40).map(|_| notes.get(1)));
    let (edits, reads) = tokio::join!(edits, reads);
    assert!(edits.iter().all(Result::is_err) && reads.iter().all(Result::is_err));
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(45),
        "the last reply came after {took:?}"
    );
    create(&other, 40).await.unwrap();

    proxy.set(Network::Works);
    let begun = Instant::now();
    while create(&node, 1).await.is_err() {}
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "recovered after {took:?}");
    for number in 2..40 {
        create(&node, number).await.unwrap();
    }
    // The subscriber receives every change once, those of the other node too.
    let mut received = Vec::new();
    while received.len() < 41 {
        let update = within_limit("a change", changes.next()).await;
        let created = match update.unwrap() {
            Update::Change { change, .. } => vec![change],
            Update::Changes { changes, .. } => changes,
            Update::Reset(reason) => panic!("reset: {reason}"),
            _ => Vec::new(),
        };
        received.extend(created.iter().map(|change| number_of(&change.fields)));
    }
    received.sort_unstable();
    assert_eq!(received, (0..41).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn d_the_outcome_of_a_commit_without_a_reply_is_looked_up() {
    let url = fresh_database().await;
    let (proxy, through) = proxy(&url, cluster().port).await;
    let node = node(&through).await;
    let mut changes = live(&node).await;
    for number in 0..5 {
        proxy.cut_reply_to(b"commit\0");
        let (done, ()) = tokio::join!(create(&node, number), proxy.fault_triggered());
        assert!(matches!(done.unwrap()[..], [Outcome::Committed(_)]));
        let Some(Update::Change { change, .. }) = changes.next().await else {
            panic!("a change")
        };
        assert_eq!(number_of(&change.fields), number);
    }
    assert_eq!(count(&url, "fieldsync_changes").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_the_outcome_is_looked_up_with_a_pool_of_one_connection() {
    let url = fresh_database().await;
    let (proxy, through) = proxy(&url, cluster().port).await;
    let manager = Manager::new(through.parse().unwrap(), tokio_postgres::NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let node = node_on(PostgresStore::with_pool(pool)).await;
    for number in 0..5 {
        proxy.cut_reply_to(b"commit\0");
        let done = within_limit("the outcome of an edit", create(&node, number)).await;
        assert!(matches!(done.unwrap()[..], [Outcome::Committed(_)]));
        proxy.fault_triggered().await;
    }
    assert_eq!(count(&url, "notes").await, 5);
}

/// After a crash, PostgreSQL may give the id of a transaction that left no trace to a new one.
#[tokio::test(flavor = "multi_thread")]
async fn d_an_edit_that_a_crash_rolled_back_is_not_taken_for_the_one_that_got_its_transaction_id() {
    let mut cluster = Cluster::durable();
    let url = cluster.url("postgres");
    let (proxy, through) = proxy(&url, cluster.port).await;
    let (node, other) = (node(&through).await, node(&url).await);
    let admin = connect(&url).await;
    // Keeps the log of uncommitted transactions in the server's memory.
    let slowly = "alter system set wal_writer_delay = '10s'";
    admin.batch_execute(slowly).await.unwrap();
    admin
        .batch_execute("select pg_reload_conf()")
        .await
        .unwrap();
    create(&other, 0).await.unwrap();
    for number in 1..6 {
        proxy.blackhole_from(b"commit\0");
        let crash = async {
            proxy.fault_triggered().await;
            tokio::task::block_in_place(|| {
                cluster.stop_at_once();
                cluster.start_again();
            });
            for others in 0..20 {
                while create(&other, number * 1000 + others).await.is_err() {}
            }
        };
        let (done, ()) = tokio::join!(create(&node, number), crash);
        if let Ok(done) = done {
            assert!(matches!(done[..], [Outcome::Committed(_)]));
            let sql = format!("notes where text = '{number}'");
            assert_eq!(
                count(&url, &sql).await,
                1,
                "edit {number} was acknowledged, and is lost"
            );
        }
    }
}
