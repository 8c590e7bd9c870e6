//! A constraint of the database refuses only the group that violates it, and the refusal names the field.

use std::sync::Arc;

use serde_json::json;

use super::node::{Node, note};
use super::{Column, Constraint, Constraints, Fixture, Table};

use crate::model::edit::Edit;
use crate::model::record::RecordKey;
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::foreign_key::ForeignKey;
use crate::write::batch::GroupResult;

/// Notes in a table with a column for each kind of constraint.
async fn constrained<F: Fixture>() -> (F, Node) {
    let database = F::fresh().await;
    let title = Column::text("title").with_default("");
    database.create_table(Table::new("folders", [title])).await;
    let columns = [
        Column::text("slug").constrained(Constraint::Unique),
        Column::integer("stars")
            .with_default(0)
            .constrained(Constraint::AtLeast(0)),
        Column::integer("folder")
            .nullable()
            .constrained(Constraint::References("folders".into())),
    ];
    database.create_table(Table::new("notes", columns)).await;
    let properties = json!({
        "slug": {"type": "string"},
        "stars": {"type": "integer", "default": 0},
        "folder": {"type": ["integer", "null"]},
    });
    let schema = json!({"type": "object", "properties": properties, "required": ["slug"]});
    let notes = Collection::from_schema("notes", &schema).without_capture();
    let schema =
        json!({"type": "object", "properties": {"title": {"type": "string", "default": ""}}});
    let folders = Collection::from_schema("folders", &schema).without_capture();
    let collections: [Arc<Collection>; 2] = [notes.into(), folders.into()];
    let node = Node::start(&database, collections).await;
    (database, node)
}

fn create(slug: &str) -> Edit {
    Edit::create("notes", json!({"slug": slug}))
}

/// Checks that the database refused this edit because of this field, or nothing if it has no constraints.
#[track_caller]
fn check<F: Fixture>(
    result: &GroupResult,
    edit: usize,
    field: &str,
    is_kind: fn(&Refusal) -> bool,
) {
    match (F::CONSTRAINTS, result) {
        (Constraints::Absent, Ok(_)) => {}
        (Constraints::Enforced, Err(refused)) => {
            assert_eq!(
                refused.edit, edit,
                "the refusal names the edit that violates the constraint"
            );
            let (Refusal::Conflict(errors) | Refusal::Invalid(errors)) = &refused.refusal else {
                panic!("refused for another reason: {refused:?}");
            };
            assert!(is_kind(&refused.refusal), "{refused:?}");
            let fields: Vec<_> = errors.iter().map(|(field, _)| field).collect();
            assert_eq!(fields, [field]);
        }
        (constraints, result) => panic!("constraints: {constraints:?}, result: {result:?}"),
    }
}

fn conflict(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Conflict(_))
}

fn invalid(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Invalid(_))
}

pub async fn a_create_that_violates_a_unique_constraint_is_a_conflict<F: Fixture>() {
    let (_database, node) = constrained::<F>().await;
    let results = node
        .commit(vec![
            vec![create("a")],
            vec![create("b"), create("a")],
            vec![create("c")],
        ])
        .await;
    assert!(
        results[0].is_ok() && results[2].is_ok(),
        "the other groups commit: {results:?}"
    );
    check::<F>(&results[1], 1, "slug", conflict);
    let expected = match F::CONSTRAINTS {
        Constraints::Enforced => 2,
        Constraints::Absent => 4,
    };
    assert_eq!(
        node.list("notes").await.len(),
        expected,
        "a group is applied as a whole or not at all"
    );
    let offsets: Vec<u64> = node
        .log("notes")
        .await
        .iter()
        .map(|change| change.position.offset)
        .collect();
    assert_eq!(
        offsets,
        (1..=expected as u64).collect::<Vec<_>>(),
        "the log has no gap"
    );
}

pub async fn an_update_that_violates_a_unique_constraint_is_a_conflict<F: Fixture>() {
    let (_database, node) = constrained::<F>().await;
    let a = node.change(create("a")).await.key.clone();
    let b = node.change(create("b")).await.key.clone();
    let results = node
        .commit(vec![
            vec![Edit::patch(b.clone(), json!({"slug": "a"})).with_idempotency_key("k")],
            vec![Edit::patch(a, json!({"stars": 1}))],
        ])
        .await;
    check::<F>(&results[0], 0, "slug", conflict);
    assert!(results[1].is_ok(), "the other groups commit: {results:?}");
    if F::CONSTRAINTS == Constraints::Enforced {
        assert_eq!(node.field(b.id.clone(), "slug").await, "b");
        // The key of a refused edit is not stored.
        node.change(Edit::patch(b, json!({"slug": "c"})).with_idempotency_key("k"))
            .await;
    }
}

pub async fn a_violated_check_constraint_is_invalid<F: Fixture>() {
    let (_database, node) = constrained::<F>().await;
    let id = node.change(create("a")).await.key.id.clone();
    let results = node
        .commit(vec![
            vec![Edit::patch(note(&id), json!({"stars": -1}))],
            vec![create("b")],
        ])
        .await;
    check::<F>(&results[0], 0, "stars", invalid);
    assert!(results[1].is_ok(), "the other groups commit: {results:?}");
}

pub async fn a_reference_to_a_missing_record_is_a_conflict<F: Fixture>() {
    let (_database, node) = constrained::<F>().await;
    let folder = node
        .change(Edit::create("folders", json!({})))
        .await
        .key
        .id
        .clone();
    let to = |folder| {
        vec![Edit::create(
            "notes",
            json!({"slug": format!("{folder}"), "folder": folder}),
        )]
    };
    let missing = json!(987_654);
    let results = node.commit(vec![to(missing), to(json!(folder))]).await;
    // Not every database reports the column of the reference. The collection has only one.
    check::<F>(&results[0], 0, "folder", conflict);
    assert!(results[1].is_ok(), "the other groups commit: {results:?}");
}

pub async fn deleting_a_referenced_record_is_a_conflict<F: Fixture>() {
    let (_database, node) = constrained::<F>().await;
    let folder = node
        .change(Edit::create("folders", json!({})))
        .await
        .key
        .id
        .clone();
    node.edit(Edit::create(
        "notes",
        json!({"slug": "a", "folder": folder}),
    ))
    .await;
    let key = RecordKey::new("folders", folder);
    let refused = node.try_edit(Edit::delete(key.clone())).await;
    match (F::CONSTRAINTS, refused) {
        (Constraints::Absent, Ok(_)) => assert_eq!(node.get(&key).await, None),
        (Constraints::Enforced, Err(Refusal::Conflict(_))) => {
            assert!(node.get(&key).await.is_some());
            assert_eq!(node.head("folders").await.offset, 1);
        }
        (constraints, other) => panic!("constraints: {constraints:?}, result: {other:?}"),
    }
}

pub async fn a_store_tells_its_foreign_keys<F: Fixture>() {
    let (_database, node) = constrained::<F>().await;
    let foreign_key = ForeignKey {
        collection: "notes".into(),
        fields: vec![Some("folder".into())],
        target: "folders".into(),
        target_fields: vec![Some("id".into())],
    };
    let expected = match F::CONSTRAINTS {
        Constraints::Enforced => vec![foreign_key],
        Constraints::Absent => Vec::new(),
    };
    assert_eq!(node.store.foreign_keys(), expected);
}
