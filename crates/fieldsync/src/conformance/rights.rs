//! Rights that rest on other records, which may change between the question and the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Fixture;
use super::node::{COMMIT_TIMEOUT, Node, ada, collection, committed, fields, note, notes};

use crate::engine::memberships::Memberships;
use crate::model::access::Access;
use crate::model::edit::Edit;
use crate::model::filter::Filter;
use crate::model::record::{RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::rules::{Rules, exists, on, principal};
use crate::write::batch::{Batch, Group, GroupResult, RefusedEdit};

/// Notes with as many stars as a membership says may be written by the editor that it names.
struct Database<F> {
    fixture: F,
    node: Node,
    collections: BTreeMap<Arc<str>, Arc<Collection>>,
}

impl<F: Fixture> Database<F> {
    async fn fresh() -> Self {
        let fixture = F::fresh().await;
        let members = Arc::new(collection("members"));
        let node = Node::start(&fixture, [notes(), Arc::clone(&members)]).await;
        let collections = [notes(), members];
        let named = collections.map(|one| (Arc::clone(one.name()), one));
        Self {
            fixture,
            node,
            collections: named.into(),
        }
    }

    async fn add(&self, collection: &str, record: Value) -> RecordKey {
        let created = self.node.change(Edit::create(collection, record)).await;
        created.key.clone()
    }

    async fn add_member(&self, stars: i64) -> RecordKey {
        let member = json!({"title": "ada", "stars": stars, "body": "editor"});
        self.add("members", member).await
    }

    /// What Ada may do now.
    async fn ask(&self, access: Access) -> Grant {
        let editor = principal("title").and(Filter::eq("body", "editor"));
        let rules = Rules::new().read_and_write(exists("members", on("stars"), editor));
        let memberships = Memberships {
            store: &*self.node.store,
            collections: &self.collections,
        };
        let (ada, notes) = (ada(), &self.collections["notes"]);
        let granted = async |access| {
            let grant = rules.grant(&ada, access).expect("a rule applies");
            let grant = memberships.resolve(grant, notes).await;
            let grant = grant.expect("the store answers").checked(notes);
            grant.expect("the rules fit")
        };
        let reads = granted(Access::Read).await;
        granted(access).await.readable_under(&reads)
    }

    fn group(&self, edit: Edit, grant: Option<&Grant>, deadline: Duration) -> Arc<Group> {
        let collection = Arc::clone(&self.collections[edit.collection()]);
        Arc::new(Group {
            principal: grant.map(|_| ada()),
            edits: vec![(edit, collection, grant.cloned().unwrap_or_default())],
            deadline: Instant::now() + deadline,
            references: Vec::new(),
            without_keys: None,
        })
    }

    /// Commits edits of the app, and those of Ada under a grant, in one batch.
    async fn commit(&self, edits: Vec<(Edit, Option<&Grant>)>) -> Vec<GroupResult> {
        let groups = edits.into_iter();
        let groups = groups.map(|(edit, grant)| self.group(edit, grant, COMMIT_TIMEOUT));
        let committed = self.node.store.commit(Batch::new(groups.collect())).await;
        committed.expect("commit").results
    }

    async fn try_edit(&self, edit: Edit, grant: &Grant) -> Result<(), Refusal> {
        let result = self.commit(vec![(edit, Some(grant))]).await.remove(0);
        let outcomes = result.map_err(|refused| refused.refusal)?;
        outcomes.into_iter().map(committed).for_each(drop);
        Ok(())
    }
}

fn patch(id: &RecordId, patch: Value) -> Edit {
    Edit::patch(note(id), patch)
}

pub async fn a_right_ends_with_the_record_that_it_rests_on<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let id = database.add("notes", json!({"stars": 5})).await.id;
    let member = database.add_member(5).await;
    let before = database.ask(Access::Update).await;
    let try_update = async |grant: &Grant, title: &str| {
        database
            .try_edit(patch(&id, json!({"title": title})), grant)
            .await
    };
    assert_eq!(try_update(&before, "a").await, Ok(()));

    // It is another project's, then another role's, and then it does not exist.
    let hidden = Err(Refusal::NotFound(note(&id)));
    for (change, back) in [
        (json!({"stars": 6}), json!({"stars": 5})),
        (json!({"body": "viewer"}), json!({"body": "editor"})),
        (json!({"title": "bob"}), json!({"title": "ada"})),
    ] {
        database
            .node
            .edit(Edit::patch(member.clone(), change))
            .await;
        assert_eq!(try_update(&before, "b").await, hidden);
        database.node.edit(Edit::patch(member.clone(), back)).await;
        let title = format!("c {}", database.node.head("notes").await.offset);
        assert_eq!(try_update(&before, &title).await, Ok(()));
    }
    database.node.edit(Edit::delete(member)).await;
    assert_eq!(try_update(&before, "d").await, hidden);
    let create = database.ask(Access::Create).await;
    let created = database.try_edit(Edit::create("notes", json!({"stars": 5})), &create);
    assert!(matches!(created.await, Err(Refusal::Denied(_))));
}

pub async fn a_record_can_be_moved_only_to_where_a_right_is<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let id = database.add("notes", json!({"stars": 5})).await.id;
    let (five, seven) = (database.add_member(5).await, database.add_member(7).await);
    let grant = database.ask(Access::Update).await;
    let to = async |stars: i64| {
        database
            .try_edit(patch(&id, json!({"stars": stars})), &grant)
            .await
    };
    assert!(matches!(to(8).await, Err(Refusal::Denied(_))));
    assert_eq!(to(7).await, Ok(()));
    database.node.edit(Edit::delete(five)).await;
    assert!(matches!(to(5).await, Err(Refusal::Denied(_))));
    // A closure may set any value.
    let update = |stars: i64| {
        Edit::update(
            note(&id),
            move |fields: &mut crate::model::record::Fields| {
                fields.insert("stars".into(), stars.into());
            },
        )
    };
    assert!(database.try_edit(update(5), &grant).await.is_err());
    database.add_member(9).await;
    let grant = database.ask(Access::Update).await;
    assert_eq!(database.try_edit(update(9), &grant).await, Ok(()));
    database.node.edit(Edit::delete(seven)).await;
    assert!(database.try_edit(update(7), &grant).await.is_err());
    assert_eq!(database.node.field(id, "stars").await, 9);
}

pub async fn a_right_ends_within_a_batch<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let id = database.add("notes", json!({"stars": 5})).await.id;
    let (five, seven) = (database.add_member(5).await, database.add_member(7).await);
    let grant = database.ask(Access::Update).await;
    let title = |title: &str| (patch(&id, json!({"title": title})), Some(&grant));
    let app = |edit| (edit, None);
    let results = async |edits| {
        let results = database.commit(edits).await;
        results.iter().map(Result::is_ok).collect::<Vec<_>>()
    };
    // Others move the record to where Ada is a member, too, and to where she is not.
    let moved = |stars: i64| app(patch(&id, json!({"stars": stars})));
    let moves = vec![moved(7), title("a"), moved(6), title("b"), moved(5)];
    assert_eq!(results(moves).await, [true, true, true, false, true]);
    let removed = vec![
        title("c"),
        app(Edit::delete(five)),
        title("d"),
        moved(7),
        title("e"),
        app(Edit::patch(seven, json!({"body": "viewer"}))),
        title("f"),
    ];
    let expected = [true, true, false, true, true, true, false];
    assert_eq!(results(removed).await, expected);
    assert_eq!(database.node.field(id, "title").await, "e");
}

pub async fn a_commit_waits_for_a_lock_of_the_record_that_a_right_rests_on<F: Fixture>() {
    let database = Database::<F>::fresh().await;
    let id = database.add("notes", json!({"stars": 5})).await.id;
    let member = database.add_member(5).await;
    let grant = database.ask(Access::Update).await;
    let held = database
        .fixture
        .hold_write_lock("members", member.id.clone())
        .await;
    let edit = || patch(&id, json!({"title": "a"}));
    let group = database.group(edit(), Some(&grant), Duration::from_millis(300));
    let results = database.node.store.commit(Batch::new(vec![group])).await;
    let busy = RefusedEdit {
        edit: 0,
        refusal: Refusal::Busy,
    };
    let refused = results
        .expect("a lock is not an error of the store")
        .results
        .remove(0);
    assert_eq!(refused.expect_err("another program holds the lock"), busy);
    drop(held);
    let external = fields(json!({"body": "viewer"}));
    database
        .fixture
        .write_externally("members", member.id, Some(external))
        .await;
    let refused = database.try_edit(edit(), &grant).await;
    assert_eq!(refused, Err(Refusal::NotFound(note(&id))));
}
