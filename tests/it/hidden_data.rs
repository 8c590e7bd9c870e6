//! Records and fields that a principal may not read must not reach it through refreshes, conflicts or replays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use fieldsync::{
    Access, Authorizer, Collection, Cursor, Denied, Edit, Engine, EngineError, Filter, Grant,
    MemoryStore, Principal, Refusal, ResetReason, Rules, Subscription, Update, View, owner,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

#[derive(Debug)]
enum Rule {
    /// A principal may read and write its own notes.
    Own,
    /// A principal may read its own notes, and write all.
    OwnToRead,
    /// Every principal may read the field `owner` of all notes.
    OwnerOnly,
    /// Every principal may read all fields, until this is set: then only the field `owner`.
    Revocable(Arc<AtomicBool>),
}

#[async_trait]
impl Authorizer for Rule {
    async fn authorize(
        &self,
        who: &Principal,
        access: Access,
        _collection: &str,
    ) -> Result<Grant, Denied> {
        let owner = who.name().unwrap_or_default().to_owned();
        Ok(match (self, access) {
            (Self::Revocable(revoked), _) if !revoked.load(Ordering::SeqCst) => Grant::full(),
            (Self::OwnerOnly | Self::Revocable(_), _) => {
                Grant::full().with_view(View::only(["owner"]))
            }
            (Self::OwnToRead, Access::Create | Access::Update | Access::Delete) => Grant::full(),
            _ => Grant::full().with_rows_fn(format!("of {owner}"), move |note| {
                note.fields["owner"] == owner.as_str()
            }),
        })
    }
}

async fn engine(rule: Rule) -> Engine {
    let text = json!({"type": "string", "default": ""});
    let schema = json!({"type": "object", "properties": {"owner": text, "text": text}});
    let notes = Collection::from_schema("notes", &schema).authorize(rule);
    let engine = Engine::builder()
        .collection(notes)
        .store(MemoryStore::new());
    let engine = engine.start().await.unwrap();
    let note = Edit::create("notes", json!({"owner": "ada", "text": "ada's secret"}));
    engine.transaction(vec![note]).await.unwrap();
    engine
}

async fn live(engine: &Engine, who: &str) -> Subscription {
    let who = engine.on_behalf_of(Principal::named(who));
    let mut changes = who.subscribe("notes", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    changes
}

async fn cursor_of(engine: &Engine, who: &str) -> Cursor {
    let who = engine.on_behalf_of(Principal::named(who));
    who.list("notes", None, 10).await.unwrap().cursor
}

/// Edits the note as bob on this base, which is refused.
async fn refused(engine: &Engine, edit: Edit, base: Cursor) -> Refusal {
    let bob = engine.on_behalf_of(Principal::named("bob"));
    match bob.transaction(vec![edit.with_base(base)]).await {
        Err(EngineError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

async fn patch(engine: &Engine, patch: Value) {
    let patch = Edit::patch(("notes", 1), patch);
    engine.transaction(vec![patch]).await.unwrap();
}

#[tokio::test]
async fn a_a_touched_record_of_another_principal_shows_nothing() {
    let engine = engine(Rule::Own).await;
    let mut changes = live(&engine, "bob").await;
    engine.refresh(("notes", 1)).await.unwrap();
    // What the note was before is unknown, and its id is not for bob.
    let reset = changes.next().await;
    assert_eq!(reset, Some(Update::Reset(ResetReason::View)));
    let Some(Update::Snapshot { records, .. }) = changes.next().await else {
        panic!("a snapshot")
    };
    assert!(records.is_empty(), "{records:?}");
}

#[tokio::test]
async fn a_a_conflict_shows_nothing_of_the_time_when_the_record_belonged_to_another_principal() {
    let engine = engine(Rule::Own).await;
    let base = cursor_of(&engine, "bob").await;
    patch(&engine, json!({"text": ""})).await;
    patch(&engine, json!({"owner": "bob"})).await;
    let edit = Edit::patch(("notes", 1), json!({"text": "mine"}));
    let refusal = refused(&engine, edit, base).await;
    assert!(matches!(refusal, Refusal::ChangedSinceBase(_)));
    assert!(!format!("{refusal:?}").contains("secret"), "{refusal:?}");
}

#[tokio::test]
async fn a_a_conflict_shows_nothing_of_a_record_that_the_principal_may_write_but_not_read() {
    let engine = engine(Rule::OwnToRead).await;
    let base = cursor_of(&engine, "bob").await;
    let edit = || Edit::patch(("notes", 1), json!({"text": "mine"}));
    let other_log = self::engine(Rule::OwnToRead).await;
    let foreign = cursor_of(&other_log, "bob").await;
    let refusal = refused(&engine, edit(), foreign).await;
    let Refusal::BaseUnknown { current } = &refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(json!(current), json!({"id": 1}));
    patch(&engine, json!({"text": "ada's other secret"})).await;
    let refusal = refused(&engine, edit(), base).await;
    assert!(!format!("{refusal:?}").contains("secret"), "{refusal:?}");
}

#[tokio::test]
async fn a_a_conflict_shows_no_field_that_the_principal_may_not_read() {
    let engine = engine(Rule::OwnerOnly).await;
    let base = cursor_of(&engine, "bob").await;
    patch(&engine, json!({"text": "another secret", "owner": "eve"})).await;
    let refusal = refused(&engine, Edit::delete(("notes", 1)), base).await;
    let Refusal::ChangedSinceBase(conflicts) = &refusal else {
        panic!("{refusal:?}")
    };
    assert!(conflicts.keys().eq(["owner"]), "{refusal:?}");
}

/// The log leaves out a large value that the edit did not change: what it is today is not for who may not see the record today.
#[tokio::test]
async fn a_a_replay_shows_no_value_of_today_of_a_record_that_was_hidden_since() {
    let text = json!({"type": "string", "default": ""});
    let schema = json!({"type": "object", "properties": {"owner": text, "text": text, "stars": {"type": "integer", "default": 0}}});
    let rules = Rules::new().read_and_write(owner("owner"));
    let notes = Collection::from_schema("notes", &schema).rules(rules);
    let engine = Engine::builder().collection(notes);
    let engine = engine.store(MemoryStore::new()).start().await.unwrap();
    let large = "bob's text ".repeat(200);
    let note = Edit::create("notes", json!({"owner": "bob", "text": large}));
    engine.transaction(vec![note]).await.unwrap();
    let bob = engine.on_behalf_of(Principal::named("bob"));
    let star = || {
        let edit = Edit::patch(("notes", 1), json!({"stars": 1}));
        vec![edit.with_idempotency_key("key")]
    };
    let whole = json!({"id": 1, "owner": "bob", "text": large, "stars": 1});
    for _ in 0..2 {
        let outcome = bob.transaction(star()).await.unwrap().remove(0);
        assert_eq!(json!(outcome.record), whole);
    }
    patch(
        &engine,
        json!({"owner": "eve", "text": "eve's secret ".repeat(200)}),
    )
    .await;
    let replayed = bob.transaction(star()).await.unwrap().remove(0);
    let left = json!({"id": 1, "owner": "bob", "stars": 1});
    assert_eq!(json!(replayed.record), left);
}

#[tokio::test]
async fn a_a_replay_shows_no_field_that_the_principal_may_no_longer_read() {
    let revoked = Arc::new(AtomicBool::new(false));
    let engine = engine(Rule::Revocable(Arc::clone(&revoked))).await;
    let bob = engine.on_behalf_of(Principal::named("bob"));
    let create = || {
        let note = json!({"owner": "bob", "text": "bob's secret"});
        vec![Edit::create("notes", note).with_idempotency_key("key")]
    };
    let first = bob.transaction(create()).await.unwrap().remove(0);
    let replayed = bob.transaction(create()).await.unwrap().remove(0);
    assert_eq!(replayed.record, first.record);
    assert!(format!("{first:?}").contains("secret"), "{first:?}");
    revoked.store(true, Ordering::SeqCst);
    let replayed = bob.transaction(create()).await.unwrap().remove(0);
    assert_eq!(json!(replayed.record), json!({"id": 2, "owner": "bob"}));
    assert!(!format!("{replayed:?}").contains("secret"), "{replayed:?}");
}

/// A version of the app with another rule replays what an older one has logged without the value that decides by now.
#[tokio::test]
async fn a_a_replay_shows_nothing_of_which_the_log_does_not_tell_who_may_read_it() {
    let text = json!({"type": "string", "default": ""});
    let schema = json!({"type": "object", "properties": {
        "owner": text, "text": text, "gate": {"type": ["string", "null"]},
    }});
    let store = MemoryStore::new();
    let start = async |rules: Rules| {
        let notes = Collection::from_schema("notes", &schema).rules(rules);
        let engine = Engine::builder().collection(notes).store(store.clone());
        engine.start().await.unwrap()
    };
    let old = start(Rules::new().read_and_write(owner("owner"))).await;
    let note = json!({"owner": "bob", "gate": "closed ".repeat(300)});
    let note = Edit::create("notes", note);
    old.transaction(vec![note]).await.unwrap();
    let patch = || {
        let edit = Edit::patch(("notes", 1), json!({"text": "secret"}));
        vec![edit.with_idempotency_key("key")]
    };
    let bob = Principal::named("bob");
    old.on_behalf_of(bob.clone())
        .transaction(patch())
        .await
        .unwrap();
    let open = owner("owner").rows(Filter::is_null("gate"));
    let new = start(
        Rules::new()
            .read(open)
            .write(owner("owner"))
            .allow_blind_writes(),
    )
    .await;
    for is_deleted in [false, true] {
        if is_deleted {
            let delete = vec![Edit::delete(("notes", 1))];
            new.transaction(delete).await.unwrap();
        }
        let bob = new.on_behalf_of(bob.clone());
        let replayed = bob.transaction(patch()).await.unwrap().remove(0);
        assert!(!format!("{replayed:?}").contains("secret"), "{replayed:?}");
    }
}
