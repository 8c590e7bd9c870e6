//! Ways by which a record, or a field, could reach somebody for whom it does not exist.

use async_trait::async_trait;
use fieldsync::{
    Access, Authorizer, Collection, Cursor, Denied, Edit, Engine, EngineError, Grant, MemoryStore,
    Principal, Refusal, Subscription, Update, View,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// Everybody has notes of one's own, and writes only them, or all.
#[derive(Debug)]
enum Rule {
    Own,
    OwnToRead,
    /// Nobody sees texts.
    OwnerOnly,
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
            (Self::OwnerOnly, _) => Grant::full().with_view(View::only(["owner"])),
            (Self::OwnToRead, Access::Create | Access::Update | Access::Delete) => Grant::full(),
            _ => Grant::full().with_rows(format!("of {owner}"), move |note| {
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

/// How an edit of the note on this base is refused.
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
async fn a_a_touch_tells_nothing_of_a_record_of_others() {
    let engine = engine(Rule::Own).await;
    let mut changes = live(&engine, "bob").await;
    engine.touch(("notes", 1)).await.unwrap();
    let Some(Update::Change { change, .. }) = changes.next().await else {
        panic!("a change")
    };
    assert!(
        change.fields.is_empty() && change.record.is_empty(),
        "{change:?}"
    );
}

#[tokio::test]
async fn a_a_conflict_tells_nothing_of_the_time_when_a_record_was_of_others() {
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
async fn a_a_conflict_tells_nothing_of_a_record_that_one_may_write_and_not_read() {
    let engine = engine(Rule::OwnToRead).await;
    let base = cursor_of(&engine, "bob").await;
    let edit = || Edit::patch(("notes", 1), json!({"text": "mine"}));
    // Of a log that is not this one.
    let foreign = format!("AAAA{}", &base.to_string()[4..]).parse().unwrap();
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
async fn a_a_conflict_tells_nothing_of_fields_that_one_does_not_see() {
    let engine = engine(Rule::OwnerOnly).await;
    let base = cursor_of(&engine, "bob").await;
    patch(&engine, json!({"text": "another secret", "owner": "eve"})).await;
    let refusal = refused(&engine, Edit::delete(("notes", 1)), base).await;
    let Refusal::ChangedSinceBase(conflicts) = &refusal else {
        panic!("{refusal:?}")
    };
    assert!(conflicts.keys().eq(["owner"]), "{refusal:?}");
}
