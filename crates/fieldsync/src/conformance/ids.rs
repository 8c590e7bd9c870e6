//! Ids that a later edit of the same group uses, and ids that the caller gives.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::node::{Node, collection, committed, database_with_notes, notes};
use super::{Column, Fixture, Table};

use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::record::RecordId;
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;

/// Edits that create a note, and a second note that contains the id of the first.
fn linked(title: &'static str) -> Vec<Edit> {
    vec![
        Edit::create("notes", json!({"title": title})),
        Edit::create_with("notes", |ids| json!({"title": "link", "stars": ids[0]})),
    ]
}

fn ids_of(outcomes: &[Outcome]) -> Vec<RecordId> {
    outcomes.iter().map(Outcome::id).collect()
}

pub async fn an_edit_can_use_the_id_of_a_record_created_earlier_in_its_group<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    // The ids of the groups are not the first ids of the table.
    node.create(json!({"title": "before"})).await;
    let results = node.commit(vec![linked("a"), linked("b")]).await;
    for result in results {
        let outcomes = result.expect("the group is committed");
        let [first, second] = &outcomes[..] else {
            panic!("expected one outcome per edit: {outcomes:?}");
        };
        let link = second.record().expect("the link exists");
        assert_eq!(
            Some(first.id()),
            link.fields["stars"].as_i64().map(RecordId::from)
        );
        assert_ne!(first.id(), second.id());
    }
    let listed = node.list("notes").await;
    let distinct: BTreeSet<_> = listed.iter().map(|note| note.id.clone()).collect();
    assert_eq!((listed.len(), distinct.len()), (5, 5));
}

pub async fn a_reserved_id_is_given_to_one_record_only<F: Fixture>() {
    // A create that needs no reserved id gets one too, if the batch reserves ids in its collection.
    let create = || vec![Edit::create("notes", json!({"title": "plain"}))];
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let (one, another) = tokio::join!(
        node.commit(vec![linked("a"), create(), linked("b")]),
        other.commit(vec![linked("c"), create(), linked("d")])
    );
    let mut used = BTreeSet::new();
    for result in one.into_iter().chain(another) {
        for id in ids_of(&result.expect("the group is committed")) {
            assert!(used.insert(id.clone()), "{id} was given twice");
        }
    }
    let next = node.create(json!({"title": "after"})).await;
    assert!(used.insert(next.clone()), "{next} was given twice");
}

pub async fn ids_are_reserved_in_an_existing_table<F: Fixture>() {
    let database = F::fresh().await;
    let columns = [
        Column::text("title"),
        Column::text("body"),
        Column::integer("stars"),
        Column::text("mood").nullable(),
    ];
    database.create_table(Table::new("notes", columns)).await;
    let node = Node::start(&database, [collection("notes").without_capture().into()]).await;
    let mut used = BTreeSet::from([node.create(json!({"title": "before"})).await]);
    for result in node.commit(vec![linked("a"), linked("b")]).await {
        let outcomes = result.expect("the group is committed");
        let link = outcomes[1].record().expect("the link exists");
        let linked = link.fields["stars"].as_i64().map(RecordId::from);
        assert_eq!(linked, Some(outcomes[0].id()));
        for id in ids_of(&outcomes) {
            assert!(used.insert(id.clone()), "{id} was given twice");
        }
    }
    let next = node.create(json!({"title": "after"})).await;
    assert!(used.insert(next.clone()), "{next} was given twice");
}

fn things() -> Arc<Collection> {
    collection("things").uuid_ids().into()
}

pub async fn a_record_can_be_created_with_a_given_uuid<F: Fixture>() {
    let database = F::fresh().await;
    let node = Node::start(&database, [things()]).await;
    let id = Uuid::from_u128(0x1234_5678);
    let create = || Edit::create("things", json!({"title": "a"})).with_id(id);
    // A later edit of the same group changes the record.
    let group = vec![create(), Edit::patch(("things", id), json!({"title": "b"}))];
    let outcomes = node.commit(vec![group]).await.remove(0);
    let outcomes = outcomes.expect("the group is committed");
    assert_eq!(ids_of(&outcomes), [id, id].map(RecordId::Uuid));
    let changes: Vec<_> = outcomes.into_iter().map(committed).collect();
    assert_eq!(changes[1].previous["title"], "a");
    let listed = node.list("things").await;
    assert_eq!((listed.len(), &listed[0].fields["title"]), (1, &json!("b")));
    let again = node.commit(vec![vec![create()]]).await.remove(0);
    let refused = again.expect_err("the id is already used").refusal;
    assert!(
        matches!(&refused, Refusal::Conflict(errors) if !errors.get("id").is_empty()),
        "{refused}"
    );
}

pub async fn of_two_creates_with_the_same_id_in_a_batch_the_first_is_applied<F: Fixture>() {
    let database = F::fresh().await;
    let node = Node::start(&database, [things()]).await;
    let id = Uuid::from_u128(0x1234_5678);
    let create = |title: &str| vec![Edit::create("things", json!({"title": title})).with_id(id)];
    let results = node.commit(vec![create("a"), create("b")]).await;
    assert!(results[0].is_ok(), "{results:?}");
    let refused = &results[1]
        .as_ref()
        .expect_err("the id is already used")
        .refusal;
    assert!(
        matches!(refused, Refusal::Conflict(errors) if !errors.get("id").is_empty()),
        "{refused}"
    );
}

pub async fn of_two_creates_with_the_same_id_from_two_nodes_one_is_applied<F: Fixture>() {
    let database = F::fresh().await;
    let node = Node::start(&database, [things()]).await;
    let other = Node::start(&database, [things()]).await;
    let id = Uuid::from_u128(0x1234_5678);
    let create = || {
        vec![vec![
            Edit::create("things", json!({"title": "a"})).with_id(id),
        ]]
    };
    let (one, another) = tokio::join!(node.commit(create()), other.commit(create()));
    let results: Vec<_> = one.into_iter().chain(another).collect();
    let applied = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(applied, 1, "{results:?}");
    let refused = results.iter().find_map(|result| result.as_ref().err());
    let refusal = &refused.expect("one create is refused").refusal;
    assert!(
        matches!(refusal, Refusal::Conflict(errors) if !errors.get("id").is_empty()),
        "{refusal}"
    );
}
