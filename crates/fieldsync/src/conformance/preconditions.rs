//! Preconditions are checked on the current row, inside the transaction.

use serde_json::json;

use super::Fixture;
use super::node::{Node, database_with_notes, note, notes};

use crate::model::edit::Edit;
use crate::model::entity_tag::entity_tag;
use crate::model::precondition::Precondition;
use crate::model::record::RecordId;
use crate::model::refusal::Refusal;
use crate::schema::view::View;

async fn tag(node: &Node, id: RecordId) -> String {
    let record = node.get(&note(&id)).await.expect("the note exists");
    entity_tag(&View::full().project_record(&record))
}

async fn check(node: &Node, id: RecordId, precondition: Precondition, holds: bool) {
    let before = node.head("notes").await.offset;
    let exists = node.get(&note(&id)).await.is_some();
    let edit = Edit::refresh(note(&id)).with_precondition(precondition.clone());
    match node.try_edit(edit).await {
        Ok(_) => assert!(holds, "{precondition:?} should not hold"),
        Err(refusal) => {
            assert_eq!(
                (&refusal, holds),
                (&Refusal::PreconditionFailed, false),
                "{precondition:?}"
            );
        }
    }
    let logged = node.head("notes").await.offset - before;
    if exists || !holds {
        assert_eq!(logged, u64::from(holds));
    } else {
        // Where the table has capture, it is known that there is nothing to log.
        assert!(logged <= 1);
    }
}

pub async fn a_precondition_is_checked_on_the_current_row<F: Fixture>() {
    use Precondition::{Absent, Exists, Matches, MatchesNone};
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let stale = tag(&node, id.clone()).await;
    let other = Node::start(&database, [notes()]).await;
    other
        .edit(Edit::patch(note(&id), json!({"title": "b"})))
        .await;
    let current = tag(&node, id.clone()).await;
    let both = vec![stale.clone(), current.clone()];
    check(&node, id.clone(), Exists, true).await;
    check(&node, id.clone(), Absent, false).await;
    check(&node, id.clone(), Matches(vec![stale.clone()]), false).await;
    check(&node, id.clone(), Matches(vec![current.clone()]), true).await;
    check(&node, id.clone(), Matches(both.clone()), true).await;
    check(&node, id.clone(), MatchesNone(vec![stale.clone()]), true).await;
    check(&node, id.clone(), MatchesNone(both), false).await;
    other.edit(Edit::delete(note(&id))).await;
    check(&node, id.clone(), Exists, false).await;
    check(&node, id.clone(), Absent, true).await;
    check(&node, id.clone(), Matches(vec![current.clone()]), false).await;
    check(&node, id, MatchesNone(vec![current]), true).await;
}

pub async fn of_edits_with_the_same_entity_tag_in_a_batch_the_first_is_applied<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let precondition = Precondition::Matches(vec![tag(&node, id.clone()).await]);
    let edit = |title: &str| {
        vec![
            Edit::patch(note(&id), json!({"title": title})).with_precondition(precondition.clone()),
        ]
    };
    let results = node.commit(vec![edit("b"), edit("c")]).await;
    assert!(results[0].is_ok());
    assert_eq!(
        results[1]
            .as_ref()
            .expect_err("the first edit changed the entity tag")
            .refusal,
        Refusal::PreconditionFailed
    );
    assert_eq!(node.field(id, "title").await, "b");
}

pub async fn of_edits_with_the_same_entity_tag_from_two_nodes_one_is_applied<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let id = node.create(json!({"stars": 0})).await;
    for round in 0..20 {
        let precondition = Precondition::Matches(vec![tag(&node, id.clone()).await]);
        let edit = |title: &str| {
            let patch = json!({"title": format!("{title} {round}")});
            Edit::patch(note(&id), patch).with_precondition(precondition.clone())
        };
        let (one, two) = tokio::join!(node.try_edit(edit("one")), other.try_edit(edit("two")));
        assert!(one.is_ok() != two.is_ok(), "{one:?}, {two:?}");
    }
    assert_eq!(node.head("notes").await.offset, 21);
}
