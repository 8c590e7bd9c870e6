//! The app's own code that runs on edits: rules as closures, checks that see the principal, and what is set on creation.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use fieldsync::{
    Access, Collection, Denied, Edit, Engine, EngineBuilder, EngineError, FieldErrors, Grant,
    Limits, MemoryStore, Principal, Refusal, StartError,
};
use reqwest::header::RETRY_AFTER;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::{App, on_every_store};

on_every_store!(with shop:
    a_check_sees_the_principal_and_both_states,
    a_check_may_refuse_a_delete,
    edits_of_the_app_are_not_checked,
    on_create_sets_the_owner,
    on_create_is_validated,
    a_record_that_may_be_read_but_not_written_is_forbidden,
    a_rule_that_can_not_be_evaluated_is_503,
    an_update_by_closure_may_be_refused,
    a_later_edit_uses_the_id_of_an_earlier_one,
);

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Item {
    owner: String,
    quantity: u32,
}

struct Claims {
    admin: bool,
}

/// Everyone may read `items` but those of `hermit`. Their owners may write them, and quantities only grow.
fn shop() -> EngineBuilder {
    let items = Collection::of::<Item>("items")
        .authorize_fn(|principal, access| {
            let Some(name) = principal.name() else {
                return Err(Denied::Unauthenticated);
            };
            if name == "cut off" || (name == "half cut off" && access == Access::Read) {
                return Err(Denied::unavailable("the database of roles is down"));
            }
            let name = name.to_owned();
            Ok(match access {
                Access::Read => Grant::full().with_rows_fn(format!("read {name}"), move |item| {
                    item.fields["owner"] != "hermit" || name == "hermit"
                }),
                _ => Grant::full().with_rows_fn(format!("own {name}"), move |item| {
                    item.fields["owner"] == name.as_str()
                }),
            })
        })
        .check(|principal, before: Option<&Item>, after: Option<&Item>| {
            let is_admin = principal.get::<Claims>().is_some_and(|claims| claims.admin);
            match (before, after) {
                (Some(before), Some(after)) if after.quantity < before.quantity && !is_admin => {
                    Err(Refusal::from(FieldErrors::one(
                        "quantity",
                        "must not go down",
                    )))
                }
                (Some(before), None) if before.quantity > 0 => Err(Denied::Forbidden.into()),
                _ => Ok(()),
            }
        })
        .on_create(|principal, fields| {
            let owner = if fields.contains_key("quantity") {
                principal.name().into()
            } else {
                json!(7)
            };
            fields.insert("owner".into(), owner);
        });
    Engine::builder().collection(items)
}

impl App {
    async fn item(&self, owner: &str, quantity: u32) -> i64 {
        let item = Item {
            owner: owner.into(),
            quantity,
        };
        let item = self
            .engine
            .collection::<Item>("items")
            .create(item)
            .await
            .unwrap();
        item.id.as_integer().unwrap()
    }

    async fn send_as(&self, user: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(method, path).header("x-user", user).json(body);
        let reply = request.send().await.unwrap();
        let status = reply.status().as_u16();
        (
            status,
            serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or_default(),
        )
    }
}

async fn a_check_sees_the_principal_and_both_states(app: App) {
    let id = app.item("ada", 5).await;
    let path = format!("/api/items/{id}/");
    let (status, problem) = app
        .send_as("ada", "PATCH", &path, &json!({"quantity": 4}))
        .await;
    assert_eq!(
        (status, &problem["errors"]),
        (422, &json!({"quantity": ["must not go down"]}))
    );
    let (status, item) = app
        .send_as("ada", "PATCH", &path, &json!({"quantity": 6}))
        .await;
    assert_eq!((status, &item["quantity"]), (200, &json!(6)));
    let admin = Principal::named("ada").with(Claims { admin: true });
    let edit = Edit::patch(("items", &id), json!({"quantity": 1}));
    let views = app
        .engine
        .on_behalf_of(admin)
        .transaction(vec![edit])
        .await
        .unwrap();
    assert_eq!(views[0].record.as_ref().unwrap()["quantity"], 1);
}

async fn a_check_may_refuse_a_delete(app: App) {
    let (full, empty) = (app.item("ada", 5).await, app.item("ada", 0).await);
    let (status, _) = app
        .send_as(
            "ada",
            "DELETE",
            &format!("/api/items/{full}/"),
            &Value::Null,
        )
        .await;
    assert_eq!(status, 403);
    let (status, _) = app
        .send_as(
            "ada",
            "DELETE",
            &format!("/api/items/{empty}/"),
            &Value::Null,
        )
        .await;
    assert_eq!(status, 204);
    let items = app
        .engine
        .collection::<Item>("items")
        .list(None, 10)
        .await
        .unwrap();
    assert_eq!(items.len(), 1);
}

async fn edits_of_the_app_are_not_checked(app: App) {
    let id = app.item("ada", 5).await;
    let items = app.engine.collection::<Item>("items");
    let item = items.update(&id, |item| item.quantity = 1).await.unwrap();
    assert_eq!(item.fields.quantity, 1);
    items.delete(&id).await.unwrap();
}

async fn on_create_sets_the_owner(app: App) {
    // Also over what the caller sent.
    for body in [
        json!({"quantity": 1}),
        json!({"quantity": 1, "owner": "bob"}),
    ] {
        let (status, item) = app.send_as("ada", "POST", "/api/items/", &body).await;
        assert_eq!((status, &item["owner"]), (201, &json!("ada")), "{item}");
    }
}

async fn on_create_is_validated(app: App) {
    let (status, problem) = app.send_as("ada", "POST", "/api/items/", &json!({})).await;
    assert_eq!(
        (status, &problem["errors"]),
        (422, &json!({"owner": ["must be a string"]}))
    );
}

async fn a_record_that_may_be_read_but_not_written_is_forbidden(app: App) {
    let (visible, hidden) = (app.item("bob", 0).await, app.item("hermit", 0).await);
    for (id, status) in [(visible, 403), (hidden, 404), (987_654, 404)] {
        let path = format!("/api/items/{id}/");
        let read = app.send_as("ada", "GET", &path, &Value::Null).await.0;
        assert_eq!(read, if status == 403 { 200 } else { 404 });
        let patch = app
            .send_as("ada", "PATCH", &path, &json!({"quantity": 1}))
            .await;
        assert_eq!(patch.0, status, "{}", patch.1);
        let delete = app.send_as("ada", "DELETE", &path, &Value::Null).await;
        assert_eq!(delete.0, status, "{}", delete.1);
    }
}

async fn a_rule_that_can_not_be_evaluated_is_503(app: App) {
    let id = app.item("cut off", 0).await;
    for (user, method, path) in [
        ("cut off", "GET", "/api/items/".to_owned()),
        // Whether the collection is hidden is unknown, so that its ids and methods are, too.
        ("cut off", "OPTIONS", "/api/items/".to_owned()),
        ("cut off", "PUT", format!("/api/items/{id}/")),
        ("cut off", "GET", "/api/items/abc/".to_owned()),
        ("cut off", "PATCH", format!("/api/items/{id}/")),
        // Writing is granted, but what the caller may read of the reply is unknown.
        ("half cut off", "PATCH", format!("/api/items/{id}/")),
    ] {
        let request = app
            .request(method, &path)
            .header("x-user", user)
            .json(&json!({"quantity": 1}));
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 503, "{user} {method}");
        assert!(reply.headers().contains_key(RETRY_AFTER));
        let body = reply.text().await.unwrap();
        assert!(
            !body.contains("roles"),
            "the cause is not for clients: {body}"
        );
    }
    let item = app
        .engine
        .collection::<Item>("items")
        .get(&id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(item.fields.quantity, 0, "nothing is written");
}

async fn an_update_by_closure_may_be_refused(app: App) {
    let id = app.item("ada", 1).await;
    let items = app.engine.collection::<Item>("items");
    let take = |count: u32| {
        items.update(&id, move |item: &mut Item| {
            let left = item.quantity.checked_sub(count);
            item.quantity = left.ok_or_else(|| FieldErrors::one("quantity", "is not in stock"))?;
            Ok(())
        })
    };
    let refused = take(2).await.unwrap_err();
    let EngineError::Refused(Refusal::Invalid(errors)) = refused else {
        panic!("refused for another reason: {refused}");
    };
    assert_eq!(errors, FieldErrors::one("quantity", "is not in stock"));
    assert_eq!(take(1).await.unwrap().fields.quantity, 0);
}

async fn a_later_edit_uses_the_id_of_an_earlier_one(app: App) {
    let ada = app.engine.on_behalf_of(Principal::named("ada"));
    let views = ada
        .transaction(vec![
            Edit::create("items", json!({"quantity": 1})),
            Edit::create_with("items", |ids| json!({"quantity": ids[0]})),
        ])
        .await
        .unwrap();
    let linked = views[1].record.as_ref().unwrap()["quantity"].as_i64();
    assert_eq!(views[0].id.as_integer(), linked);
}

#[tokio::test]
async fn a_setting_that_can_not_work_stops_the_start() {
    let limited = |change: fn(&mut Limits)| Engine::builder().limits(crate::app::limits(change));
    let faulty = [
        limited(|limits| limits.body_bytes = 0),
        limited(|limits| limits.messages_per_second = 0),
        limited(|limits| limits.principal_log_bytes_per_hour = 0),
        Engine::builder().heartbeat(Duration::ZERO),
        Engine::builder().poll_interval(Duration::ZERO),
    ];
    for builder in faulty {
        let error = builder.store(MemoryStore::new()).start().await.unwrap_err();
        assert!(matches!(error, StartError::Setting(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_reports_what_was_left_undone() {
    // The write waits in the app's own code, twice for this test.
    let barrier = Arc::new(Barrier::new(2));
    let waiting = Arc::clone(&barrier);
    let items = Collection::of::<Item>("items").validate(move |_: Option<&Item>, _: &Item| {
        waiting.wait();
        waiting.wait();
        Ok(())
    });
    let builder = Engine::builder().collection(items.open_to_everyone());
    let engine = builder.store(MemoryStore::new()).start().await.unwrap();
    let items = engine.collection::<Item>("items");
    let write = tokio::spawn(async move { items.create(Item::default()).await });
    tokio::task::block_in_place(|| barrier.wait());
    let report = engine.drain(Duration::ZERO).await;
    assert_eq!((report.writes, report.is_complete()), (1, false));
    tokio::task::block_in_place(|| barrier.wait());
    write.await.unwrap().unwrap();
    assert!(engine.drain(Duration::from_secs(5)).await.is_complete());
}
