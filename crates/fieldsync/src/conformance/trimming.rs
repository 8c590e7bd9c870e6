//! Trimming: changes and idempotency keys that exceed the retention are deleted, a bounded number at a time.

use std::time::Duration;

use serde_json::json;

use super::Fixture;
use super::node::{Node, database_with_notes, note, notes};

use crate::model::changes_since::ChangesSince;
use crate::model::cursor::{Position, ResetReason};
use crate::model::edit::Edit;
use crate::store::store::{IDEMPOTENCY_KEY_RETENTION, Retention};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Trims until no change or key exceeds the retention.
async fn trim(node: &Node, age: Duration, count: u64) {
    let retention = Retention::default().with_age(age).with_count(count);
    while node.store.trim(retention).await.expect("trim") {}
}

#[track_caller]
fn offsets(changes: ChangesSince) -> Vec<u64> {
    match changes {
        ChangesSince::Changes { changes, .. } => changes
            .iter()
            .map(|change| change.position.offset)
            .collect(),
        ChangesSince::OutOfRange(reason) => panic!("the position is out of range: {reason}"),
    }
}

pub async fn trimming_keeps_the_newest_changes<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    for _ in 0..10 {
        node.create(json!({})).await;
    }
    let log = node.log("notes").await;
    trim(&node, DAY, 10).await;
    assert_eq!(
        node.log("notes").await,
        log,
        "no change exceeds the retention"
    );
    trim(&node, DAY, 4).await;
    for position in [node.start_of_log().await, log[0].position, log[4].position] {
        assert_eq!(
            node.since(position, 10).await,
            ChangesSince::OutOfRange(ResetReason::Trimmed),
            "{position:?}"
        );
    }
    assert_eq!(
        offsets(node.since(log[5].position, 10).await),
        [7, 8, 9, 10]
    );
    assert_eq!(offsets(node.since(log[7].position, 10).await), [9, 10]);
    let tag = log[5].position.tag ^ 1;
    let position = Position {
        tag,
        ..log[5].position
    };
    assert_eq!(
        node.since(position, 10).await,
        ChangesSince::OutOfRange(ResetReason::Restored),
        "the tag of the last trimmed change is kept"
    );
    assert_eq!(
        node.list("notes").await.len(),
        10,
        "records are not trimmed"
    );
}

pub async fn trimming_deletes_changes_that_are_too_old<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    node.create(json!({})).await;
    node.create(json!({})).await;
    database.grow_older(3 * DAY).await;
    node.create(json!({})).await;
    let log = node.log("notes").await;
    trim(&node, 4 * DAY, 1000).await;
    assert_eq!(
        node.log("notes").await,
        log,
        "no change exceeds the retention"
    );
    trim(&node, 2 * DAY, 1000).await;
    let start = node.start_of_log().await;
    assert_eq!(
        node.since(start, 10).await,
        ChangesSince::OutOfRange(ResetReason::Trimmed)
    );
    assert_eq!(offsets(node.since(log[1].position, 10).await), [3]);
}

pub async fn trimming_keeps_the_newest_bytes<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    for _ in 0..10 {
        node.create(json!({"body": "x".repeat(100_000)})).await;
    }
    let log = node.log("notes").await;
    let trim = async |node: &Node, bytes| {
        let retention = Retention::default().with_bytes(bytes);
        while node.store.trim(retention).await.expect("trim") {}
    };
    trim(&node, 1_100_000).await;
    assert_eq!(
        node.log("notes").await,
        log,
        "no change exceeds the retention"
    );
    trim(&node, 450_000).await;
    assert_eq!(
        node.since(log[4].position, 10).await,
        ChangesSince::OutOfRange(ResetReason::Trimmed)
    );
    let kept = async |node: &Node, position| {
        let mut kept = Vec::new();
        let mut position = position;
        while let ChangesSince::Changes { changes, more } = node.since(position, 10).await {
            kept.extend(changes.iter().map(|change| change.position.offset));
            let Some(last) = changes.last().filter(|_| more) else {
                return kept;
            };
            position = last.position;
        }
        panic!("the position is out of range")
    };
    assert_eq!(kept(&node, log[5].position).await, [7, 8, 9, 10]);
    // Another node trims what was added since, and what it deletes counts no longer for the first.
    let other = Node::start(&database, [notes()]).await;
    node.create(json!({"body": "x".repeat(100_000)})).await;
    trim(&other, 450_000).await;
    trim(&node, 450_000).await;
    assert_eq!(kept(&node, log[6].position).await, [8, 9, 10, 11]);
}

pub async fn a_cursor_at_the_end_of_a_fully_trimmed_log_resumes<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    node.create(json!({})).await;
    let id = node.create(json!({})).await;
    let end = node.head("notes").await;
    trim(&node, DAY, 0).await;
    assert_eq!(node.head("notes").await, end);
    assert_eq!(
        node.since(end, 10).await,
        ChangesSince::Changes {
            changes: Vec::new(),
            more: false
        }
    );
    let restored = Position {
        tag: end.tag ^ 1,
        ..end
    };
    assert_eq!(
        node.since(restored, 10).await,
        ChangesSince::OutOfRange(ResetReason::Restored)
    );
    let start = node.start_of_log().await;
    assert_eq!(
        node.since(start, 10).await,
        ChangesSince::OutOfRange(ResetReason::Trimmed)
    );
    node.edit(Edit::patch(note(&id), json!({"title": "a"})))
        .await;
    assert_eq!(offsets(node.since(end, 10).await), [end.offset + 1]);
    assert_eq!(
        node.since(restored, 10).await,
        ChangesSince::OutOfRange(ResetReason::Restored)
    );
}

async fn create_notes(node: &Node, count: usize, prepare: fn(Edit, usize) -> Edit) {
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(256) {
        let create = |number: &usize| vec![prepare(Edit::create("notes", json!({})), *number)];
        let results = node.commit(numbers.iter().map(create).collect()).await;
        assert!(results.iter().all(Result::is_ok));
    }
}

pub async fn one_trim_deletes_a_bounded_number_of_changes<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    create_notes(&node, 2 * F::TRIM_STEP + 1, |edit, _| edit).await;
    let log = node.log("notes").await;
    let keep_none = Retention::default().with_age(DAY).with_count(0);
    for step in 1..=2 {
        assert!(
            node.store.trim(keep_none).await.expect("trim"),
            "more changes remain"
        );
        let left = node.since(log[step * F::TRIM_STEP].position, 1).await;
        assert!(
            matches!(left, ChangesSince::Changes { .. }),
            "one call deletes at most TRIM_STEP changes"
        );
    }
    // Some stores need one more call to find that no change remains.
    let mut calls = 1;
    while node.store.trim(keep_none).await.expect("trim") {
        calls += 1;
        assert!(
            calls < 10,
            "trim reports again and again that changes remain"
        );
    }
    let last_but_one = log[log.len() - 2].position;
    assert_eq!(
        node.since(last_but_one, 1).await,
        ChangesSince::OutOfRange(ResetReason::Trimmed)
    );
}

pub async fn one_trim_deletes_a_bounded_number_of_keys<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let total = 2 * F::TRIM_STEP + 1;
    let with_key = |edit: Edit, number: usize| edit.with_idempotency_key(number.to_string());
    create_notes(&node, total, with_key).await;
    database
        .grow_older(IDEMPOTENCY_KEY_RETENTION + Duration::from_secs(1))
        .await;
    for _ in 1..=2 {
        assert!(
            node.store.trim(Retention::default()).await.expect("trim"),
            "more keys remain"
        );
    }
    trim(&node, 7 * DAY, 1_000_000).await;
    assert_eq!(node.log("notes").await.len(), total, "no change is deleted");
}
