//! The change log: offsets without a gap, in commit order, and the reason when a position is out of range.

use std::sync::Arc;

use serde_json::json;

use super::Fixture;
use super::node::{Node, collection, database_with_notes, note, notes};
use super::tasks::spawn;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::{Position, ResetReason};
use crate::model::edit::Edit;
use crate::schema::collection::Collection;
use crate::store::page::PageLimit;
use crate::store::store::Retention;

pub async fn offsets_rise_by_one_in_commit_order<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let writers = [node.clone(), node.clone(), other.clone(), other].map(|writer| {
        spawn(async move {
            let mut written: Vec<Position> = Vec::new();
            for _ in 0..50 {
                let change = writer.change(Edit::create("notes", json!({}))).await;
                // An edit that begins after the commit of another has a higher offset.
                // Its change is in the log at once.
                assert!(
                    written
                        .last()
                        .is_none_or(|last| last.offset < change.position.offset)
                );
                assert!(writer.head("notes").await.offset >= change.position.offset);
                written.push(change.position);
            }
            written
        })
    });
    let mut written = Vec::new();
    for writer in writers {
        written.extend(writer.await.expect("the writer does not fail"));
    }
    written.sort_by_key(|position| position.offset);
    let log: Vec<Position> = node
        .log("notes")
        .await
        .iter()
        .map(|change| change.position)
        .collect();
    assert_eq!(log, written);
    let offsets: Vec<u64> = log.iter().map(|position| position.offset).collect();
    assert_eq!(offsets, (1..=200).collect::<Vec<_>>());
}

pub async fn a_reader_never_sees_a_gap<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let writers = [node.clone(), other].map(|writer| {
        spawn(async move {
            for _ in 0..100 {
                writer.create(json!({})).await;
            }
        })
    });
    // Read the log while both nodes write.
    let mut position = node.start_of_log().await;
    while position.offset < 200 {
        let ChangesSince::Changes { changes, .. } = node.since(position, 7).await else {
            panic!("the position is in the log");
        };
        for change in changes {
            assert_eq!(change.position.offset, position.offset + 1);
            position = change.position;
        }
    }
    for writer in writers {
        writer.await.expect("the writer does not fail");
    }
    assert_eq!(position, node.head("notes").await);
}

pub async fn a_page_of_changes_is_bounded_in_bytes_but_has_a_change<F: Fixture>() {
    const BYTES: usize = 10_000;
    let (_database, node) = database_with_notes::<F>().await;
    for size in [100, 6000, 3000, 20_000, 100, 100, 20_000] {
        node.create(json!({"body": "x".repeat(size)})).await;
    }
    let (mut position, mut pages) = (node.start_of_log().await, 0);
    let head = node.head("notes").await;
    while position != head {
        let limit = PageLimit {
            rows: 100,
            bytes: BYTES,
        };
        let read = node.store.changes("notes", position, limit).await;
        let ChangesSince::Changes { changes, more } = read.expect("changes") else {
            panic!("the position is in the log");
        };
        let bytes = |change: &Change| change.after["body"].as_str().map_or(0, str::len);
        let total: usize = changes.iter().map(bytes).sum();
        assert!(total <= BYTES || changes.len() == 1, "{total} bytes");
        assert_eq!(changes[0].position.offset, position.offset + 1);
        position = changes.last().expect("a page has a change").position;
        assert_eq!(more, position != head);
        pages += 1;
    }
    assert!(
        pages <= 6,
        "{pages} pages: the changes of some fit together"
    );
}

pub async fn large_values_that_did_not_change_are_not_logged<F: Fixture>() {
    let database = F::fresh().await;
    let open: Arc<Collection> = collection("notes").open_to_everyone().into();
    let node = Node::start(&database, [open]).await;
    let text = "x".repeat(2000);
    let id = node.create(json!({"body": text})).await;
    let patch = |patch| Edit::patch(note(&id), patch);
    let change = node.change(patch(json!({"stars": 1}))).await;
    assert!(change.after["body"] == text, "the outcome is whole");
    node.edit(patch(json!({"body": "short"}))).await;
    node.edit(patch(json!({"stars": 2}))).await;
    node.edit(Edit::delete(note(&id))).await;
    let log = node.log("notes").await;
    let bodies: Vec<_> = log
        .iter()
        .map(|change| (change.after.get("body"), change.previous.get("body")))
        .collect();
    let (text, short) = (json!(text), json!("short"));
    let expected = [
        (Some(&text), None),
        (None, None),
        (Some(&short), Some(&text)),
        (Some(&short), None),
        (None, Some(&short)),
    ];
    assert!(bodies == expected, "which bodies are logged");
}

pub async fn offsets_are_never_reused<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({})).await;
    let last = node.change(Edit::delete(note(&id))).await.position;
    let keep_none = Retention {
        age: std::time::Duration::from_secs(3600),
        count: 0,
        ..Retention::default()
    };
    while node.store.trim(keep_none).await.expect("trim") {}
    drop(node);
    let node = Node::start(&database, [notes()]).await;
    let next = node.change(Edit::create("notes", json!({}))).await.position;
    assert_eq!((next.epoch, next.offset), (last.epoch, last.offset + 1));
}

pub async fn each_collection_has_its_own_log<F: Fixture>() {
    let database = F::fresh().await;
    let collections = ["notes", "others"].map(|name| collection(name).into());
    let node = Node::start(&database, collections).await;
    let create = |name: &str| Edit::create(name, json!({"title": name}));
    let results = node
        .commit(vec![
            vec![create("others"), create("notes")],
            vec![create("notes")],
            vec![create("others")],
        ])
        .await;
    assert!(results.iter().all(Result::is_ok));
    for name in ["notes", "others"] {
        let log = node.log(name).await;
        let offsets: Vec<u64> = log.iter().map(|change| change.position.offset).collect();
        assert_eq!(offsets, [1, 2]);
        assert!(
            log.iter()
                .all(|change| change.after["title"] == name && *change.key.collection == *name)
        );
        assert_eq!(node.head(name).await, log[1].position);
    }
}

pub async fn the_heads_are_the_ends_of_all_logs<F: Fixture>() {
    let database = F::fresh().await;
    let collections = ["notes", "busy", "idle"].map(|name| collection(name).into());
    let node = Node::start(&database, collections).await;
    let other_collections = ["notes", "busy", "idle"].map(|name| collection(name).into());
    let other = Node::start(&database, other_collections).await;
    let idle = node.head("idle").await;
    assert_eq!((idle.offset, idle.tag), (0, 0));
    for _ in 0..3 {
        let change = node.change(Edit::create("busy", json!({}))).await;
        assert_eq!(node.head("busy").await, change.position);
        assert_eq!(other.head("busy").await, change.position);
        assert_ne!(change.position.tag, 0);
    }
    assert_eq!(node.head("idle").await, idle);
    assert_ne!(node.head("busy").await.epoch, idle.epoch);
}

/// A database whose log has ten changes.
async fn ten_changes<F: Fixture>() -> (F, Node, Vec<Change>) {
    let (database, node) = database_with_notes::<F>().await;
    for _ in 0..10 {
        node.create(json!({})).await;
    }
    let log = node.log("notes").await;
    assert_eq!(log.len(), 10);
    (database, node, log)
}

pub async fn changes_are_read_in_order_and_in_pages<F: Fixture>() {
    let (_database, node, log) = ten_changes::<F>().await;
    let start = node.start_of_log().await;
    for (since, limit, expected, more) in [
        (start, 3, 0..3, true),
        (log[2].position, 3, 3..6, true),
        (log[2].position, 7, 3..10, false),
        (log[2].position, 100, 3..10, false),
        (log[8].position, 1, 9..10, false),
        (start, 1, 0..1, true),
    ] {
        let changes = log[expected].to_vec();
        assert_eq!(
            node.since(since, limit).await,
            ChangesSince::Changes { changes, more }
        );
    }
}

/// A store may limit the bytes of a page, but every page brings the reader closer to the end of the log.
pub async fn a_page_contains_at_least_one_change_of_any_size<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    let body = "x".repeat(2 * 1024 * 1024);
    for _ in 0..3 {
        node.create(json!({"body": body})).await;
    }
    let mut position = node.start_of_log().await;
    let mut is_last = false;
    while !is_last {
        let ChangesSince::Changes { changes, more } = node.since(position, 10).await else {
            panic!("the position is in the log");
        };
        assert!(!changes.is_empty(), "a page contains at least one change");
        for change in changes {
            assert_eq!(change.position.offset, position.offset + 1);
            assert_eq!(change.after["body"], body);
            position = change.position;
        }
        is_last = !more;
    }
    assert_eq!(position, node.head("notes").await);
}

pub async fn no_changes_follow_the_end_of_the_log<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let no_changes = || ChangesSince::Changes {
        changes: Vec::new(),
        more: false,
    };
    assert_eq!(node.since(node.head("notes").await, 10).await, no_changes());
    node.create(json!({})).await;
    assert_eq!(node.since(node.head("notes").await, 10).await, no_changes());
    let other = Node::start(&database, [notes()]).await;
    assert_eq!(
        other.since(node.head("notes").await, 10).await,
        no_changes()
    );
}

async fn check_out_of_range(node: &Node, position: Position, reason: ResetReason) {
    assert_eq!(
        node.since(position, 10).await,
        ChangesSince::OutOfRange(reason),
        "{position:?}"
    );
}

pub async fn a_position_of_another_epoch_is_out_of_range<F: Fixture>() {
    let (_database, node, log) = ten_changes::<F>().await;
    for position in [node.start_of_log().await, log[4].position, log[9].position] {
        let position = Position {
            epoch: position.epoch ^ 1,
            ..position
        };
        check_out_of_range(&node, position, ResetReason::Epoch).await;
    }
}

pub async fn a_position_that_the_log_never_had_is_out_of_range<F: Fixture>() {
    let (_database, node, log) = ten_changes::<F>().await;
    for change in [&log[0], &log[4], &log[9]] {
        let tag = change.position.tag ^ 1;
        check_out_of_range(
            &node,
            Position {
                tag,
                ..change.position
            },
            ResetReason::Restored,
        )
        .await;
    }
    let start = node.start_of_log().await;
    check_out_of_range(&node, Position { tag: 1, ..start }, ResetReason::Restored).await;
    for offset in [11, 12, i64::MAX as u64] {
        check_out_of_range(
            &node,
            Position {
                offset,
                ..log[9].position
            },
            ResetReason::Restored,
        )
        .await;
    }
}
