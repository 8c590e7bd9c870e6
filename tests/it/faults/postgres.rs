//! A PostgreSQL behind a network that says nothing any more.

use std::time::{Duration, Instant};

use fieldsync::{Collection, Edit, Engine, EngineError, Fields, Outcome, Update};
use fieldsync_postgres::PostgresStore;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::{cluster, fresh_database};
use crate::proxy::{Network, Proxy};

async fn node(url: &str) -> Engine {
    let notes =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    let notes = Collection::from_schema("notes", &notes).open_to_everyone();
    let store = PostgresStore::connect(url).await.unwrap();
    let builder = Engine::builder().collection(notes).store(store);
    builder.start().await.unwrap()
}

async fn create(node: &Engine, number: u32) -> Result<Vec<Outcome>, EngineError> {
    let edit = Edit::create("notes", json!({"text": number.to_string()}));
    let edit = edit.with_idempotency_key(number.to_string());
    node.transaction(vec![edit]).await
}

fn number_of(note: &Fields) -> u32 {
    note["text"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn d_x_a_database_that_the_network_swallows_is_found_again() {
    let (url, port) = (fresh_database().await, cluster().port);
    let proxy = Proxy::to(port).await;
    let through = url.replace(&format!("127.0.0.1:{port}"), &proxy.address.to_string());
    let (node, other) = (node(&through).await, node(&url).await);
    let mut changes = node.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
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
