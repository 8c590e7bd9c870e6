//! Batches of groups. A group is applied as a whole or not at all, and a refused group does not affect the others.

use serde_json::json;

use super::Fixture;
use super::edits::add_star;
use super::node::{Node, collection, committed, database_with_notes, note};
use super::tasks::spawn;

use crate::model::change::Action;
use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::record::{RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::write::batch::RefusedEdit;

const MISSING: RecordId = RecordId::Integer(987_654);

pub async fn an_empty_batch_has_no_results<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    assert!(node.commit(Vec::new()).await.is_empty());
    assert_eq!(node.head("notes").await.offset, 0);
}

pub async fn a_group_is_applied_as_a_whole_or_not_at_all<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let before = (node.list("notes").await, node.head("notes").await);
    let group = vec![
        Edit::patch(note(&id), json!({"title": "b"})).with_idempotency_key("k"),
        Edit::create("notes", json!({"title": "c"})),
        Edit::patch(note(MISSING), json!({"title": "d"})),
    ];
    let results = node.commit(vec![group]).await;
    let refused = RefusedEdit {
        edit: 2,
        refusal: Refusal::NotFound(note(MISSING)),
    };
    assert_eq!(
        results[0].as_ref().expect_err("the record does not exist"),
        &refused
    );
    assert_eq!((node.list("notes").await, node.head("notes").await), before);
    // The key was not stored. Another edit can use it.
    node.change(Edit::patch(note(&id), json!({"title": "e"})).with_idempotency_key("k"))
        .await;
}

pub async fn a_refused_group_does_not_affect_other_groups<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let results = node
        .commit(vec![
            vec![Edit::create("notes", json!({"title": "a"}))],
            vec![Edit::create("notes", json!({"titel": "b"}))],
            vec![Edit::create("notes", json!({"title": "c"}))],
        ])
        .await;
    assert!(matches!(
        &results[1],
        Err(RefusedEdit {
            edit: 0,
            refusal: Refusal::Invalid(_)
        })
    ));
    assert!(results[0].is_ok() && results[2].is_ok());
    let titles: Vec<_> = node
        .list("notes")
        .await
        .into_iter()
        .map(|note| note.fields["title"].clone())
        .collect();
    assert_eq!(titles, ["a", "c"]);
    assert_eq!(node.head("notes").await.offset, 2);
}

pub async fn later_groups_do_not_see_the_edits_of_a_refused_group<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let patch = Edit::patch(note(&id), json!({"title": "b"}));
    let results = node
        .commit(vec![
            vec![
                Edit::delete(note(&id)).with_idempotency_key("k"),
                Edit::delete(note(MISSING)),
            ],
            vec![patch.with_idempotency_key("k")],
        ])
        .await;
    assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
    assert_eq!(node.field(id, "title").await, "b");
}

pub async fn edits_of_one_record_in_a_batch_build_on_each_other<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let created = node
        .change(Edit::create("notes", json!({"title": "a"})))
        .await;
    let id = created.key.id.clone();
    let results = node
        .commit(vec![
            vec![Edit::patch(note(&id), json!({"title": "b"}))],
            vec![
                Edit::patch(note(&id), json!({"title": "c", "stars": 1})),
                Edit::patch(note(&id), json!({"stars": 2})),
            ],
            vec![Edit::refresh(note(&id))],
            vec![Edit::delete(note(&id))],
            vec![Edit::patch(note(&id), json!({"title": "d"}))],
        ])
        .await;
    assert!(matches!(
        &results[4],
        Err(RefusedEdit {
            refusal: Refusal::NotFound(_),
            ..
        })
    ));
    let outcomes = results
        .into_iter()
        .take(4)
        .flat_map(|result| result.expect("the group is not refused"));
    let changes: Vec<_> = outcomes.map(committed).collect();
    let mut before = &created;
    for change in &changes {
        assert_eq!(change.position.offset, before.position.offset + 1);
        for (name, previous) in &change.previous {
            assert_eq!(
                previous, &before.after[name],
                "{name} before {}",
                change.position.offset
            );
        }
        before = change;
    }
    assert_eq!(changes[1].previous["title"], "b");
    assert_eq!(
        changes[3].after, changes[2].after,
        "a refresh does not change the record"
    );
    assert_eq!(
        (changes[4].action, &changes[4].previous),
        (Action::Delete, &changes[3].after)
    );
    assert_eq!(changes[4].previous["stars"], 2);
    let logged = node.log("notes").await;
    assert!(
        logged[1..]
            .iter()
            .eq(changes.iter().map(|change| &**change))
    );
}

pub async fn an_edit_that_repeats_an_earlier_one_of_its_batch_is_unchanged<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let patch = || vec![Edit::patch(note(&id), json!({"title": "b"}))];
    let results = node.commit(vec![patch(), patch()]).await;
    let outcomes: Vec<_> = results
        .into_iter()
        .flat_map(|result| result.expect("the group is not refused"))
        .collect();
    let Outcome::Unchanged {
        record: Some(record),
        position,
        ..
    } = &outcomes[1]
    else {
        panic!("the second edit changes nothing: {:?}", outcomes[1]);
    };
    assert_eq!(
        (Some(record.clone()), *position),
        (outcomes[0].record(), outcomes[0].position())
    );
    assert_eq!(node.head("notes").await.offset, 2);
}

/// The store locks records and heads in the order of the batch's record keys, so that two transactions cannot deadlock.
pub async fn batches_that_edit_the_same_records_in_different_orders_all_commit<F: Fixture>() {
    const ROUNDS: usize = 30;
    let database = F::fresh().await;
    let collections = ["notes", "others"].map(|name| collection(name).into());
    let node = Node::start(&database, collections.clone()).await;
    let other = Node::start(&database, collections).await;
    let mut keys: Vec<RecordKey> = Vec::new();
    for name in ["notes", "others", "notes", "others"] {
        keys.push(node.change(Edit::create(name, json!({}))).await.key.clone());
    }
    let reversed = keys.iter().rev().cloned().collect();
    let writers = [(node.clone(), keys.clone()), (other, reversed)].map(|(writer, keys)| {
        spawn(async move {
            for _ in 0..ROUNDS {
                let groups = keys.chunks(2);
                let groups = groups.map(|keys| keys.iter().cloned().map(add_star).collect());
                let results = writer.commit(groups.collect()).await;
                assert!(results.iter().all(Result::is_ok), "{results:?}");
            }
        })
    });
    for writer in writers {
        writer.await.expect("the writer does not fail");
    }
    for key in keys {
        let record = node.get(&key).await.expect("the record exists");
        assert_eq!(record.fields["stars"], 2 * ROUNDS);
    }
}
