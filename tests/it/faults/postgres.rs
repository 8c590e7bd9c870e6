//! A PostgreSQL behind a network that swallows what is sent, or the answer.

use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use fieldsync::{Collection, Edit, Engine, EngineError, Fields, Outcome, Subscription, Update};
use fieldsync_postgres::PostgresStore;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::{Cluster, cluster, connect, fresh_database};
use crate::proxy::{Network, Proxy};

/// A proxy to the server of a URL, and the URL through it.
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
async fn d_x_a_database_that_the_network_swallows_is_found_again() {
    let url = fresh_database().await;
    let (proxy, through) = proxy(&url, cluster().port).await;
    let (node, other) = (node(&through).await, node(&url).await);
    let mut changes = live(&node).await;
    create(&node, 0).await.unwrap();

    proxy.set(Network::Swallows);
    let begun = Instant::now();
    let edits = join_all((1..40).map(|number| create(&node, number)));
    let reads = join_all((1..40).map(|_| node.get::<Value>(("notes", 1))));
    let (edits, reads) = tokio::join!(edits, reads);
    assert!(edits.iter().all(Result::is_err) && reads.iter().all(Result::is_err));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "answered after {took:?}");
    create(&other, 40).await.unwrap();

    proxy.set(Network::Works);
    let begun = Instant::now();
    while create(&node, 1).await.is_err() {}
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(15), "healed after {took:?}");
    for number in 2..40 {
        create(&node, number).await.unwrap();
    }
    // Those who listen hear of all, what other nodes wrote included, and of each once.
    let mut heard = Vec::new();
    while heard.len() < 41 {
        let update = timeout(Duration::from_secs(20), changes.next()).await;
        let created = match update.unwrap().unwrap() {
            Update::Change { change, .. } => vec![change],
            Update::Changes { changes, .. } => changes,
            Update::Reset(reason) => panic!("reset: {reason}"),
            _ => Vec::new(),
        };
        heard.extend(created.iter().map(|change| number_of(&change.fields)));
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..41).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn d_an_edit_whose_commit_has_no_answer_is_looked_up() {
    let url = fresh_database().await;
    let (proxy, through) = proxy(&url, cluster().port).await;
    let node = node(&through).await;
    let mut changes = live(&node).await;
    for number in 0..5 {
        proxy.cut_answer_to(b"commit\0");
        let (done, ()) = tokio::join!(create(&node, number), proxy.words_came());
        assert!(matches!(done.unwrap()[..], [Outcome::Committed(_)]));
        let Some(Update::Change { change, .. }) = changes.next().await else {
            panic!("a change")
        };
        assert_eq!(number_of(&change.fields), number);
    }
    assert_eq!(count(&url, "fieldsync_changes").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_it_is_looked_up_where_the_pool_has_one_connection() {
    let url = fresh_database().await;
    let (proxy, through) = proxy(&url, cluster().port).await;
    let manager = Manager::new(through.parse().unwrap(), tokio_postgres::NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let node = node_on(PostgresStore::with_pool(pool)).await;
    for number in 0..5 {
        proxy.cut_answer_to(b"commit\0");
        let done = timeout(Duration::from_secs(20), create(&node, number));
        assert!(matches!(
            done.await.unwrap().unwrap()[..],
            [Outcome::Committed(_)]
        ));
        proxy.words_came().await;
    }
    assert_eq!(count(&url, "notes").await, 5);
}

/// A server that crashes gives the number of a transaction that left no trace to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn d_an_edit_that_a_crash_undid_is_not_taken_for_the_one_that_got_its_number() {
    let mut cluster = Cluster::durable();
    let url = cluster.url("postgres");
    let (proxy, through) = proxy(&url, cluster.port).await;
    let (node, other) = (node(&through).await, node(&url).await);
    let admin = connect(&url).await;
    // What is not committed shall be in the server's memory alone.
    let slowly = "alter system set wal_writer_delay = '10s'";
    admin.batch_execute(slowly).await.unwrap();
    admin
        .batch_execute("select pg_reload_conf()")
        .await
        .unwrap();
    create(&other, 0).await.unwrap();
    for number in 1..6 {
        proxy.swallow_from(b"commit\0");
        let crash = async {
            proxy.words_came().await;
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
                "{number} was acknowledged and is lost"
            );
        }
    }
}
