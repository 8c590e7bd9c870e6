//! Records to which edits refer, and which may be hidden from the principal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Fixture;
use super::node::{COMMIT_TIMEOUT, Node, ada, collection, notes};

use crate::engine::memberships::Memberships;
use crate::model::access::Access;
use crate::model::edit::Edit;
use crate::model::record::{Fields, RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::foreign_key::ForeignKey;
use crate::schema::grant::Grant;
use crate::schema::reference::{GuardedReference, References};
use crate::schema::rules::{Rules, exists, on, principal};
use crate::write::batch::{Batch, Group};

/// The stars of a note are the id of a folder, which its members see.
struct Database<F> {
    /// It deletes the database at its end.
    _fixture: F,
    node: Node,
    collections: BTreeMap<Arc<str>, Arc<Collection>>,
    references: References,
}

fn members_read() -> Rules {
    let member = exists("members", on("stars").equals("id"), principal("title"));
    Rules::new().read(member)
}

impl<F: Fixture> Database<F> {
    async fn fresh() -> Self {
        let fixture = F::fresh().await;
        let folders = collection("folders").rules(members_read());
        let collections: [Arc<Collection>; 3] =
            [notes(), folders.into(), collection("members").into()];
        let node = Node::start(&fixture, collections.clone()).await;
        let named = collections.map(|one| (Arc::clone(one.name()), one));
        let collections = named.into();
        let foreign_key = ForeignKey {
            collection: "notes".into(),
            fields: vec![Some("stars".into())],
            target: "folders".into(),
            target_fields: vec![Some("id".into())],
        };
        Self {
            _fixture: fixture,
            node,
            references: References::of(&[foreign_key], &collections),
            collections,
        }
    }

    async fn add(&self, collection: &str, record: Value) -> RecordKey {
        let created = self.node.change(Edit::create(collection, record)).await;
        created.key.clone()
    }

    async fn add_member(&self, folder: &RecordKey) -> RecordKey {
        let member = json!({"title": "ada", "stars": folder.id});
        self.add("members", member).await
    }

    /// Which folders Ada sees now.
    async fn ask(&self) -> Arc<Grant> {
        let memberships = Memberships {
            store: &*self.node.store,
            collections: &self.collections,
        };
        let grant = members_read().grant(&ada(), Access::Read);
        let folders = &self.collections["folders"];
        let grant = memberships
            .resolve(grant.expect("a rule applies"), folders)
            .await;
        let grant = grant.expect("the store answers").checked(folders);
        Arc::new(grant.expect("the rules fit"))
    }

    /// Edits of Ada, who sees these folders, or those of the app.
    fn group(&self, edits: Vec<Edit>, sees: Option<&Arc<Grant>>, timeout: Duration) -> Arc<Group> {
        let references: Vec<_> = edits
            .iter()
            .flat_map(|edit| self.references.set_by(edit))
            .zip(sees)
            .map(|(reference, readable)| GuardedReference {
                reference: Arc::clone(reference),
                readable: Arc::clone(readable),
            })
            .collect();
        let group = self.node.group(&ada(), edits, Instant::now() + timeout);
        let group = Arc::into_inner(group).expect("nobody else has it");
        Arc::new(Group {
            references,
            ..group
        })
    }

    /// What becomes of groups that are committed in one batch.
    async fn commit(&self, groups: Vec<Arc<Group>>) -> Vec<Result<(), Refusal>> {
        let committed = self.node.store.commit(Batch::new(groups)).await;
        let results = committed.expect("commit").results.into_iter();
        let result = results.map(|result| result.map(drop).map_err(|refused| refused.refusal));
        result.collect()
    }

    /// Ada, who sees these folders, puts a new note into one.
    async fn try_create(&self, folder: &RecordId, sees: &Arc<Grant>) -> Result<(), Refusal> {
        let group = self.group(vec![into(folder)], Some(sees), COMMIT_TIMEOUT);
        self.commit(vec![group]).await.remove(0)
    }
}

/// A new note in a folder.
fn into(folder: &RecordId) -> Edit {
    Edit::create("notes", json!({"stars": folder}))
}

#[track_caller]
fn assert_refused(result: Result<(), Refusal>) {
    let Err(Refusal::Conflict(errors)) = result else {
        panic!("not a conflict: {result:?}");
    };
    let fields: Vec<_> = errors.iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["stars"]);
}

pub async fn a_principal_refers_only_to_what_it_sees<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let [seen, hidden] = [(); 2].map(|()| database.add("folders", json!({})));
    let (seen, hidden) = (seen.await, hidden.await);
    database.add_member(&seen).await;
    let sees = database.ask().await;
    assert_eq!(database.try_create(&seen.id, &sees).await, Ok(()));
    let refused = database.try_create(&hidden.id, &sees).await;
    let absent = database.try_create(&987_654.into(), &sees).await;
    assert_eq!(refused, absent);
    assert_refused(refused);
    let groups = vec![
        database.group(vec![into(&hidden.id)], None, COMMIT_TIMEOUT),
        database.group(vec![into(&hidden.id)], Some(&sees), COMMIT_TIMEOUT),
        database.group(vec![into(&seen.id)], Some(&sees), COMMIT_TIMEOUT),
    ];
    let mut results = database.commit(groups).await;
    assert_refused(results.remove(1));
    assert_eq!(results, [Ok(()), Ok(())]);
}

pub async fn a_principal_refers_to_a_record_only_as_long_as_it_sees_it<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let folder = database.add("folders", json!({})).await;
    let member = database.add_member(&folder).await;
    let sees = database.ask().await;
    assert_eq!(database.try_create(&folder.id, &sees).await, Ok(()));
    // Before the commit, and by an earlier edit of the same batch.
    let other = json!({"title": "bob"});
    database.node.edit(Edit::patch(member.clone(), other)).await;
    assert_refused(database.try_create(&folder.id, &sees).await);
    let back = json!({"title": "ada"});
    database.node.edit(Edit::patch(member.clone(), back)).await;
    let groups = vec![
        database.group(vec![into(&folder.id)], Some(&sees), COMMIT_TIMEOUT),
        database.group(vec![Edit::delete(member)], None, COMMIT_TIMEOUT),
        database.group(vec![into(&folder.id)], Some(&sees), COMMIT_TIMEOUT),
    ];
    let mut results = database.commit(groups).await;
    assert_refused(results.remove(2));
    assert_eq!(results, [Ok(()), Ok(())]);
    // The record itself is deleted.
    database.add_member(&folder).await;
    let sees = database.ask().await;
    database.node.edit(Edit::delete(folder.clone())).await;
    assert_refused(database.try_create(&folder.id, &sees).await);
}

pub async fn a_principal_refers_to_what_it_creates_itself<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let sees = database.ask().await;
    let edits = vec![
        Edit::create("folders", json!({})),
        Edit::create_with("notes", |ids| json!({"stars": ids[0]})),
    ];
    let group = database.group(edits, Some(&sees), COMMIT_TIMEOUT);
    assert_eq!(database.commit(vec![group]).await, [Ok(())]);
}

pub async fn a_refused_reference_does_not_affect_other_groups<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let [seen, hidden] = [(); 2].map(|()| database.add("folders", json!({})));
    let (seen, hidden) = (seen.await, hidden.await);
    database.add_member(&seen).await;
    let sees = database.ask().await;
    let note = database.add("notes", json!({"title": "kept"})).await;
    let spoil = Edit::patch(note.clone(), json!({"title": "", "stars": hidden.id}));
    let move_kept = Edit::update(note, move |note: &mut Fields| {
        let to = if note["title"] == "kept" {
            &seen
        } else {
            &hidden
        };
        note.insert("stars".into(), json!(to.id));
    });
    let group = |edit| database.group(vec![edit], Some(&sees), COMMIT_TIMEOUT);
    let mut results = database.commit(vec![group(spoil), group(move_kept)]).await;
    assert_eq!(results.pop(), Some(Ok(())));
    assert_refused(results.remove(0));
}
