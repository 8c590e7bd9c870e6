//! Limits in bytes: of records, pages, pieces of snapshots and messages; and limits of transactions.

use fieldsync::{Edit, EngineBuilder, EngineError, Refusal};
use serde_json::{Value, json};

use crate::app::{App, builder, on_every_store};

on_every_store!(with limited:
    a_merge_that_makes_a_record_too_large_is_refused,
    a_repeated_request_is_answered_with_the_id_of_a_deleted_record,
    a_transaction_with_too_many_edits_is_refused,
);

fn limited() -> EngineBuilder {
    builder()
        .max_transaction_edits(3)
        .max_record_bytes(1_000_000)
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

async fn a_merge_that_makes_a_record_too_large_is_refused(app: App) {
    let (_, thing) = app.send("POST", "/api/things/", &json!({})).await;
    let path = format!("/api/things/{}/", thing["id"].as_str().unwrap());
    let grow = async |name: &str, bytes: usize| {
        let patch = json!({"settings": {name: text(bytes)}, "count": 1});
        app.send("PATCH", &path, &patch).await
    };
    for name in ["a", "b", "c"] {
        assert_eq!(grow(name, 300_000).await.0, 200);
    }
    let before = app.get(&path).await;
    let (status, problem) = grow("d", 300_000).await;
    assert_eq!(status, 413, "{problem}");
    assert_eq!(problem["type"], "urn:fieldsync:record-too-large");
    let errors = json!({"settings": ["makes the record larger than 1000000 bytes"]});
    assert_eq!(problem["errors"], errors);
    assert_eq!(app.get(&path).await, before);

    // The app's own edits have the same limit, and so have records that are created.
    let settings = json!({"settings": {"e": text(300_000)}});
    let key = (
        "things",
        thing["id"]
            .as_str()
            .unwrap()
            .parse::<fieldsync::uuid::Uuid>()
            .unwrap(),
    );
    let note = json!({"note": text(1_100_000)});
    for edit in [Edit::patch(key, settings), Edit::create("things", note)] {
        let refused = app.engine.transaction(vec![edit]).await.unwrap_err();
        assert!(
            matches!(refused, EngineError::Refused(Refusal::RecordTooLarge(_))),
            "{refused:?}"
        );
    }
    let (status, _) = app
        .send("PATCH", &path, &json!({"settings": {"a": null}}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(grow("d", 300_000).await.0, 200);
}

async fn a_transaction_with_too_many_edits_is_refused(app: App) {
    let edits = |count| vec![Edit::create("users", json!({})); count];
    app.engine.transaction(edits(3)).await.unwrap();
    let refused = app.engine.transaction(edits(4)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a transaction of 4 edits, of which at most 3 are allowed"
    );
    assert_eq!(app.get("/api/users/").await.as_array().unwrap().len(), 3);
}

async fn a_repeated_request_is_answered_with_the_id_of_a_deleted_record(app: App) {
    let user = json!({"first_name": "Ada"});
    let send = async || {
        let request = app.request("POST", "/api/users/").json(&user);
        let reply = request.header("idempotency-key", "k").send().await.unwrap();
        let status = reply.status().as_u16();
        (status, reply.json::<Value>().await.unwrap())
    };
    let first = send().await;
    assert_eq!(first.0, 201);
    let path = format!("/api/users/{}/", first.1["id"]);
    app.send("PATCH", &path, &json!({"first_name": "Grace"}))
        .await;
    assert_eq!(send().await, first);
    let deleted = app.request("DELETE", &path).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    // The log still has the change.
    assert_eq!(send().await, first);
}
