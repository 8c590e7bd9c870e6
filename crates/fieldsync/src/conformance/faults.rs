//! Locks that another program holds, deadlines that pass, and futures that are dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde_json::json;

use super::Fixture;
use super::node::{Node, ada, committed, database_with_notes, note};

use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::refusal::Refusal;
use crate::write::batch::{Batch, RefusedEdit};

pub async fn readers_do_not_wait_for_writers<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let start = node.start_of_log().await;
    let held = database.hold_write_lock("notes", id.clone()).await;
    let reads = async {
        node.get(&note(&id)).await.expect("the record exists");
        assert_eq!(node.list("notes").await.len(), 1);
        assert_eq!(node.head("notes").await.offset, 1);
        node.since(start, 10).await;
    };
    let done = tokio::time::timeout(Duration::from_secs(3), reads).await;
    assert!(done.is_ok(), "a read waits for a writer");
    drop(held);
}

pub async fn a_commit_waits_for_a_lock_until_its_deadline<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let held = database.hold_write_lock("notes", id.clone()).await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let patch = || Edit::patch(note(&id), json!({"title": "b"})).with_idempotency_key("k");
    let batch = Batch::new(vec![node.group(&ada(), vec![patch()], deadline)]);
    let tolerance = Duration::from_secs(5);
    let result =
        tokio::time::timeout_at((deadline + tolerance).into(), node.store.commit(batch)).await;
    let results = result.expect("the commit ends soon after its deadline");
    let busy = RefusedEdit {
        edit: 0,
        refusal: Refusal::Busy,
    };
    let refused = results
        .expect("a locked record is not an error of the store")
        .results
        .remove(0);
    assert_eq!(refused.expect_err("another program holds the lock"), busy);
    assert_eq!(node.field(id.clone(), "title").await, "a");
    drop(held);
    // A retry with the same key is applied once.
    node.edit(patch()).await;
    assert_eq!(node.field(id, "title").await, "b");
    assert_eq!(node.head("notes").await.offset, 2);
}

pub async fn a_commit_proceeds_when_the_lock_is_released<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let held = database.hold_write_lock("notes", id.clone()).await;
    let mut patch = std::pin::pin!(node.try_edit(Edit::patch(note(&id), json!({"title": "b"}))));
    for _ in 0..100 {
        assert!(
            patch.as_mut().now_or_never().is_none(),
            "another program holds the lock"
        );
        tokio::task::yield_now().await;
    }
    drop(held);
    committed(patch.await.expect("the edit is not refused"));
    assert_eq!(node.field(id, "title").await, "b");
}

pub async fn groups_that_a_lock_refused_can_be_committed_again<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let locked = node.create(json!({"title": "a"})).await;
    let free = node.create(json!({"title": "a"})).await;
    let held = database.hold_write_lock("notes", locked.clone()).await;
    let groups = || {
        [(locked.clone(), "k1"), (free.clone(), "k2")].map(|(id, key)| {
            vec![Edit::patch(note(&id), json!({"title": "b"})).with_idempotency_key(key)]
        })
    };
    let deadline = Instant::now() + Duration::from_millis(300);
    let batch = groups().map(|edits| node.group(&ada(), edits, deadline));
    let results = node.store.commit(Batch::new(batch.into())).await;
    let results = results
        .expect("a locked record is not an error of the store")
        .results;
    assert!(results[0].is_err(), "another program holds the lock");
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(
            matches!(refused.refusal, Refusal::Busy | Refusal::Locked),
            "{refused:?}"
        );
    }
    drop(held);
    let results = node.commit(groups().into()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for id in [locked, free] {
        assert_eq!(node.field(id, "title").await, "b");
    }
    assert_eq!(node.head("notes").await.offset, 4);
}

pub async fn an_edit_whose_deadline_has_passed_is_not_applied<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let create = |title: &str| {
        vec![Edit::create("notes", json!({"title": title})).with_idempotency_key(title)]
    };
    let late = node.group(
        &ada(),
        create("late"),
        Instant::now() - Duration::from_millis(1),
    );
    let in_time = node.group(
        &ada(),
        create("in time"),
        Instant::now() + Duration::from_secs(30),
    );
    let batch = Batch::new(vec![Arc::clone(&late), in_time]);
    let results = node.store.commit(batch).await.expect("commit").results;
    assert_eq!(
        results[0]
            .as_ref()
            .expect_err("the deadline has passed")
            .refusal,
        Refusal::Busy
    );
    assert!(results[1].is_ok(), "{results:?}");
    let results = node
        .store
        .commit(Batch::new(vec![late]))
        .await
        .expect("commit")
        .results;
    assert_eq!(
        results[0]
            .as_ref()
            .expect_err("the deadline has passed")
            .refusal,
        Refusal::Busy
    );
    let titles: Vec<_> = node
        .log("notes")
        .await
        .into_iter()
        .map(|change| change.after["title"].clone())
        .collect();
    assert_eq!(titles, ["in time"]);
    // The key of the refused edit was not stored.
    committed(node.edit(create("late").remove(0)).await);
}

/// Drops the future of a commit, in each round after one more poll, and then commits the same groups again. The dropped
/// commit must have applied either all groups or none.
pub async fn a_dropped_commit_is_applied_as_a_whole_or_not_at_all<F: Fixture>() {
    const ROUNDS: usize = 100;
    const GROUPS: usize = 5;
    let (_database, node) = database_with_notes::<F>().await;
    for round in 0..ROUNDS {
        let groups = || {
            let create = |at| {
                let key = format!("{round} {at}");
                vec![Edit::create("notes", json!({"title": key})).with_idempotency_key(key)]
            };
            (0..GROUPS).map(create).collect::<Vec<_>>()
        };
        drop_after(round, &node, groups()).await;
        let results = node.commit(groups()).await;
        let outcomes = results.iter().flatten().flatten();
        let replayed = outcomes.filter(|outcome| matches!(outcome, Outcome::Replayed { .. }));
        let replayed = replayed.count();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert!(
            replayed == 0 || replayed == GROUPS,
            "{replayed} of {GROUPS} groups had been committed"
        );
    }
    assert_eq!(node.list("notes").await.len(), ROUNDS * GROUPS);
    assert_eq!(node.head("notes").await.offset, (ROUNDS * GROUPS) as u64);
}

/// Begins a commit, and drops its future after this number of polls.
async fn drop_after(polls: usize, node: &Node, groups: Vec<Vec<Edit>>) {
    let mut commit = node.store.commit(node.batch(groups));
    for _ in 0..polls {
        if (&mut commit).now_or_never().is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
