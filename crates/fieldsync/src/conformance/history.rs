//! After any sequence of edits, the table equals the fold of the log.

use std::collections::BTreeMap;

use serde_json::json;

use super::Fixture;
use super::node::{Node, database_with_notes, note, notes};
use super::tasks::spawn;

use crate::model::change::{Action, Change};
use crate::model::edit::Edit;
use crate::model::record::{Fields, RecordId};

pub async fn the_table_equals_the_fold_of_the_log<F: Fixture>() {
    let seed = match std::env::var("FIELDSYNC_TEST_SEED") {
        Ok(seed) => seed.parse().expect("FIELDSYNC_TEST_SEED: not an integer"),
        Err(_) => fastrand::u64(..),
    };
    println!("FIELDSYNC_TEST_SEED={seed} repeats the random choices of this test");
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let (one, two) = (random.fork(), random.fork());
    let (one, two) = tokio::join!(
        spawn(edit_at_random(node.clone(), one)),
        spawn(edit_at_random(other, two))
    );
    let committed = one.expect("node one does not fail") + two.expect("node two does not fail");

    let log = node.log("notes").await;
    assert_eq!(log.len(), committed, "one change per committed edit");
    let mut table: BTreeMap<RecordId, Fields> = BTreeMap::new();
    for change in &log {
        apply(&mut table, change);
    }
    let listed = node.list("notes").await;
    let listed: BTreeMap<_, _> = listed
        .into_iter()
        .map(|record| (record.id, record.fields))
        .collect();
    assert_eq!(listed, table);
}

/// Commits batches of random edits of a few records, and returns the number of changes.
async fn edit_at_random(node: Node, mut random: fastrand::Rng) -> usize {
    let mut committed = 0;
    for _ in 0..60 {
        let mut group = || {
            let edits = random.usize(1..=3);
            (0..edits)
                .map(|_| random_edit(&mut random))
                .collect::<Vec<_>>()
        };
        let groups = (0..4).map(|_| group()).collect();
        for outcome in node.commit(groups).await.into_iter().flatten().flatten() {
            committed += usize::from(matches!(outcome, crate::Outcome::Committed(_)));
        }
    }
    committed
}

fn random_edit(random: &mut fastrand::Rng) -> Edit {
    let id = RecordId::Integer(random.i64(1..=30));
    let title = random.u8(0..3).to_string();
    match random.u8(0..10) {
        0..3 => Edit::create("notes", json!({"title": title})),
        3..5 => Edit::patch(note(&id), json!({"title": title})),
        5..7 => Edit::patch(note(&id), json!({"body": title, "mood": null})),
        7 => super::edits::add_star(note(&id)),
        8 => Edit::delete(note(&id)),
        _ => Edit::refresh(note(&id)),
    }
}

/// Applies a change, and checks that its previous values are those of the table.
fn apply(table: &mut BTreeMap<RecordId, Fields>, change: &Change) {
    let id = change.key.id.clone();
    let before = table.remove(&id);
    match change.action {
        Action::Create => assert_eq!(before, None, "{change:?}"),
        // A refresh of a record that did not exist.
        Action::Delete if change.previous.is_empty() => assert_eq!(before, None, "{change:?}"),
        Action::Delete => assert_eq!(before.as_ref(), Some(&change.previous), "{change:?}"),
        Action::Update => {
            let mut previous = change.after.clone();
            previous.extend(change.previous.clone());
            assert_eq!(before, Some(previous), "{change:?}");
        }
        Action::Enter | Action::Leave => panic!("{change:?}"),
    }
    if change.action != Action::Delete {
        table.insert(id, change.after.clone());
    }
}
