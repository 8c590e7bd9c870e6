//! Reads what has changed since the base of an edit before the edit's transaction, where that is far back: other edits would wait
//! for it.

use crate::live::hub::Hub;
use crate::model::changes_since::{ChangesSince, History};
use crate::model::edit::Edit;
use crate::store::error::StoreError;
use crate::store::store::Store;
use crate::write::batch::MAX_BASE_DISTANCE;

/// How many changes the base of an edit may be behind the end of the log, so that what follows it is read in the transaction.
const MAX_DISTANCE_IN_TRANSACTION: u64 = 100;

/// Reads ahead for this edit, if its base is far back in the log of this hub. What follows the hub's end is left to the transaction.
pub(crate) async fn read_ahead(
    edit: &mut Edit,
    hub: &Hub,
    store: &dyn Store,
) -> Result<(), StoreError> {
    let (Some(key), Some(base), None) = (edit.key(), edit.base, &edit.history) else {
        return Ok(());
    };
    let end = hub.head();
    let distance = end.offset.saturating_sub(base.offset);
    if base.epoch != end.epoch || distance <= MAX_DISTANCE_IN_TRANSACTION {
        return Ok(());
    }
    let is_too_far = distance > MAX_BASE_DISTANCE;
    let history = match is_too_far {
        true => History::Lost,
        false => match store.changes_of(&key, base).await? {
            ChangesSince::Changes { changes, .. } => History::UpTo(end, changes),
            ChangesSince::OutOfRange(_) => History::Lost,
        },
    };
    edit.history = Some(history);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::engine::Engine;
    use crate::model::cursor::{Cursor, Position, Shape};
    use crate::schema::collection::Collection;
    use crate::store::memory::MemoryStore;

    fn patch(base: Position) -> Edit {
        let shape = Shape { schema: 0, view: 0 };
        let cursor = Cursor {
            position: base,
            shape,
        };
        Edit::patch(("notes", 1), json!({"text": "mine"})).with_base(cursor)
    }

    #[tokio::test]
    async fn the_transaction_reads_only_what_is_near_the_end_of_the_log() {
        let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        let notes = Collection::from_schema("notes", &schema).open_to_everyone();
        let engine = Engine::builder()
            .collection(notes)
            .store(MemoryStore::new());
        let engine = engine.start().await.expect("the engine starts");
        let notes = vec![Edit::create("notes", json!({"text": ""})); 2];
        engine.transaction(notes).await.expect("two notes");
        let (hub, store) = (engine.hub("notes"), &**engine.store());
        let base = hub.head();
        for id in [1, 2] {
            let edit =
                |number: u64| Edit::patch(("notes", id), json!({"text": number.to_string()}));
            let edits = (0..MAX_DISTANCE_IN_TRANSACTION).map(edit).collect();
            engine.transaction(edits).await.expect("the edits");
        }
        let mut edit = patch(base);
        read_ahead(&mut edit, hub, store).await.expect("a read");
        assert_eq!(edit.base_to_read(), Some(hub.head()));
        let Some(History::UpTo(_, changes)) = &edit.history else {
            panic!("{:?}", edit.history)
        };
        assert_eq!(changes.len() as u64, MAX_DISTANCE_IN_TRANSACTION);
        // Nearer to the end, the transaction reads it all.
        let near = Position {
            offset: hub.head().offset - MAX_DISTANCE_IN_TRANSACTION,
            ..base
        };
        let mut edit = patch(near);
        read_ahead(&mut edit, hub, store).await.expect("a read");
        assert_eq!(edit.base_to_read(), Some(near));
        // What the log does not have is not looked for.
        let mut edit = patch(Position { tag: 7, ..base });
        read_ahead(&mut edit, hub, store).await.expect("a read");
        assert_eq!(edit.base_to_read(), None);
    }
}
