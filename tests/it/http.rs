//! The REST routes.

use serde_json::{Value, json};

use crate::app::{App, on_every_store};

on_every_store!(
    a_record_is_created_read_edited_and_deleted,
    paths_work_with_and_without_a_trailing_slash,
    a_stale_if_match_is_refused,
    a_matching_if_none_match_is_answered_with_304,
    a_list_has_pages_with_links,
    options_lists_the_allowed_methods,
    a_retry_with_the_same_idempotency_key_is_applied_once,
    an_edit_conflicts_with_changes_of_the_same_fields_since_its_base,
    every_type_of_field_is_stored_and_returned,
    the_apps_validation_refuses_a_field_with_a_message,
    a_content_encoding_that_is_given_twice_is_refused,
);

async fn a_record_is_created_read_edited_and_deleted(app: App) {
    let reply = app
        .request("POST", "/api/users/")
        .json(&json!({"first_name": "John"}))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 201);
    let location = reply.headers()["location"].to_str().unwrap().to_owned();
    assert!(reply.headers().contains_key("fieldsync-cursor"));
    let user: Value = reply.json().await.unwrap();
    assert_eq!(location, format!("/api/users/{}/", user["id"]));
    assert_eq!(
        (&user["first_name"], &user["last_name"]),
        (&json!("John"), &json!(""))
    );
    assert_eq!(user["created_at"], user["updated_at"]);
    assert_eq!(app.get(&location).await, user);

    let (status, changed) = app
        .send("PATCH", &location, &json!({"last_name": "Doe"}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        (&changed["first_name"], &changed["last_name"]),
        (&json!("John"), &json!("Doe"))
    );
    assert_eq!(changed["created_at"], user["created_at"]);
    assert!(changed["updated_at"].as_str() > user["updated_at"].as_str());
    assert_eq!(app.get("/api/users/").await, json!([changed]));

    // An edit that changes nothing leaves updated_at unchanged.
    assert_eq!(
        app.send("PATCH", &location, &json!({"last_name": "Doe"}))
            .await,
        (200, changed.clone())
    );
    assert_eq!(app.send("PATCH", &location, &changed).await, (200, changed));

    let reply = app.request("DELETE", &location).send().await.unwrap();
    assert_eq!(reply.status(), 204);
    assert_eq!(
        app.request("GET", &location).send().await.unwrap().status(),
        404
    );
    assert_eq!(
        app.request("DELETE", &location)
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    assert_eq!(
        app.send("PATCH", &location, &json!({"last_name": "Roe"}))
            .await
            .0,
        404
    );
}

async fn paths_work_with_and_without_a_trailing_slash(app: App) {
    let id = app.create_user("John", "Doe").await;
    assert_eq!(app.get("/api/users").await, app.get("/api/users/").await);
    assert_eq!(
        app.get(&format!("/api/users/{id}")).await,
        app.get(&format!("/api/users/{id}/")).await
    );
    for path in [
        "/api/users/0/",
        "/api/users/-1/",
        "/api/users/01/",
        "/api/users/9223372036854775808/",
        "/api/users/abc/",
    ] {
        let reply = app.request("GET", path).send().await.unwrap();
        assert_eq!(reply.status(), 404, "{path}");
        assert_eq!(reply.headers()["content-type"], "application/problem+json");
    }
    for path in [
        "/api/nothing/",
        "/api/users/1/2/",
        "/api/users/%00/",
        "/api/users//",
        "/api/",
    ] {
        assert_eq!(
            app.request("GET", path).send().await.unwrap().status(),
            404,
            "{path}"
        );
    }
    assert_eq!(app.get(&format!("/api/users/%3{id}/")).await["id"], id);
}

async fn a_stale_if_match_is_refused(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    let reply = app.request("GET", &path).send().await.unwrap();
    let tag = reply.headers()["etag"].to_str().unwrap().to_owned();
    let patch = |tag: &str, name: &str| {
        app.request("PATCH", &path)
            .header("if-match", tag)
            .json(&json!({"first_name": name}))
            .send()
    };
    let reply = patch(&tag, "Jack").await.unwrap();
    assert_eq!(reply.status(), 200);
    let new_tag = reply.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(new_tag, tag);
    for stale in [&tag, &format!("W/{new_tag}"), "\"other\""] {
        assert_eq!(patch(stale, "Lost").await.unwrap().status(), 412, "{stale}");
    }
    assert_eq!(patch("malformed", "Lost").await.unwrap().status(), 400);
    assert_eq!(app.get(&path).await["first_name"], "Jack");
    assert_eq!(
        patch(&format!("{tag}, {new_tag}"), "Jim")
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(patch("*", "Joe").await.unwrap().status(), 200);
    let reply = app
        .request("DELETE", &path)
        .header("if-match", &new_tag)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 412);
    assert_eq!(app.get(&path).await["first_name"], "Joe");
}

async fn a_matching_if_none_match_is_answered_with_304(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    for path in [&path[..], "/api/users/"] {
        let reply = app.request("GET", path).send().await.unwrap();
        let tag = reply.headers()["etag"].to_str().unwrap().to_owned();
        let length = reply.bytes().await.unwrap().len();
        for tag in [
            tag.clone(),
            format!("W/{tag}"),
            "*".into(),
            format!("\"x\", {tag}"),
        ] {
            let reply = app
                .request("GET", path)
                .header("if-none-match", &tag)
                .send()
                .await
                .unwrap();
            assert_eq!(reply.status(), 304, "{tag}");
            assert!(
                reply.headers().contains_key("etag")
                    && reply.headers().contains_key("fieldsync-cursor")
            );
        }
        let reply = app
            .request("GET", path)
            .header("if-none-match", "\"x\"")
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 200);
        let reply = app.request("HEAD", path).send().await.unwrap();
        assert_eq!(reply.headers()["content-length"], length.to_string());
        assert_eq!(reply.headers()["etag"], tag);
        assert!(reply.bytes().await.unwrap().is_empty());
    }
}

async fn a_list_has_pages_with_links(app: App) {
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(app.create_user(&number.to_string(), "").await);
    }
    let mut next = Some("/api/users/?limit=2".to_owned());
    let mut seen = Vec::new();
    while let Some(path) = next {
        let reply = app.request("GET", &path).send().await.unwrap();
        let link = reply
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| {
            link.strip_prefix('<')
                .unwrap()
                .strip_suffix(">; rel=\"next\"")
                .unwrap()
                .to_owned()
        });
        let page: Vec<Value> = reply.json().await.unwrap();
        assert!(page.len() <= 2);
        seen.extend(page.iter().map(|user| user["id"].as_i64().unwrap()));
    }
    assert_eq!(seen, ids);
    for query in [
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=1e9",
        "limit=1&limit=2",
        "after=x",
        "limit=",
    ] {
        let reply = app
            .request("GET", &format!("/api/users/?{query}"))
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 400, "{query}");
        let problem: Value = reply.json().await.unwrap();
        assert!(problem["errors"].is_object(), "{problem}");
    }
}

async fn options_lists_the_allowed_methods(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    let merge_patch = "application/merge-patch+json, application/json";
    for (path, allowed, patch) in [
        (
            &path[..],
            "GET, HEAD, PATCH, DELETE, OPTIONS",
            Some(merge_patch),
        ),
        ("/api/users/", "GET, HEAD, POST, OPTIONS", None),
    ] {
        let reply = app.request("OPTIONS", path).send().await.unwrap();
        let header = |name| {
            reply
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        assert_eq!(
            (reply.status().as_u16(), header("allow")),
            (204, Some(allowed))
        );
        assert_eq!(header("accept-patch"), patch);
    }
}

async fn a_retry_with_the_same_idempotency_key_is_applied_once(app: App) {
    let post = |key: &'static str, name: &'static str| {
        app.request("POST", "/api/users/")
            .header("idempotency-key", key)
            .json(&json!({"first_name": name}))
            .send()
    };
    let first = post("\"k1\"", "Ada").await.unwrap();
    assert_eq!(first.status(), 201);
    let (cursor, first) = (
        first.headers()["fieldsync-cursor"].clone(),
        first.json::<Value>().await.unwrap(),
    );
    let again = post("k1", "Ada").await.unwrap();
    assert_eq!(
        (
            again.status().as_u16(),
            &again.headers()["fieldsync-cursor"]
        ),
        (201, &cursor)
    );
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    assert_eq!(post("k1", "Eve").await.unwrap().status(), 422);
    assert_eq!(app.get("/api/users/").await.as_array().unwrap().len(), 1);
    assert_eq!(post("white space", "Eve").await.unwrap().status(), 400);
    // Concurrent retries are applied once, too.
    let all = futures_util::future::join_all((0..20).map(|_| post("k2", "Bob"))).await;
    let mut ids = std::collections::HashSet::new();
    for reply in all {
        ids.insert(reply.unwrap().json::<Value>().await.unwrap()["id"].to_string());
    }
    assert_eq!(ids.len(), 1);
}

async fn an_edit_conflicts_with_changes_of_the_same_fields_since_its_base(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    let reply = app.request("GET", &path).send().await.unwrap();
    let base = reply.headers()["fieldsync-cursor"]
        .to_str()
        .unwrap()
        .to_owned();
    app.send("PATCH", &path, &json!({"first_name": "Jack"}))
        .await;
    let patch = async |base: &str, patch: Value| {
        let reply = app
            .request("PATCH", &path)
            .header("fieldsync-base", base)
            .json(&patch)
            .send()
            .await
            .unwrap();
        (
            reply.status().as_u16(),
            reply.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(patch(&base, json!({"last_name": "Roe"})).await.0, 200);
    let (status, problem) = patch(&base, json!({"first_name": "Jim"})).await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:fieldsync:changed-since-base"))
    );
    assert_eq!(
        problem["conflicts"],
        json!({"first_name": {"base": "John", "mine": "Jim", "theirs": "Jack"}})
    );
    let reply = app.request("GET", "/api/things/").send().await.unwrap();
    let other = reply.headers()["fieldsync-cursor"]
        .to_str()
        .unwrap()
        .to_owned();
    let (status, problem) = patch(&other, json!({"first_name": "Jim"})).await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:fieldsync:base-unknown"))
    );
    assert_eq!(problem["current"], app.get(&path).await);
    assert_eq!(patch("x", json!({"first_name": "Jim"})).await.0, 400);
    let delete = app
        .request("DELETE", &path)
        .header("fieldsync-base", &base)
        .send()
        .await
        .unwrap();
    assert_eq!(delete.status(), 409);
    assert_eq!(app.get(&path).await["first_name"], "Jack");
}

async fn every_type_of_field_is_stored_and_returned(app: App) {
    let thing = json!({
        "flag": true, "count": -7, "ratio": 0.1, "note": "\u{1F600} \"<b>\"", "due": "2026-01-13T12:00:00.5+02:00",
        "tags": ["a", "b"], "settings": {"theme": {"dark": true, "hue": 7}},
    });
    let (status, created) = app.send("POST", "/api/things/", &thing).await;
    assert_eq!(status, 201, "{created}");
    let mut expected = thing.clone();
    expected["id"] = created["id"].clone();
    expected["due"] = json!("2026-01-13T10:00:00.500000Z");
    assert_eq!(created, expected);
    let id = created["id"].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "7"));
    let path = format!("/api/things/{id}/");
    assert_eq!(app.get(&path).await, expected);
    // JSON fields are merged: null removes a member. A nullable field is set to null.
    let patch = json!({"settings": {"theme": {"dark": null}, "size": 2}, "tags": [], "due": null});
    let (_, changed) = app.send("PATCH", &path, &patch).await;
    assert_eq!(changed["settings"], json!({"theme": {"hue": 7}, "size": 2}));
    assert_eq!(
        (&changed["tags"], &changed["due"]),
        (&json!([]), &Value::Null)
    );
    for (field, value) in [
        ("count", json!(2_147_483_648_u64)),
        ("ratio", json!("x")),
        ("due", json!("soon")),
        ("tags", json!([1])),
    ] {
        let (status, problem) = app.send("PATCH", &path, &json!({field: value})).await;
        assert_eq!(status, 422);
        assert!(problem["errors"][field].is_array(), "{problem}");
    }
    assert_eq!(app.get("/api/things/").await, json!([changed]));
}

async fn the_apps_validation_refuses_a_field_with_a_message(app: App) {
    let (status, problem) = app
        .send("POST", "/api/users/", &json!({"first_name": "Voldemort"}))
        .await;
    assert_eq!(
        (status, &problem["errors"]["first_name"]),
        (422, &json!(["must not be named"]))
    );
    let path = format!("/api/users/{}/", app.create_user("Tom", "Riddle").await);
    let (status, _) = app
        .send("PATCH", &path, &json!({"first_name": "Voldemort"}))
        .await;
    assert_eq!(status, 422);
    assert_eq!(app.get(&path).await["first_name"], "Tom");
}

async fn a_content_encoding_that_is_given_twice_is_refused(app: App) {
    for codings in [["gzip", "gzip"], ["identity", "gzip"]] {
        let mut request = app.request("POST", "/api/users/").json(&json!({}));
        for coding in codings {
            request = request.header("content-encoding", coding);
        }
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 415, "{codings:?}");
        assert_eq!(reply.headers()["accept-encoding"], "identity");
    }
}
