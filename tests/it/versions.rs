//! Two versions of an app at once, as during a rolling upgrade: the newer one has one more field.

use fieldsync::{Collection, Edit, Engine, Fields, Grant, Principal, Subscription, Update};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

async fn node(path: &std::path::Path, properties: Value) -> Engine {
    let schema = json!({"type": "object", "properties": properties});
    let notes = Collection::from_schema("notes", &schema)
        .add_missing_columns()
        .open_to_everyone();
    let store = SqliteStore::open(path).await.unwrap();
    let builder = Engine::builder().collection(notes).store(store);
    builder.start().await.unwrap()
}

async fn write(node: &Engine, edit: Edit) {
    node.transaction(vec![edit]).await.unwrap();
}

async fn live(node: &Engine) -> Subscription {
    let mut changes = node.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    changes
}

/// The fields of the first note that a subscriber received in a number of changes.
async fn after(changes: &mut Subscription, mut count: usize) -> Fields {
    let mut note = Fields::new();
    while count > 0 {
        let received = match changes.next().await.unwrap() {
            Update::Change { change, .. } => vec![change],
            Update::Changes { changes, .. } => changes,
            Update::Reset(reason) => panic!("reset: {reason}"),
            _ => Vec::new(),
        };
        count -= received.len();
        received
            .into_iter()
            .for_each(|change| note.extend(change.fields));
    }
    note
}

#[tokio::test(flavor = "multi_thread")]
async fn c_a_each_version_shows_only_its_own_fields_of_a_change_by_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let text = json!({"type": "string", "default": ""});
    let old = node(&path, json!({"text": text})).await;
    let new = node(
        &path,
        json!({"text": text, "mood": {"type": "string", "default": "calm"}}),
    )
    .await;
    let (mut at_old, mut at_new) = (live(&old).await, live(&new).await);

    write(&old, Edit::create("notes", json!({"text": "a"}))).await;
    assert_eq!(
        json!(after(&mut at_new, 1).await),
        json!({"text": "a", "mood": "calm"})
    );
    assert_eq!(json!(after(&mut at_old, 1).await), json!({"text": "a"}));

    write(
        &new,
        Edit::patch(("notes", 1), json!({"text": "b", "mood": "glad"})),
    )
    .await;
    assert_eq!(json!(after(&mut at_old, 1).await), json!({"text": "b"}));
    assert_eq!(
        json!(after(&mut at_new, 1).await),
        json!({"text": "b", "mood": "glad"})
    );

    // Neither version changes a field that it does not know.
    write(&old, Edit::patch(("notes", 1), json!({"text": "c"}))).await;
    assert_eq!(json!(after(&mut at_new, 1).await), json!({"text": "c"}));
    let note = new.collection::<Fields>("notes").get(1).await;
    let note = note.unwrap().unwrap();
    assert_eq!(note.fields["mood"], "glad");
}

#[tokio::test(flavor = "multi_thread")]
async fn c_a_field_that_one_version_does_not_know_is_kept_for_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let text = json!({"type": "string", "default": ""});
    let old = node(&path, json!({"text": text})).await;
    let mood = json!({"type": "string", "default": "calm"});
    let new = node(&path, json!({"text": text, "mood": mood})).await;
    let mut at_new = new.subscribe("notes", None).await.unwrap();
    let cursor = loop {
        if let Some(Update::Live { cursor }) = at_new.next().await {
            break cursor;
        }
    };
    let mut at_old = live(&old).await;
    write(
        &new,
        Edit::create("notes", json!({"text": "a", "mood": "glad"})),
    )
    .await;
    let mut seen = after(&mut at_new, 1).await;
    write(&old, Edit::patch(("notes", 1), json!({"text": "b"}))).await;
    seen.extend(after(&mut at_new, 1).await);
    assert_eq!(json!(seen), json!({"text": "b", "mood": "glad"}));
    // A subscriber that resumes receives the same.
    let mut resumed = new.subscribe("notes", Some(cursor)).await.unwrap();
    let seen = after(&mut resumed, 1).await;
    assert_eq!(json!(seen), json!({"text": "b", "mood": "glad"}));
    // The old version does not send a change of a field that it does not know: the next one is of the text.
    after(&mut at_old, 2).await;
    write(&new, Edit::patch(("notes", 1), json!({"mood": "sad"}))).await;
    write(&new, Edit::patch(("notes", 1), json!({"text": "c"}))).await;
    assert_eq!(json!(after(&mut at_old, 1).await), json!({"text": "c"}));
}

/// An older version brought the record into the view. Since then it has left the view, and a field that the older version did
/// not know has got a value.
#[tokio::test(flavor = "multi_thread")]
async fn a_a_change_by_the_other_version_shows_no_value_of_a_record_that_was_hidden_since() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let text = json!({"type": "string", "default": ""});
    let old = node(&path, json!({"owner": text})).await;
    let schema = json!({"type": "object", "properties": {"owner": text, "secret": text}});
    let owned = Grant::full().with_rows_fn("owner=bob", |note| note.fields["owner"] == "bob");
    let notes = Collection::from_schema("notes", &schema);
    let notes = notes
        .add_missing_columns()
        .authorize_fn(move |_, _| Ok(owned.clone()));
    let store = SqliteStore::open(&path).await.unwrap();
    let new = Engine::builder().collection(notes).store(store);
    let new = new.start().await.unwrap();
    let bob = new.on_behalf_of(Principal::named("bob"));

    write(&old, Edit::create("notes", json!({"owner": "eve"}))).await;
    let cursor = bob.list("notes", None, 10).await.unwrap().cursor;
    for owner in ["bob", "eve"] {
        write(&old, Edit::patch(("notes", 1), json!({"owner": owner}))).await;
    }
    write(&new, Edit::patch(("notes", 1), json!({"secret": "canary"}))).await;
    let mut missed = bob.subscribe("notes", Some(cursor)).await.unwrap();
    let mut received = Vec::new();
    loop {
        let update = missed.next().await.unwrap();
        received.push(format!("{update:?}"));
        if matches!(update, Update::Live { .. }) {
            break;
        }
    }
    assert!(!format!("{received:?}").contains("canary"), "{received:?}");
    // A record that enters the view and stays in it is whole.
    write(&old, Edit::patch(("notes", 1), json!({"owner": "bob"}))).await;
    let note = json!({"owner": "bob", "secret": "canary"});
    assert_eq!(json!(after(&mut missed, 1).await), note);
}
