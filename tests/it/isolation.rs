//! One caller's mistake, or one caller's rights, and the requests of others.

use fieldsync::{
    Collection, Edit, Engine, EngineBuilder, EngineError, Fields, Grant, MemoryStore, Precondition,
    Principal, RecordId, Refusal, Timestamp,
};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::{App, on_every_store};

on_every_store!(with shop:
    an_id_of_the_wrong_kind_is_not_found_and_fails_nobody_else,
    an_idempotency_key_that_no_store_can_keep_fails_nobody_else,
    a_principal_whose_name_no_store_can_keep_fails_nobody_else,
    an_empty_page_is_a_page,
    a_refresh_is_for_records_that_the_principal_may_write,
    a_record_that_may_be_written_but_not_read_reveals_nothing,
    a_check_refuses_what_it_can_not_read,
    what_on_create_sets_must_be_a_field,
    a_closure_whose_type_does_not_fit_reveals_no_value,
);

/// `orders` belong to their owners. In `boxes`, everyone may write the text of every order,
/// but read only their own.
fn shop() -> EngineBuilder {
    let schema = json!({"type": "object", "properties": {
        "owner": {"type": "string", "default": ""},
        "text": {"type": "string", "default": ""},
        "salary": {"type": "integer", "default": 0},
    }});
    let own = |principal: &Principal| {
        let name = principal.name().unwrap_or_default().to_owned();
        Grant::full().with_rows_fn(format!("own {name}"), move |record| {
            record.fields["owner"] == name.as_str()
        })
    };
    let orders = Collection::from_schema("orders", &schema)
        .authorize_fn(move |principal, _| Ok(own(principal)))
        .check(
            |principal, before: Option<&Narrow>, _after: Option<&Narrow>| match before {
                Some(before) if Some(&*before.owner) != principal.name() => {
                    Err(fieldsync::Denied::Forbidden)
                }
                _ => Ok(()),
            },
        )
        .on_create(|principal, fields| {
            let field = if fields.contains_key("text") {
                "owner"
            } else {
                "ownr"
            };
            fields.insert(field.into(), principal.name().into());
        });
    let boxes = Collection::from_schema("boxes", &schema).authorize_fn(move |principal, access| {
        Ok(match access {
            fieldsync::Access::Read => own(principal),
            _ => Grant::full().with_writable(fieldsync::View::only(["text"])),
        })
    });
    let shelves = Collection::from_schema("shelves", &schema)
        .uuid_ids()
        .open_to_everyone();
    Engine::builder()
        .collection(orders)
        .collection(boxes)
        .collection(shelves)
}

/// Fits an order whose salary is no longer small.
#[derive(Serialize, Deserialize)]
struct Narrow {
    owner: String,
    salary: u8,
}

fn order(owner: &str) -> Fields {
    serde_json::from_value(json!({"owner": owner, "text": "a"})).unwrap()
}

impl App {
    async fn record(&self, collection: &str, owner: &str, salary: i64) -> i64 {
        let mut fields = order(owner);
        fields.insert("salary".into(), salary.into());
        let made = self
            .engine
            .collection(collection)
            .create(fields)
            .await
            .unwrap();
        made.id.as_integer().unwrap()
    }

    /// Edits that are fine, beside those of the test, so that they share batches.
    async fn beside<T>(&self, others: impl Future<Output = T>) -> T {
        let orders = self.engine.collection::<Fields>("orders");
        let fine = join_all((0..20).map(|_| orders.create(order("ada"))));
        let (fine, others) = tokio::join!(fine, others);
        for result in fine {
            result.expect("an edit of its own is not affected");
        }
        others
    }
}

fn refusal(error: EngineError) -> Refusal {
    match error {
        EngineError::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn an_id_of_the_wrong_kind_is_not_found_and_fails_nobody_else(app: App) {
    let engine = &app.engine;
    let uuid = RecordId::Uuid(fieldsync::uuid::Uuid::nil());
    for (collection, id) in [("orders", uuid), ("shelves", RecordId::Integer(1))] {
        let key = (collection, id.clone());
        let edits = [
            Edit::patch(key.clone(), json!({})),
            Edit::update(key.clone(), |_: &mut Fields| {}),
            Edit::delete(key.clone()),
            Edit::refresh(key.clone()),
        ];
        let edits = edits.map(|edit| engine.transaction(vec![edit]));
        for result in app.beside(join_all(edits)).await {
            assert!(matches!(refusal(result.unwrap_err()), Refusal::NotFound(_)));
        }
        let created = Edit::create(collection, json!({})).with_id(&id);
        let created = app.beside(engine.transaction(vec![created])).await;
        let Refusal::Invalid(errors) = refusal(created.unwrap_err()) else {
            panic!("not invalid")
        };
        assert!(errors.contains("id"));
        let handle = engine.collection::<Fields>(collection);
        assert_eq!(handle.get(id.clone()).await.unwrap(), None);
        assert!(matches!(
            refusal(handle.list(Some(id.clone()), 1).await.unwrap_err()),
            Refusal::Malformed(_)
        ));
        let caller = engine.on_behalf_of(Principal::named("ada"));
        assert!(matches!(
            refusal(caller.get(key.clone()).await.unwrap_err()),
            Refusal::NotFound(_)
        ));
        assert!(matches!(
            refusal(caller.list(collection, Some(id), 1).await.unwrap_err()),
            Refusal::Malformed(_)
        ));
        assert!(matches!(
            refusal(caller.subscribe(key.clone(), None).await.unwrap_err()),
            Refusal::NotFound(_)
        ));
        assert!(matches!(
            refusal(engine.subscribe(key, None).await.unwrap_err()),
            Refusal::NotFound(_)
        ));
    }
}

async fn an_idempotency_key_that_no_store_can_keep_fails_nobody_else(app: App) {
    let keys = [
        String::new(),
        "\0".to_owned(),
        "k".repeat(256),
        "k".repeat(100_000),
    ];
    let edits = keys.map(|key| Edit::create("orders", json!({})).with_idempotency_key(key));
    let edits = edits.map(|edit| app.engine.transaction(vec![edit]));
    for result in app.beside(join_all(edits)).await {
        assert!(matches!(
            refusal(result.unwrap_err()),
            Refusal::Malformed(_)
        ));
    }
}

async fn a_principal_whose_name_no_store_can_keep_fails_nobody_else(app: App) {
    for name in ["a\0".to_owned(), "a".repeat(1025)] {
        let caller = app.engine.on_behalf_of(Principal::named(name));
        let edit = Edit::create("orders", json!({"text": "a"})).with_idempotency_key("k");
        let result = app.beside(caller.transaction(vec![edit])).await;
        assert!(matches!(
            refusal(result.unwrap_err()),
            Refusal::AppFailed(_)
        ));
    }
}

async fn an_empty_page_is_a_page(app: App) {
    app.record("orders", "ada", 0).await;
    let caller = app.engine.on_behalf_of(Principal::named("ada"));
    let page = caller.list("orders", None, 0).await.unwrap();
    assert_eq!((page.records.len(), page.next), (0, None));
    assert!(
        app.engine
            .collection::<Fields>("orders")
            .list(None, 0)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_refresh_is_for_records_that_the_principal_may_write(app: App) {
    let hidden = app.record("orders", "bob", 0).await;
    let own = app.record("orders", "ada", 0).await;
    let caller = app.engine.on_behalf_of(Principal::named("ada"));
    for id in [hidden, 987_654] {
        let refused = caller
            .transaction(vec![Edit::refresh(("orders", &id))])
            .await;
        assert!(matches!(
            refusal(refused.unwrap_err()),
            Refusal::NotFound(_)
        ));
    }
    caller
        .transaction(vec![Edit::refresh(("orders", own))])
        .await
        .unwrap();
    // The app may announce that a row is gone.
    app.engine.refresh(("orders", 987_654)).await.unwrap();
}

async fn a_record_that_may_be_written_but_not_read_reveals_nothing(app: App) {
    let id = app.record("boxes", "bob", 1234).await;
    let caller = app.engine.on_behalf_of(Principal::named("ada"));
    // Whether a guess is right.
    for salary in [1234, 1235] {
        let guess = Edit::patch(("boxes", &id), json!({"salary": salary}));
        let refused = refusal(caller.transaction(vec![guess]).await.unwrap_err());
        let Refusal::FieldsDenied(errors) = refused else {
            panic!("{refused}")
        };
        assert!(errors.contains("salary"));
    }
    // The entity tag is the one of what the caller sees.
    let (status, _) = app
        .as_ada(
            "PATCH",
            &format!("/api/boxes/{id}/"),
            &json!({"text": "b"}),
            None,
        )
        .await;
    assert_eq!(status.0, 200);
    let (again, _) = app
        .as_ada(
            "PATCH",
            &format!("/api/boxes/{id}/"),
            &json!({"text": "c"}),
            status.1,
        )
        .await;
    assert_eq!(again.0, 200);
    // What has changed since a base.
    let own = app.record("boxes", "ada", 0).await;
    let base = caller.get(("boxes", own)).await.unwrap().cursor;
    app.engine
        .collection::<Fields>("boxes")
        .patch(&id, json!({"text": "d"}))
        .await
        .unwrap();
    let edit = Edit::patch(("boxes", &id), json!({"text": "e"})).with_base(base);
    let refused = refusal(caller.transaction(vec![edit]).await.unwrap_err());
    assert!(
        !format!("{refused:?}").contains("String(\"d\")"),
        "{refused:?}"
    );
    let tagged =
        Edit::patch(("boxes", &id), json!({"text": "f"})).with_precondition(Precondition::Exists);
    caller.transaction(vec![tagged]).await.unwrap();
}

impl App {
    async fn as_ada(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        tag: Option<String>,
    ) -> ((u16, Option<String>), Value) {
        let mut request = self
            .request(method, path)
            .header("x-user", "ada")
            .json(body);
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        let reply = request.send().await.unwrap();
        let tag = reply
            .headers()
            .get("etag")
            .map(|tag| tag.to_str().unwrap().to_owned());
        let status = reply.status().as_u16();
        (
            (status, tag),
            serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or_default(),
        )
    }
}

async fn a_check_refuses_what_it_can_not_read(app: App) {
    // The check's type does not hold this salary.
    let id = app.record("orders", "ada", 100_000).await;
    let caller = app.engine.on_behalf_of(Principal::named("ada"));
    for edit in [
        Edit::delete(("orders", &id)),
        Edit::patch(("orders", &id), json!({"salary": 1})),
    ] {
        let refused = refusal(caller.transaction(vec![edit]).await.unwrap_err());
        assert!(matches!(refused, Refusal::AppFailed(_)), "{refused}");
    }
    let ((status, _), problem) = app
        .as_ada("DELETE", &format!("/api/orders/{id}/"), &Value::Null, None)
        .await;
    assert_eq!(status, 500);
    assert!(!problem.to_string().contains("100000"), "{problem}");
}

async fn what_on_create_sets_must_be_a_field(app: App) {
    let ((status, _), _) = app
        .as_ada("POST", "/api/orders/", &json!({"salary": 1}), None)
        .await;
    assert_eq!(status, 500);
    let ((status, _), order) = app
        .as_ada("POST", "/api/orders/", &json!({"text": "b"}), None)
        .await;
    assert_eq!((status, &order["owner"]), (201, &json!("ada")));
}

async fn a_closure_whose_type_does_not_fit_reveals_no_value(app: App) {
    #[derive(Serialize, Deserialize)]
    struct Wrong {
        text: i32,
    }
    let id = app.record("orders", "ada", 0).await;
    let caller = app.engine.on_behalf_of(Principal::named("ada"));
    let edit = Edit::update(("orders", &id), |wrong: &mut Wrong| wrong.text = 1);
    let error = caller.transaction(vec![edit]).await.unwrap_err();
    let response = fieldsync::adapter::problem_response(&error);
    assert_eq!(response.status(), 500);
}

/// A collection without timestamps may have fields of those names.
#[tokio::test]
async fn fields_with_the_names_of_timestamps_are_the_apps_own() {
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Post {
        title: String,
        created_at: Timestamp,
    }
    let builder = Engine::builder().collection(Collection::of::<Post>("posts").open_to_everyone());
    let engine = builder.store(MemoryStore::new()).start().await.unwrap();
    let posts = engine.collection::<Post>("posts");
    let created_at = "2026-01-13T10:00:00Z".parse().unwrap();
    let post = posts
        .create(Post {
            title: "a".into(),
            created_at,
        })
        .await
        .unwrap();
    assert_eq!(
        (post.created_at, post.fields.created_at),
        (None, created_at)
    );
    assert_eq!(posts.get(&post.id).await.unwrap().unwrap(), post);
    // It is required, not set by the server.
    let untimed = engine
        .transaction(vec![Edit::create("posts", json!({"title": "b"}))])
        .await;
    let Refusal::Invalid(errors) = refusal(untimed.unwrap_err()) else {
        panic!("not invalid")
    };
    assert!(errors.contains("created_at"));
}
