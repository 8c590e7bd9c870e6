//! The log grows with what changes, and not with large values that stay the same.

use std::time::Duration;

use fieldsync::backend::Store;
use fieldsync::{Collection, Cursor, Edit, Engine, Fields, RecordKey, Subscription, Update};
use fieldsync_postgres::PostgresStore;
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::tasks::within_limit;

const PATCHES: i64 = 300;

/// What another program runs.
const UPDATE: &str = "update notes set stars = stars + 1";

async fn node(store: impl Store) -> Engine {
    let properties = json!({
        "text": {"type": "string", "default": ""},
        "stars": {"type": "integer", "default": 0},
    });
    let schema = json!({"type": "object", "properties": properties});
    let notes = Collection::from_schema("notes", &schema).open_to_everyone();
    let builder = Engine::builder().collection(notes).store(store);
    let builder = builder.poll_interval(Duration::from_millis(50));
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_edit_of_a_large_record_adds_little_to_the_log_of_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = async || SqliteStore::open(&path).await.unwrap();
    let update = async || {
        let database = rusqlite::Connection::open(&path).unwrap();
        database.busy_timeout(Duration::from_secs(20)).unwrap();
        database.execute_batch(UPDATE).unwrap();
    };
    check_subscribers(
        [node(store().await).await, node(store().await).await],
        update,
    )
    .await;
    let sql = "select sum(length(after) + length(former)) from fieldsync_changes";
    let database = rusqlite::Connection::open(&path).unwrap();
    let bytes: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(bytes < 200_000, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_edit_of_a_large_record_adds_little_to_the_log_of_postgresql() {
    let url = crate::cluster::fresh_database().await;
    let store = async || PostgresStore::connect(&url).await.unwrap();
    let update = async || {
        let client = crate::cluster::connect(&url).await;
        client.batch_execute(UPDATE).await.unwrap();
    };
    check_subscribers(
        [node(store().await).await, node(store().await).await],
        update,
    )
    .await;
    let sql = "select sum(octet_length(after) + octet_length(former)) from fieldsync_changes";
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let bytes: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(bytes < 200_000, "{bytes}");
}

/// Edits a small field of a large record, and lets another program write it. Subscribers of both nodes receive whole records.
async fn check_subscribers([one, two]: [Engine; 2], update: impl AsyncFn()) {
    let text = "x".repeat(20_000);
    let create = Edit::create("notes", json!({"text": text}));
    let created = one.transaction(vec![create]).await.unwrap().remove(0);
    let (mut at_one, cursor) = live(&one, None).await;
    let (mut at_two, _) = live(&two, None).await;
    for stars in 1..=PATCHES {
        let key = RecordKey::new("notes", created.id());
        let patch = Edit::patch(key, json!({"stars": stars}));
        one.transaction(vec![patch]).await.unwrap();
    }
    let mut expected = Fields::new();
    expected.insert("text".into(), text.into());
    expected.insert("stars".into(), PATCHES.into());
    for subscription in [&mut at_one, &mut at_two] {
        assert!(record_with(subscription, PATCHES).await == expected);
    }
    for stars in PATCHES + 1..=PATCHES + 30 {
        update().await;
        expected.insert("stars".into(), stars.into());
        for subscription in [&mut at_one, &mut at_two] {
            assert!(record_with(subscription, stars).await == expected);
        }
    }
    for node in [&one, &two] {
        let resumed = node.subscribe("notes", Some(cursor)).await;
        assert!(record_with(&mut resumed.unwrap(), PATCHES + 30).await == expected);
    }
}

/// A subscription that is live, and its cursor.
async fn live(node: &Engine, since: Option<Cursor>) -> (Subscription, Cursor) {
    let mut subscription = node.subscribe("notes", since).await.unwrap();
    loop {
        if let Some(Update::Live { cursor }) = subscription.next().await {
            return (subscription, cursor);
        }
    }
}

/// The record as the edit to this number left it. Each change before it has a whole record, too.
async fn record_with(subscription: &mut Subscription, stars: i64) -> Fields {
    loop {
        let update = within_limit("a change", subscription.next()).await;
        let changes = match update.unwrap() {
            Update::Change { change, .. } => vec![change],
            Update::Changes { changes, .. } => changes,
            _ => continue,
        };
        for change in changes {
            assert_eq!(change.fields.keys().collect::<Vec<_>>(), ["stars"]);
            assert!(change.record.contains_key("text"));
            if change.record["stars"] == stars {
                return change.record;
            }
        }
    }
}
