//! Single edits. Each logs exactly one change, or none if it changes nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Fixture;
use super::node::{Node, ada, committed, database_with_notes, fields, note, notes};
use super::tasks::spawn;

use crate::model::change::{Action, Change};
use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::record::{Fields, RecordKey};
use crate::model::refusal::Refusal;
use crate::model::timestamp::Timestamp;

pub async fn a_create_logs_one_change<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let (before, edit) = (
        Timestamp::now(),
        Edit::create("notes", json!({"title": "a"})),
    );
    let change = node.change(edit.with_idempotency_key("k1")).await;
    check(&node, &change, before, Some("k1")).await;
    assert_eq!(
        (change.action, &change.previous),
        (Action::Create, &Fields::new())
    );
    for (name, value) in [
        ("title", json!("a")),
        ("stars", json!(0)),
        ("mood", Value::Null),
    ] {
        assert_eq!(change.after[name], value);
    }
    assert_eq!(change.after["created_at"], change.after["updated_at"]);
}

pub async fn a_patch_logs_one_change_with_the_previous_values<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let created = node
        .change(Edit::create("notes", json!({"title": "a", "stars": 1})))
        .await;
    let (before, key) = (Timestamp::now(), created.key.clone());
    let change = node
        .change(Edit::patch(
            key,
            json!({"title": "b", "stars": 1, "mood": "calm"}),
        ))
        .await;
    check(&node, &change, before, None).await;
    assert_eq!(change.action, Action::Update);
    let updated_at = &created.after["updated_at"];
    let previous = fields(json!({"title": "a", "mood": null, "updated_at": updated_at}));
    assert_eq!(change.previous, previous);
    assert_eq!(change.after["title"], "b");
    assert_eq!(change.after["created_at"], created.after["created_at"]);
    assert_eq!(node.log("notes").await.len(), 2);
}

#[derive(Serialize, Deserialize)]
struct Stars {
    stars: u32,
}

/// Adds a star to a record, by a closure.
pub(super) fn add_star(key: RecordKey) -> Edit {
    Edit::update(key, |record: &mut Stars| record.stars += 1)
}

pub async fn an_update_logs_only_the_fields_that_its_closure_changed<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a", "stars": 6})).await;
    let before = Timestamp::now();
    let change = node.change(add_star(note(&id))).await;
    check(&node, &change, before, None).await;
    assert_eq!(
        (change.action, &change.previous["stars"]),
        (Action::Update, &json!(6))
    );
    assert_eq!(
        (&change.after["stars"], &change.after["title"]),
        (&json!(7), &json!("a"))
    );
    assert!(!change.previous.contains_key("title"));
}

pub async fn a_delete_logs_the_whole_previous_record<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let created = node
        .change(Edit::create("notes", json!({"title": "a"})))
        .await;
    let before = Timestamp::now();
    let change = node.change(Edit::delete(created.key.clone())).await;
    check(&node, &change, before, None).await;
    assert_eq!(
        (change.action, &change.previous),
        (Action::Delete, &created.after)
    );
    assert_eq!(node.list("notes").await, []);
    let again = node.try_edit(Edit::delete(created.key.clone())).await;
    assert_eq!(
        again.expect_err("the record was deleted"),
        Refusal::NotFound(created.key.clone())
    );
}

pub async fn a_refresh_logs_what_another_program_wrote<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let row = fields(json!({"title": "external"}));
    database
        .write_externally("notes", id.clone(), Some(row))
        .await;
    let before = Timestamp::now();
    let change = node.change(Edit::refresh(note(&id))).await;
    check(&node, &change, before, None).await;
    assert_eq!(change.action, Action::Update);
    // Unknown, unless the table has capture.
    if !change.previous.is_empty() {
        assert_eq!(change.previous, fields(json!({"title": "a"})));
    }
    assert_eq!(change.after["title"], "external");
}

pub async fn a_refresh_of_a_row_that_another_program_deleted_logs_a_delete<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    database.write_externally("notes", id.clone(), None).await;
    let before = Timestamp::now();
    let change = node.change(Edit::refresh(note(&id))).await;
    check(&node, &change, before, None).await;
    assert_eq!(change.action, Action::Delete);
}

/// Checks that the change is the last of the log, is logged once, and names its author. It must contain the record as it
/// is read.
async fn check(node: &Node, change: &Change, before: Timestamp, key: Option<&str>) {
    let log = node.log("notes").await;
    assert_eq!(log.last(), Some(change));
    assert_eq!(
        log.iter()
            .filter(|one| one.position == change.position)
            .count(),
        1
    );
    assert_eq!(change.position, node.head("notes").await);
    assert_eq!(
        (change.who.as_deref(), change.idempotency_key.as_deref()),
        (ada().name(), key)
    );
    assert!(before <= change.at && change.at <= Timestamp::now());
    let record = node.get(&change.key).await;
    assert_eq!(Outcome::Committed(change.clone().into()).record(), record);
    assert_eq!(record.is_none(), change.after.is_empty());
}

pub async fn an_edit_that_changes_nothing_logs_nothing<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let before = (node.get(&note(&id)).await, node.head("notes").await);
    let Outcome::Unchanged {
        record, position, ..
    } = node
        .edit(Edit::patch(note(&id), json!({"title": "a"})))
        .await
    else {
        panic!("the edit changes nothing");
    };
    assert_eq!((record, position), before);
    // The record is the same, including `updated_at`.
    assert_eq!(
        (node.get(&note(&id)).await, node.head("notes").await),
        before
    );
}

pub async fn an_edit_that_changes_nothing_stores_its_key<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    node.create(json!({})).await;
    let edit = Edit::patch(note(&id), json!({"title": "a"})).with_idempotency_key("k");
    let first = node.edit(edit.clone()).await;
    node.edit(Edit::patch(note(&id), json!({"title": "b"})))
        .await;
    let again = node.edit(edit).await;
    assert!(matches!(again, Outcome::Replayed { .. }), "{again:?}");
    assert_eq!(again.position(), first.position());
    // The edit has no change of its own, so that the record is the current one.
    assert_eq!(again.record(), node.get(&note(&id)).await);
    assert_eq!(node.field(id, "title").await, "b");
}

pub async fn concurrent_edits_of_different_fields_all_survive<F: Fixture>() {
    const EDITS: i64 = 1000;
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"stars": 0})).await;
    let counting = node.clone();
    let value = id.clone();
    let counter = spawn(async move {
        for _ in 0..EDITS {
            committed(counting.edit(add_star(note(&value))).await);
        }
    });
    let other = Node::start(&database, [notes()]).await;
    let value = id.clone();
    let writer = spawn(async move {
        for edit in 1..=EDITS {
            let patch = json!({"title": edit.to_string(), "body": edit.to_string()});
            let change = other.change(Edit::patch(note(&value), patch)).await;
            assert_eq!(change.after["title"], edit.to_string());
            assert_eq!(
                change.previous["title"],
                if edit == 1 {
                    String::new()
                } else {
                    (edit - 1).to_string()
                }
            );
            assert!(
                !change.previous.contains_key("stars"),
                "the edit did not set this field"
            );
        }
    });
    counter.await.expect("the counter does not fail");
    writer.await.expect("the writer does not fail");
    assert_eq!(node.field(id.clone(), "stars").await, EDITS);
    assert_eq!(node.field(id, "title").await, EDITS.to_string());
    assert_eq!(node.head("notes").await.offset, 1 + 2 * EDITS as u64);
}

/// The closure runs inside the transaction, on the current row.
pub async fn concurrent_updates_by_closure_all_count<F: Fixture>() {
    const EDITS: i64 = 300;
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"stars": 0})).await;
    let other = Node::start(&database, [notes()]).await;
    let counters = [node.clone(), node.clone(), other].map(|counting| {
        spawn({
            let value = id.clone();
            async move {
                for _ in 0..EDITS {
                    let change = counting.change(add_star(note(&value))).await;
                    let (before, after) = (&change.previous["stars"], &change.after["stars"]);
                    assert_eq!(before.as_i64().map(|stars| stars + 1), after.as_i64());
                }
            }
        })
    });
    for counter in counters {
        counter.await.expect("the counter does not fail");
    }
    assert_eq!(node.field(id, "stars").await, 3 * EDITS);
}

/// Another program writes a field while a node edits another field of the same record.
pub async fn an_update_writes_only_the_columns_that_change<F: Fixture>() {
    const EDITS: i64 = 50;
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "0", "stars": 0})).await;
    let counting = node.clone();
    let value = id.clone();
    let counter = spawn(async move {
        for _ in 0..EDITS {
            counting.edit(add_star(note(&value))).await;
        }
    });
    for title in 1..=EDITS {
        let row = fields(json!({"title": title.to_string()}));
        database
            .write_externally("notes", id.clone(), Some(row))
            .await;
        assert_eq!(node.field(id.clone(), "title").await, title.to_string());
    }
    counter.await.expect("the counter does not fail");
    assert_eq!(node.field(id.clone(), "title").await, EDITS.to_string());
    assert_eq!(node.field(id, "stars").await, EDITS);
}

pub async fn ids_are_never_reused<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let first = node.create(json!({})).await;
    let newest = node.create(json!({})).await;
    node.edit(Edit::delete(note(newest.clone()))).await;
    drop(node);
    let node = Node::start(&database, [notes()]).await;
    let next = node.create(json!({})).await;
    assert!(next != newest && next != first, "{next:?} was used before");
    node.edit(Edit::delete(note(next.clone()))).await;
    node.edit(Edit::delete(note(&first))).await;
    let last = node.create(json!({})).await;
    assert!(
        ![first, newest, next].contains(&last),
        "{last:?} was used before"
    );
}
