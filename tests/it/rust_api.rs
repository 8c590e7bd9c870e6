//! The Rust API.

use fieldsync::{Edit, Engine, EngineError, Fields, Outcome, Principal, Refusal, Stored, Update};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::app::{App, User, on_every_store};

on_every_store!(
    records_are_read_and_written_as_structs,
    records_are_read_and_written_as_json_objects,
    a_transaction_applies_all_of_its_edits_or_none,
    a_refresh_announces_what_the_apps_own_sql_changed,
    a_subscription_is_a_stream,
    f_a_closure_edits_the_current_record,
    an_app_can_act_on_behalf_of_a_principal,
);

/// Creates John Doe.
async fn create(engine: &Engine) -> Stored<User> {
    let user = User::named("John", "Doe");
    engine.collection("users").create(user).await.unwrap()
}

async fn records_are_read_and_written_as_structs(app: App) {
    let engine = &app.engine;
    let user = create(engine).await;
    assert_eq!(user.fields, User::named("John", "Doe"));
    assert!(user.created_at.is_some() && user.created_at == user.updated_at);
    let users = engine.collection::<User>("users");
    let user = users
        .update(&user.id, |user| user.first_name = "Jack".into())
        .await
        .unwrap();
    assert_eq!(user.fields, User::named("Jack", "Doe"));
    let user = users
        .patch(&user.id, json!({"last_name": "Roe"}))
        .await
        .unwrap();
    assert_eq!(user.fields, User::named("Jack", "Roe"));
    let id = user.id.clone();
    assert_eq!(users.get(id.clone()).await.unwrap().unwrap(), user);
    assert_eq!(
        engine
            .collection::<User>("users")
            .list(None, 10)
            .await
            .unwrap(),
        [user]
    );
    users.delete(id.clone()).await.unwrap();
    assert_eq!(users.get(id.clone()).await.unwrap(), None);
    let gone = users.update(&id, |user| user.first_name.clear()).await;
    assert!(matches!(
        gone,
        Err(EngineError::Refused(Refusal::NotFound(_)))
    ));
}

async fn records_are_read_and_written_as_json_objects(app: App) {
    let fields = json!({"first_name": "John"}).as_object().unwrap().clone();
    let user = app
        .engine
        .collection::<Fields>("users")
        .create(fields)
        .await
        .unwrap();
    assert_eq!(user.fields["last_name"], "");
    let refused = app
        .engine
        .collection::<Fields>("users")
        .patch(&user.id, json!({"first_name": 1}))
        .await;
    assert!(
        matches!(refused, Err(EngineError::Refused(Refusal::Invalid(errors))) if errors.contains("first_name"))
    );
    let refused = app
        .engine
        .collection::<Fields>("users")
        .patch(&user.id, json!([]))
        .await;
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::Malformed(_)))
    ));
    assert!(
        app.engine
            .collection::<Fields>("nothing")
            .get(1)
            .await
            .is_err()
    );
}

async fn a_transaction_applies_all_of_its_edits_or_none(app: App) {
    let user = create(&app.engine).await;
    let edits = vec![
        Edit::patch(("users", &user.id), json!({"first_name": "Jack"})),
        Edit::create("things", json!({"count": 1})),
        Edit::patch(("users", &user.id), json!({"last_name": 7})),
    ];
    assert!(app.engine.transaction(edits.clone()).await.is_err());
    assert_eq!(
        app.engine
            .collection::<User>("users")
            .get(&user.id)
            .await
            .unwrap()
            .unwrap(),
        user
    );
    assert!(
        app.engine
            .collection::<Fields>("things")
            .list(None, 1)
            .await
            .unwrap()
            .is_empty()
    );
    let outcomes = app.engine.transaction(edits[..2].to_vec()).await.unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Committed(_)))
    );
    assert_eq!(
        app.engine
            .collection::<Fields>("things")
            .list(None, 2)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn a_refresh_announces_what_the_apps_own_sql_changed(app: App) {
    let user = create(&app.engine).await;
    let mut changes = app.engine.subscribe("users", None).await.unwrap();
    while !matches!(changes.next().await, Some(Update::Live { .. })) {}
    app.engine.refresh(("users", &user.id)).await.unwrap();
    let Some(Update::Change { change, .. }) = changes.next().await else {
        panic!("a change")
    };
    assert_eq!(change.fields["first_name"], "John");
    assert_eq!(change.fields.len(), 4);
    // Where the table has capture, it is known that no such record was deleted. Elsewhere the record may have existed.
    app.engine.refresh(("users", 999)).await.unwrap();
    app.engine
        .collection::<User>("users")
        .delete(&user.id)
        .await
        .unwrap();
    let mut deleted = Vec::new();
    while !deleted.contains(&user.id) {
        let Some(Update::Change { change, .. }) = changes.next().await else {
            panic!("a change")
        };
        assert_eq!(change.action, fieldsync::Action::Delete);
        deleted.push(change.id);
    }
    assert!(deleted.len() <= 2);
}

async fn a_subscription_is_a_stream(app: App) {
    let user = create(&app.engine).await;
    let mut updates = app
        .engine
        .subscribe(("users", &user.id), None)
        .await
        .unwrap();
    let Some(Update::Snapshot { records, cursor }) = updates.next().await else {
        panic!("a snapshot")
    };
    assert_eq!(
        records.into_iter().next().unwrap().typed::<User>().unwrap(),
        user
    );
    assert!(matches!(updates.next().await, Some(Update::Live { .. })));
    app.engine
        .collection::<User>("users")
        .update(&user.id, |user: &mut User| {
            user.first_name = "Jack".into();
        })
        .await
        .unwrap();
    let Some(Update::Change { change, .. }) = updates.next().await else {
        panic!("a change")
    };
    assert_eq!(change.fields["first_name"], "Jack");
    // A subscription that resumes receives missed changes folded.
    let mut resumed = app
        .engine
        .subscribe(("users", &user.id), cursor)
        .await
        .unwrap();
    let Some(Update::Changes { changes, .. }) = resumed.next().await else {
        panic!("a page")
    };
    assert_eq!(changes.len(), 1);
    assert!(
        app.engine
            .drain(std::time::Duration::from_secs(5))
            .await
            .is_complete()
    );
    assert_eq!(updates.next().await, None);
    let stopped = app.engine.collection("users").create(User::default()).await;
    assert!(matches!(stopped, Err(EngineError::Stopping)));
}

async fn f_a_closure_edits_the_current_record(app: App) {
    let thing = app
        .engine
        .collection::<crate::app::Thing>("things")
        .create(Default::default())
        .await
        .unwrap();
    let things = app.engine.collection::<crate::app::Thing>("things");
    let add = |_| {
        things.update(&thing.id, |thing: &mut crate::app::Thing| {
            thing.count += 1;
        })
    };
    for result in futures_util::future::join_all((0..500).map(add)).await {
        result.unwrap();
    }
    let thing = app
        .engine
        .collection::<crate::app::Thing>("things")
        .get(&thing.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(thing.fields.count, 500);
}

async fn an_app_can_act_on_behalf_of_a_principal(app: App) {
    let caller = app.engine.on_behalf_of(Principal::named("ada"));
    let seen = caller
        .transaction(vec![Edit::create("users", json!({"first_name": "Ada"}))])
        .await
        .unwrap()
        .remove(0);
    let read = caller.get(("users", &seen.id)).await.unwrap();
    assert_eq!(read.record, seen.record);
    assert_eq!(
        caller.list("users", None, 10).await.unwrap().records,
        [seen.record.unwrap()]
    );
}

#[test]
fn an_engine_whose_runtime_has_ended_is_not_ready() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let own = runtime();
    let engine = own.block_on(async {
        let engine = crate::app::builder().store(fieldsync::MemoryStore::new());
        engine.start().await.unwrap()
    });
    assert!(engine.is_ready());
    own.block_on(engine.health()).unwrap();
    drop(own);
    assert!(!engine.is_ready());
    assert!(runtime().block_on(engine.health()).is_err());
}
