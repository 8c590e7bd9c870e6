//! One node of an app: a prepared store, with short methods for the cases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Fixture;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::edit::Edit;
use crate::model::outcome::Outcome;
use crate::model::principal::Principal;
use crate::model::record::{Fields, Record, RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::store::listing::Listing;
use crate::store::page::{PageLimit, RecordPage};
use crate::store::store::Store;
use crate::write::batch::{Batch, Group, GroupResult};

/// How long a group may wait for a lock: far longer than a lock is held in any case.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) store: Arc<dyn Store>,
    collections: Vec<Arc<Collection>>,
}

/// The collection that most cases use.
pub(super) fn notes() -> Arc<Collection> {
    collection("notes").timestamps().into()
}

/// A collection with the fields of notes, without timestamps.
pub(super) fn collection(name: &str) -> Collection {
    let schema = json!({"type": "object", "properties": {
        "title": {"type": "string", "default": ""},
        "body": {"type": "string", "default": ""},
        "stars": {"type": "integer", "default": 0},
        "mood": {"type": ["string", "null"]},
    }});
    Collection::from_schema(name, &schema)
}

pub(super) fn fields(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is not an object"),
    }
}

pub(super) fn note(id: impl Into<RecordId>) -> RecordKey {
    RecordKey::new("notes", id)
}

/// A new database with the table of notes, and one node.
pub(super) async fn database_with_notes<F: Fixture>() -> (F, Node) {
    let fixture = F::fresh().await;
    let node = Node::start(&fixture, [notes()]).await;
    (fixture, node)
}

impl Node {
    /// Opens a store and prepares it.
    pub(super) async fn start<F: Fixture>(
        fixture: &F,
        collections: impl Into<Vec<Arc<Collection>>>,
    ) -> Self {
        let node = Self {
            store: fixture.open().await,
            collections: collections.into(),
        };
        node.store
            .prepare(&node.collections)
            .await
            .expect("prepare");
        node
    }

    pub(super) fn group(
        &self,
        principal: &Principal,
        edits: Vec<Edit>,
        deadline: Instant,
    ) -> Arc<Group> {
        let edits = edits.into_iter().map(|edit| {
            let mut collections = self.collections.iter();
            let collection = collections.find(|one| one.name() == edit.collection());
            let collection = collection.expect("the node was started with this collection");
            (edit, Arc::clone(collection), Grant::full())
        });
        Arc::new(Group {
            principal: Some(principal.clone()),
            edits: edits.collect(),
            deadline,
            references: Vec::new(),
            without_keys: None,
        })
    }

    fn groups(&self, groups: Vec<Vec<Edit>>) -> Vec<Arc<Group>> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        let groups = groups.into_iter();
        groups
            .map(|edits| self.group(&ada(), edits, deadline))
            .collect()
    }

    pub(super) fn batch(&self, groups: Vec<Vec<Edit>>) -> Batch {
        Batch::new(self.groups(groups))
    }

    /// Commits groups of edits in one batch, on behalf of Ada. A group that is refused as locked is committed again,
    /// alone, as the engine does.
    pub(super) async fn commit(&self, groups: Vec<Vec<Edit>>) -> Vec<GroupResult> {
        let groups = self.groups(groups);
        let batch = Batch::new(groups.clone());
        let mut results = self.store.commit(batch).await.expect("commit").results;
        assert_eq!(results.len(), groups.len(), "expected one result per group");
        for (group, result) in groups.into_iter().zip(&mut results) {
            if matches!(result, Err(refused) if refused.refusal == Refusal::Locked) {
                let alone = self.store.commit(Batch::new(vec![group])).await;
                *result = alone.expect("commit").results.remove(0);
            }
        }
        results
    }

    pub(super) async fn try_edit_as(
        &self,
        principal: &Principal,
        edit: Edit,
    ) -> Result<Outcome, Refusal> {
        let group = self.group(principal, vec![edit], Instant::now() + COMMIT_TIMEOUT);
        let results = self
            .store
            .commit(Batch::new(vec![group]))
            .await
            .expect("commit")
            .results;
        let [result] =
            <[GroupResult; 1]>::try_from(results).expect("expected one result per group");
        let outcomes = result.map_err(|refused| refused.refusal)?;
        let [outcome] = <[Outcome; 1]>::try_from(outcomes).expect("expected one outcome per edit");
        Ok(outcome)
    }

    pub(super) async fn try_edit(&self, edit: Edit) -> Result<Outcome, Refusal> {
        self.try_edit_as(&ada(), edit).await
    }

    pub(super) async fn edit(&self, edit: Edit) -> Outcome {
        self.try_edit(edit).await.expect("the edit is not refused")
    }

    /// Commits an edit that changes the record.
    pub(super) async fn change(&self, edit: Edit) -> Arc<Change> {
        committed(self.edit(edit).await)
    }

    /// Creates a note, and returns its id.
    pub(super) async fn create(&self, fields: Value) -> RecordId {
        self.change(Edit::create("notes", fields))
            .await
            .key
            .id
            .clone()
    }

    pub(super) async fn get(&self, key: &RecordKey) -> Option<Record> {
        self.store.get(key).await.expect("get").0
    }

    /// One field of a note that exists.
    pub(super) async fn field(&self, id: RecordId, name: &str) -> Value {
        self.get(&note(&id)).await.expect("the note exists").fields[name].clone()
    }

    pub(super) async fn list(&self, collection: &str) -> Vec<Record> {
        let (mut records, mut after): (Vec<Record>, _) = (Vec::new(), None);
        loop {
            let page = self.page(collection, after, 100_000).await;
            records.extend(page.records);
            if !page.more {
                return records;
            }
            after = records.last().map(|last| last.id.clone());
        }
    }

    /// A page of at most this many records, and of up to 1 MiB.
    pub(super) async fn page(
        &self,
        collection: &str,
        after: Option<RecordId>,
        rows: usize,
    ) -> RecordPage {
        let listing = Listing::by_id(after, up_to(rows));
        let page = self.store.list(collection, &listing).await;
        page.expect("list")
    }

    pub(super) async fn head(&self, collection: &str) -> Position {
        let heads = self.store.heads().await.expect("heads");
        let mut named = heads.iter().filter(|(name, _)| **name == *collection);
        let (_, head) = named.next().expect("every collection has a head");
        assert!(named.next().is_none(), "a collection has one head");
        *head
    }

    pub(super) async fn since(&self, position: Position, limit: usize) -> ChangesSince {
        self.store
            .changes("notes", position, up_to(limit))
            .await
            .expect("changes")
    }

    /// The position before the first change of notes.
    pub(super) async fn start_of_log(&self) -> Position {
        Position {
            offset: 0,
            tag: 0,
            ..self.head("notes").await
        }
    }

    /// All changes of a collection whose log has not been trimmed.
    pub(super) async fn log(&self, collection: &str) -> Vec<Change> {
        let mut log: Vec<Change> = Vec::new();
        let mut position = Position {
            offset: 0,
            tag: 0,
            ..self.head(collection).await
        };
        loop {
            match self
                .store
                .changes(collection, position, up_to(1000))
                .await
                .expect("changes")
            {
                ChangesSince::Changes { changes, more } => {
                    log.extend(changes);
                    position = log.last().map_or(position, |last| last.position);
                    if !more {
                        return log;
                    }
                }
                ChangesSince::OutOfRange(reason) => {
                    panic!("the start of the log is out of range: {reason}")
                }
            }
        }
    }
}

/// At most this many rows, and 1 MiB.
fn up_to(rows: usize) -> PageLimit {
    PageLimit {
        rows,
        bytes: 1024 * 1024,
    }
}

/// The principal of the edits, unless the case names another.
pub(super) fn ada() -> Principal {
    Principal::named("ada")
}

#[track_caller]
pub(super) fn committed(outcome: Outcome) -> Arc<Change> {
    match outcome {
        Outcome::Committed(change) => change,
        other => panic!("not committed: {other:?}"),
    }
}
