//! Edits whose base is far back in the log keep no other edit waiting.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fieldsync::backend::{ChangesSince, Position, Store, StoreError};
use fieldsync::{Collection, Edit, Engine, RecordKey};
use serde_json::json;
use tokio::sync::watch;

use crate::app::{App, Server};
use crate::database::{Database, on_both_databases};
use crate::hooked_store::{Call, Hooked, Hooks};
use crate::tasks::{Tasks, within_limit};

on_both_databases!(
    m_others_write_while_the_changes_since_a_far_base_are_read,
    m_the_changes_since_a_far_base_are_read_while_another_program_writes,
);

/// How many changes back the base is.
const DISTANCE: u64 = 4_000;

fn notes() -> Collection {
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    Collection::from_schema("notes", &schema).open_to_everyone()
}

/// A store that holds back what is read since a base outside of transactions.
#[derive(Debug)]
struct Held {
    store: Arc<dyn Store>,
    /// Whether it is being read.
    is_reading: watch::Sender<bool>,
    is_held: watch::Receiver<bool>,
    /// From where transactions have read.
    read_in_transactions: Mutex<Vec<Position>>,
}

#[async_trait]
impl Hooks for Held {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        match call {
            Call::ChangesOf => {
                self.is_reading.send_replace(true);
                let _ = self.is_held.clone().wait_for(|is_held| !is_held).await;
            }
            Call::Commit(batch) => {
                let bases = batch.bases().into_iter().map(|(_, position)| position);
                self.read_in_transactions.lock().unwrap().extend(bases);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Creates two notes, and changes the second.
async fn write(engine: &Engine) {
    let create = Edit::create("notes", json!({"text": "first"}));
    engine.transaction(vec![create; 2]).await.unwrap();
}

async fn write_much(engine: &Engine) {
    for part in 0..DISTANCE / 1000 {
        let text = |number| json!({"text": format!("{part} {number}")});
        let patch = |number| Edit::patch(("notes", 2), text(number));
        let edits = (0..1000).map(patch).collect();
        engine.transaction(edits).await.unwrap();
    }
}

async fn m_others_write_while_the_changes_since_a_far_base_are_read(database: Database) {
    let (hold, is_held) = watch::channel(true);
    let held = Arc::new(Held {
        store: Arc::from(database.second_store(&[]).await),
        is_reading: watch::Sender::default(),
        is_held,
        read_in_transactions: Mutex::default(),
    });
    let builder = Engine::builder().collection(notes());
    let builder = builder.store(Hooked(Arc::<Held>::clone(&held)));
    let app = App::with(Server::Axum, builder, tempfile::tempdir().unwrap()).await;
    write(&app.engine).await;
    let read = app.request("GET", "/api/notes/1/").send().await.unwrap();
    let base = read.headers()["fieldsync-cursor"].clone();
    write_much(&app.engine).await;
    app.announced("notes", 2 + DISTANCE).await;
    let edit = app.request("PATCH", "/api/notes/1/");
    let edit = edit.header("fieldsync-base", base);
    let edit = edit.json(&json!({"text": "mine"}));
    let tasks = Tasks::new();
    let edit = tasks.spawn(edit.send());
    let mut is_reading = held.is_reading.subscribe();
    let reading = is_reading.wait_for(|is_reading| *is_reading);
    drop(tasks.wait("a read since the base", reading).await);
    for number in 0..20 {
        let text = json!({"text": format!("another {number}")});
        let other = app.send("PATCH", "/api/notes/2/", &text);
        let (status, _) = within_limit("an edit of another client", other).await;
        assert_eq!(status, 200);
    }
    assert!(!edit.is_finished());
    hold.send_replace(false);
    let reply = tasks.wait("the edit", edit).await.unwrap().unwrap();
    assert_eq!(reply.status(), 200);
    // Its transaction has read only what came after that.
    let read = held.read_in_transactions.lock().unwrap();
    assert!(
        matches!(**read, [position] if position.offset > DISTANCE),
        "{read:?}"
    );
}

async fn m_the_changes_since_a_far_base_are_read_while_another_program_writes(database: Database) {
    let builder = Engine::builder().collection(notes());
    let builder = database.store(builder, "postgres", "").await;
    let engine = builder.start().await.unwrap();
    write(&engine).await;
    let store = database.second_store(&[Arc::new(notes())]).await;
    let key = RecordKey::from(("notes", 1));
    let (_, base) = store.get(&key).await.unwrap();
    write_much(&engine).await;
    let mut program = database.program().await;
    let lock = match database.is_postgres() {
        true => "begin; lock table fieldsync_heads, fieldsync_changes, notes in exclusive mode",
        false => "begin immediate; update fieldsync_heads set last = last",
    };
    assert!(program.try_run(lock).await);
    let read = within_limit("a read since the base", store.changes_of(&key, base)).await;
    let ChangesSince::Changes { changes, .. } = read.unwrap() else {
        panic!("the log has the base")
    };
    assert!(changes.is_empty(), "{changes:?}");
    assert!(program.try_run("rollback").await);
}
