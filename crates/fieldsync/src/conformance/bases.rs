//! An edit with a base is refused if a field that it sets has changed since the base.

use serde_json::{Value, json};

use super::Fixture;
use super::node::{Node, database_with_notes, note, notes};

use crate::model::cursor::{Cursor, Position, Shape};
use crate::model::edit::Edit;
use crate::model::record::RecordId;
use crate::model::refusal::{FieldConflict, Refusal};
use crate::write::batch::MAX_BASE_DISTANCE;

fn patch(id: &RecordId, patch: Value, base: Position) -> Edit {
    let cursor = Cursor {
        position: base,
        shape: Shape { schema: 0, view: 0 },
    };
    Edit::patch(note(id), patch).with_base(cursor)
}

fn conflict(refusal: &Refusal, field: &str) -> FieldConflict {
    match refusal {
        Refusal::ChangedSinceBase(conflicts) => {
            assert_eq!(conflicts.keys().collect::<Vec<_>>(), [field]);
            conflicts[field].clone()
        }
        other => panic!("expected a conflict with a change since the base: {other:?}"),
    }
}

pub async fn an_edit_is_applied_if_its_fields_have_not_changed_since_its_base<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a", "body": "a"})).await;
    let other = Node::start(&database, [notes()]).await;
    let other_note = node.create(json!({"title": "n"})).await;
    let base = node.head("notes").await;
    other
        .edit(Edit::patch(note(&id), json!({"body": "b"})))
        .await;
    other
        .edit(Edit::patch(note(other_note), json!({"title": "m"})))
        .await;
    node.edit(patch(&id, json!({"title": "b"}), base)).await;
    assert_eq!(node.field(id.clone(), "title").await, "b");
    // Nothing has changed since the end of the log.
    node.edit(patch(
        &id,
        json!({"title": "c", "body": "c"}),
        node.head("notes").await,
    ))
    .await;
}

pub async fn an_edit_of_a_field_that_has_changed_since_its_base_is_refused<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a", "body": "a"})).await;
    let other = Node::start(&database, [notes()]).await;
    let base = node.head("notes").await;
    other
        .edit(Edit::patch(note(&id), json!({"title": "b"})))
        .await;
    other
        .edit(Edit::patch(note(&id), json!({"title": "c"})))
        .await;
    let refusal = node
        .try_edit(patch(&id, json!({"title": "mine", "body": "mine"}), base))
        .await;
    let expected = FieldConflict {
        base: Some(json!("a")),
        mine: Some(json!("mine")),
        theirs: Some(json!("c")),
    };
    assert_eq!(
        conflict(&refusal.expect_err("the title has changed"), "title"),
        expected
    );
    assert_eq!(node.field(id.clone(), "body").await, "a");
    // A field that was changed back counts as changed.
    other
        .edit(Edit::patch(note(&id), json!({"title": "a"})))
        .await;
    let refusal = node
        .try_edit(patch(&id, json!({"title": "mine"}), base))
        .await;
    assert_eq!(
        conflict(&refusal.expect_err("the title has changed"), "title").theirs,
        Some(json!("a"))
    );
}

pub async fn of_edits_with_the_same_base_in_a_batch_the_first_is_applied<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a", "body": "a"})).await;
    let base = node.head("notes").await;
    let edits = ["b", "c"].map(|title| vec![patch(&id, json!({"title": title}), base)]);
    let other_field = vec![patch(&id, json!({"body": "b"}), base)];
    let results = node
        .commit(edits.into_iter().chain([other_field]).collect())
        .await;
    assert!(results[0].is_ok() && results[2].is_ok());
    let refused = results[1]
        .as_ref()
        .expect_err("the first edit changed the title");
    let expected = FieldConflict {
        base: Some(json!("a")),
        mine: Some(json!("c")),
        theirs: Some(json!("b")),
    };
    assert_eq!(conflict(&refused.refusal, "title"), expected);
}

pub async fn an_edit_whose_base_is_not_in_the_log_is_refused<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let head = node.head("notes").await;
    for base in [
        Position {
            epoch: head.epoch ^ 1,
            ..head
        },
        Position {
            offset: head.offset + 1,
            ..head
        },
        Position {
            tag: head.tag ^ 1,
            ..head
        },
    ] {
        let refusal = node.try_edit(patch(&id, json!({"title": "b"}), base)).await;
        let Err(Refusal::BaseUnknown { current }) = refusal else {
            panic!("{refusal:?}")
        };
        assert_eq!(current["title"], "a");
    }
    assert_eq!(node.head("notes").await, head);
}

pub async fn an_edit_whose_base_is_too_far_back_is_refused<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let other = node.create(json!({"title": "b"})).await;
    let base = node.head("notes").await;
    for _ in 0..MAX_BASE_DISTANCE / 500 {
        let refreshes = (0..500).map(|_| Edit::refresh(note(other.clone())));
        node.commit(vec![refreshes.collect()]).await;
    }
    node.edit(patch(&id, json!({"title": "c"}), base)).await;
    let refusal = node.try_edit(patch(&id, json!({"title": "d"}), base)).await;
    assert!(
        matches!(refusal, Err(Refusal::BaseUnknown { .. })),
        "{refusal:?}"
    );
}
