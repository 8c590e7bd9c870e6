//! Idempotency keys: an edit is applied once, even if it is sent several times.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Fixture;
use super::node::{Node, ada, collection, committed, database_with_notes, note, notes};

use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::precondition::Precondition;
use crate::model::principal::Principal;
use crate::model::record::Record;
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::store::store::{IDEMPOTENCY_KEY_RETENTION, Retention};

fn create(title: &str) -> Edit {
    Edit::create("notes", json!({"title": title})).with_idempotency_key("k")
}

#[track_caller]
fn replayed(outcome: &Outcome) {
    let is_replay = matches!(outcome, Outcome::Replayed { .. });
    assert!(is_replay, "expected a replay: {outcome:?}");
}

/// Checks that the outcome is a replay of an edit that left this record.
#[track_caller]
fn check_record(first: &Outcome, again: &Outcome, record: Option<&Record>) {
    replayed(again);
    assert_eq!(
        (again.id(), again.position()),
        (first.id(), first.position())
    );
    assert_eq!(again.record().as_ref(), record);
}

#[track_caller]
fn check(first: &Outcome, again: &Outcome) {
    check_record(first, again, first.record().as_ref());
}

pub async fn an_edit_repeated_in_one_batch_is_applied_once<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let results = node
        .commit(vec![vec![create("a")], vec![create("a")]])
        .await;
    let outcomes: Vec<_> = results
        .into_iter()
        .flat_map(|result| result.expect("the edit is not refused"))
        .collect();
    assert_eq!(outcomes[0].record(), outcomes[1].record());
    assert_eq!(outcomes[0].position(), outcomes[1].position());
    assert_eq!(node.list("notes").await.len(), 1);
    assert_eq!(node.head("notes").await.offset, 1);
}

pub async fn a_repeated_edit_returns_the_outcome_of_the_first<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let first = node.edit(create("a")).await;
    let id = first.record().expect("the note was created").id;
    node.edit(Edit::patch(note(&id), json!({"title": "b"})))
        .await;
    check(&first, &node.edit(create("a")).await);
    let other = Node::start(&database, [notes()]).await;
    check(&first, &other.edit(create("a")).await);
    drop((node, other));
    let reopened = Node::start(&database, [notes()]).await;
    let again = reopened.edit(create("a")).await;
    assert_eq!(again.record().expect("the note was created").id, id);
    check(&first, &again);
    assert_eq!(reopened.field(id, "title").await, "b");
    assert_eq!(reopened.head("notes").await.offset, 2);
}

pub async fn an_edit_sent_to_two_nodes_at_the_same_time_is_applied_once<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    for round in 0..20 {
        let key = round.to_string();
        let edit = || Edit::create("notes", json!({"title": "a"})).with_idempotency_key(&key);
        let (one, two) = tokio::join!(node.edit(edit()), other.edit(edit()));
        assert_eq!(one.record(), two.record());
        assert_eq!(one.position(), two.position());
    }
    assert_eq!(node.list("notes").await.len(), 20);
    assert_eq!(node.head("notes").await.offset, 20);
}

pub async fn a_key_belongs_to_one_principal<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    for principal in [ada(), Principal::named("grace"), Principal::anonymous()] {
        let outcome = node
            .try_edit_as(&principal, create(principal.name().unwrap_or("anonymous")))
            .await;
        let change = committed(outcome.expect("the edit is not refused"));
        assert_eq!(change.who.as_deref(), principal.name());
        replayed(
            &node
                .try_edit_as(&principal, create(principal.name().unwrap_or("anonymous")))
                .await
                .expect("the edit is not refused"),
        );
    }
    assert_eq!(node.list("notes").await.len(), 3);
}

pub async fn a_key_that_was_used_for_another_edit_is_refused<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let results = node
        .commit(vec![vec![create("a")], vec![create("b")]])
        .await;
    assert!(results[0].is_ok());
    assert_eq!(
        results[1]
            .as_ref()
            .expect_err("the key belongs to another edit")
            .refusal,
        Refusal::KeyReused
    );
    let other = create("a").with_precondition(Precondition::Absent);
    for edit in [
        create("b"),
        other,
        Edit::refresh(note(1)).with_idempotency_key("k"),
    ] {
        assert_eq!(
            node.try_edit(edit)
                .await
                .expect_err("the key belongs to another edit"),
            Refusal::KeyReused
        );
    }
    assert_eq!(node.head("notes").await.offset, 1);
}

pub async fn a_repeated_delete_returns_the_outcome_of_the_first<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({})).await;
    let delete = || Edit::delete(note(&id)).with_idempotency_key("k");
    let first = node.edit(delete()).await;
    let again = node.edit(delete()).await;
    assert_eq!((again.id(), again.record()), (id, None));
    check(&first, &again);
    assert_eq!(node.head("notes").await.offset, 2);
}

pub async fn a_key_is_looked_up_before_any_precondition<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let edit = || {
        Edit::delete(note(&id))
            .with_precondition(Precondition::Exists)
            .with_idempotency_key("k")
    };
    let first = node.edit(edit()).await;
    check(&first, &node.edit(edit()).await);
}

pub async fn the_key_of_a_refused_edit_is_not_stored<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let refused = Edit::delete(note(987_654)).with_idempotency_key("k");
    node.try_edit(refused)
        .await
        .expect_err("the record does not exist");
    node.change(create("a")).await;
}

/// Without its change in the log, a repetition returns the record as it is now.
pub async fn a_key_is_kept_when_its_change_is_trimmed<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let first = node.edit(create("a")).await;
    let patch = Edit::patch(note(first.id()), json!({"title": "b"}));
    node.edit(patch).await;
    trim_all(&node).await;
    let now = node.get(&note(first.id())).await;
    assert_eq!(now.as_ref().expect("the note exists").fields["title"], "b");
    check_record(&first, &node.edit(create("a")).await, now.as_ref());
    assert_eq!(node.head("notes").await.offset, 2);
}

pub async fn a_repetition_of_an_edit_whose_record_was_deleted_returns_its_id<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let first = node.edit(create("a")).await;
    node.edit(Edit::delete(note(first.id()))).await;
    check(&first, &node.edit(create("a")).await);
    trim_all(&node).await;
    check_record(&first, &node.edit(create("a")).await, None);
    assert_eq!(node.head("notes").await.offset, 2);
}

pub async fn a_repetition_of_an_edit_whose_record_was_deleted_returns_what_the_log_has<
    F: Fixture,
>() {
    let database = F::fresh().await;
    let open: Arc<Collection> = collection("notes").open_to_everyone().into();
    let node = Node::start(&database, [open]).await;
    let id = node.create(json!({"body": "x".repeat(2000)})).await;
    let patch = || Edit::patch(note(&id), json!({"stars": 1})).with_idempotency_key("patch");
    node.edit(patch()).await;
    node.edit(Edit::delete(note(&id))).await;
    let again = node.edit(patch()).await;
    replayed(&again);
    let record = again.record().expect("the log has the change");
    assert_eq!(record.fields["stars"], 1);
    // A large value that the edit did not change is not in the log.
    assert_eq!(record.fields.get("body"), None);
}

async fn trim_all(node: &Node) {
    let keep_none = Retention {
        age: Duration::from_secs(24 * 3600),
        count: 0,
        ..Retention::default()
    };
    while node.store.trim(keep_none).await.expect("trim") {}
}

pub async fn a_key_is_kept_for_24_hours<F: Fixture>() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (database, node) = database_with_notes::<F>().await;
    let first = node.edit(create("a")).await;
    database
        .grow_older(IDEMPOTENCY_KEY_RETENTION - MINUTE)
        .await;
    while node.store.trim(Retention::default()).await.expect("trim") {}
    check(&first, &node.edit(create("a")).await);
    // An expired key can be used for another edit, even if it has not been deleted yet. It is then kept for 24 hours.
    database.grow_older(2 * MINUTE).await;
    node.change(create("b")).await;
    while node.store.trim(Retention::default()).await.expect("trim") {}
    replayed(&node.edit(create("b")).await);
    assert_eq!(node.head("notes").await.offset, 2);
}
