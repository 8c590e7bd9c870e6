//! Where the table has capture, the log tells what others wrote. A store without capture passes these cases at once.

use std::collections::BTreeMap;

use serde_json::json;

use super::Fixture;
use super::node::{Node, database_with_notes, fields, note, notes};
use super::tasks::spawn;

use crate::model::change::{Action, Change};
use crate::model::cursor::{Cursor, Shape};
use crate::model::edit::Edit;
use crate::model::record::{Fields, RecordId};
use crate::model::refusal::Refusal;
use crate::store::store::Retention;

/// Has everything logged that others wrote, and returns the number of changes.
async fn drain(node: &Node) -> usize {
    let mut count = 0;
    loop {
        let logged = node.store.log_captured(Retention::default()).await;
        let logged = logged.expect("log_captured");
        assert!(!logged.interrupted, "nothing was interrupted");
        count += logged.changes.len();
        if !logged.more {
            return count;
        }
    }
}

pub async fn what_others_wrote_is_logged_with_previous_values<F: Fixture>() {
    if !F::CAPTURES {
        return;
    }
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let row = |title: &str| Some(fields(json!({"title": title})));
    database
        .write_externally("notes", id.clone(), row("b"))
        .await;
    assert_eq!(drain(&node).await, 1);
    assert_eq!(drain(&node).await, 0);
    database.write_externally("notes", id, None).await;
    assert_eq!(drain(&node).await, 1);
    let [_, updated, deleted] = &*node.log("notes").await else {
        panic!("three changes")
    };
    let previous = fields(json!({"title": "a"}));
    assert_eq!(
        (updated.action, &updated.previous),
        (Action::Update, &previous)
    );
    assert_eq!(updated.who, None);
    assert_eq!(
        (deleted.action, &deleted.previous),
        (Action::Delete, &updated.after)
    );
}

pub async fn an_edit_on_top_of_what_others_wrote_conflicts_with_its_base<F: Fixture>() {
    if !F::CAPTURES {
        return;
    }
    let (database, node) = database_with_notes::<F>().await;
    let created = node
        .change(Edit::create("notes", json!({"title": "a"})))
        .await;
    let base = Cursor {
        position: created.position,
        shape: Shape { schema: 0, view: 0 },
    };
    let id = created.key.id.clone();
    let row = fields(json!({"title": "theirs"}));
    database
        .write_externally("notes", id.clone(), Some(row))
        .await;
    let edit = |patch| Edit::patch(note(&id), patch).with_base(base);
    let refusal = node.try_edit(edit(json!({"title": "mine"}))).await;
    let Err(Refusal::ChangedSinceBase(conflicts)) = refusal else {
        panic!("{refusal:?}")
    };
    let conflict = &conflicts["title"];
    let shown = [&conflict.base, &conflict.mine, &conflict.theirs].map(Clone::clone);
    assert_eq!(
        shown,
        [Some(json!("a")), Some(json!("mine")), Some(json!("theirs"))]
    );
    node.edit(edit(json!({"body": "mine"}))).await;
    let log = node.log("notes").await;
    assert_eq!(log.len(), 3, "what others wrote is logged before the edit");
    assert_eq!(log[1].after["title"], "theirs");
}

pub async fn two_nodes_log_everything_once<F: Fixture>() {
    if !F::CAPTURES {
        return;
    }
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(node.create(json!({"title": "a"})).await);
    }
    for id in ids {
        let row = fields(json!({"title": "b"}));
        database.write_externally("notes", id, Some(row)).await;
    }
    let both = async |node: Node| spawn(async move { drain(&node).await }).await;
    let (one, two) = tokio::join!(both(node.clone()), both(other));
    let logged = one.expect("node one does not fail") + two.expect("node two does not fail");
    assert_eq!(logged, 20);
    assert_eq!(node.log("notes").await.len(), 40);
}

pub async fn previous_values_chain_whoever_writes<F: Fixture>() {
    if !F::CAPTURES {
        return;
    }
    let seed = match std::env::var("FIELDSYNC_TEST_SEED") {
        Ok(seed) => seed.parse().expect("FIELDSYNC_TEST_SEED: not an integer"),
        Err(_) => fastrand::u64(..),
    };
    println!("FIELDSYNC_TEST_SEED={seed} repeats the random choices of this test");
    let mut random = fastrand::Rng::with_seed(seed);
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(node.create(json!({"title": "a"})).await);
    }
    for _ in 0..200 {
        let id = ids[random.usize(..ids.len())].clone();
        let text = random.u8(0..4).to_string();
        let node = if random.bool() { &node } else { &other };
        match random.u8(0..10) {
            0..4 => {
                let row = fields(json!({"title": text, "stars": random.u8(0..3)}));
                // A new row has no times.
                if node.get(&note(&id)).await.is_some() {
                    database.write_externally("notes", id, Some(row)).await;
                }
            }
            4 => database.write_externally("notes", id, None).await,
            5..8 => {
                let patch = json!({"body": text, "title": text});
                let _ = node.try_edit(Edit::patch(note(&id), patch)).await;
            }
            8 => {
                let _ = node.try_edit(Edit::delete(note(&id))).await;
                ids.push(node.create(json!({"title": text})).await);
            }
            _ => {
                drain(node).await;
            }
        }
    }
    drain(&node).await;
    let mut table: BTreeMap<RecordId, Fields> = BTreeMap::new();
    for change in node.log("notes").await {
        apply(&mut table, &change);
    }
    let listed = node.list("notes").await;
    let listed: BTreeMap<_, _> = listed
        .into_iter()
        .map(|record| (record.id, record.fields))
        .collect();
    assert_eq!(listed, table);
}

/// Applies a change, and checks that its previous values are those after the change before it.
fn apply(table: &mut BTreeMap<RecordId, Fields>, change: &Change) {
    let before = table.remove(&change.key.id);
    match change.action {
        Action::Create => assert_eq!(before, None, "{change:?}"),
        Action::Delete => assert_eq!(before.as_ref(), Some(&change.previous), "{change:?}"),
        Action::Update => {
            let mut previous = change.after.clone();
            previous.extend(change.previous.clone());
            assert_eq!(before, Some(previous), "{change:?}");
            assert!(!change.previous.is_empty(), "{change:?}");
        }
        Action::Enter | Action::Leave => panic!("{change:?}"),
    }
    if change.action != Action::Delete {
        table.insert(change.key.id.clone(), change.after.clone());
    }
}
