//! The REST routes: what each request is answered with.

use serde_json::{Value, json};

use crate::app::{App, on_every_store};

on_every_store!(
    a_user_is_created_read_changed_and_deleted,
    paths_go_with_and_without_the_trailing_slash,
    entity_tags_guard_against_lost_updates,
    an_unchanged_record_is_not_sent_again,
    lists_come_in_pages_with_links,
    bad_input_is_refused_and_names_the_field,
    a_body_over_the_limit_is_refused_before_it_is_read,
    a_refused_request_stores_nothing,
    other_methods_are_refused_with_what_is_allowed,
    an_idempotency_key_makes_a_repetition_safe,
    a_base_guards_the_fields_that_are_touched,
    every_type_of_field_survives_the_way,
    the_apps_own_check_refuses_by_field,
);

async fn a_user_is_created_read_changed_and_deleted(app: App) {
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

    // What changes nothing leaves updated_at alone.
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

async fn paths_go_with_and_without_the_trailing_slash(app: App) {
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
    assert_eq!(app.get(&format!("/api/%75sers/%3{id}/")).await["id"], id);
}

async fn entity_tags_guard_against_lost_updates(app: App) {
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

async fn an_unchanged_record_is_not_sent_again(app: App) {
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

async fn lists_come_in_pages_with_links(app: App) {
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

async fn bad_input_is_refused_and_names_the_field(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    let long = format!(r#"{{"first_name":"{}"}}"#, "x".repeat(101));
    let table: &[(&str, u16, &str)] = &[
        ("", 400, ""),
        ("not json", 400, ""),
        ("[]", 400, ""),
        ("\"x\"", 400, ""),
        ("1", 400, ""),
        ("null", 400, ""),
        (r#"{"first_name":"a","first_name":"b"}"#, 400, ""),
        (r#"{"first_name":"\ud800"}"#, 400, ""),
        (r#"{"first_name":"a"} x"#, 400, ""),
        (r#"{"first_name":1}"#, 422, "first_name"),
        (r#"{"first_name":null}"#, 422, "first_name"),
        (r#"{"first_name":"a\u0000b"}"#, 422, "first_name"),
        (r#"{"first_name":1e400}"#, 422, "first_name"),
        (&long, 422, "first_name"),
        (r#"{"middle_name":"x"}"#, 422, "middle_name"),
        (r#"{"__proto__":{}}"#, 422, "__proto__"),
        (r#"{"\"; drop table users":1}"#, 422, "\"; drop table users"),
        (r#"{"id":77}"#, 422, "id"),
        (
            r#"{"created_at":"2020-01-01T00:00:00Z"}"#,
            422,
            "created_at",
        ),
    ];
    for (method, path) in [("PATCH", &path[..]), ("POST", "/api/users/")] {
        for (body, status, field) in table {
            let request = app
                .request(method, path)
                .header("content-type", "application/json")
                .body((*body).to_owned());
            let reply = request.send().await.unwrap();
            assert_eq!(reply.status(), *status, "{method} {body}");
            assert_eq!(reply.headers()["content-type"], "application/problem+json");
            let problem: Value = reply.json().await.unwrap();
            assert_eq!(problem["status"], *status);
            let blamed: Vec<&String> = problem["errors"]
                .as_object()
                .map(|errors| errors.keys().collect())
                .unwrap_or_default();
            let expected: Vec<&str> = if field.is_empty() {
                Vec::new()
            } else {
                vec![field]
            };
            assert_eq!(blamed, expected, "{method} {body}");
        }
    }
    for (media_type, status) in [
        ("application/merge-patch+json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("application/json; charset=latin1", 415),
        ("text/plain", 415),
        ("application/json-patch+json", 415),
        ("", 415),
    ] {
        let request = app
            .request("PATCH", &path)
            .header("content-type", media_type)
            .body("{}");
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), status, "{media_type}");
        assert_eq!(reply.headers().contains_key("accept-patch"), status == 415);
    }
}

async fn a_body_over_the_limit_is_refused_before_it_is_read(app: App) {
    let announced = "POST /api/users/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1048577\r\n\r\n";
    let reply = app.raw(announced.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    assert!(reply.contains("application/problem+json"), "{reply}");
}

async fn a_refused_request_stores_nothing(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    let before = app.request("GET", &path).send().await.unwrap();
    let cursor = before.headers()["fieldsync-cursor"].clone();
    let before: Value = before.json().await.unwrap();
    let (status, _) = app
        .send(
            "PATCH",
            &path,
            &json!({"first_name": "Jack", "last_name": 5}),
        )
        .await;
    assert_eq!(status, 422);
    let after = app.request("GET", &path).send().await.unwrap();
    assert_eq!(after.headers()["fieldsync-cursor"], cursor);
    assert_eq!(after.json::<Value>().await.unwrap(), before);
}

async fn other_methods_are_refused_with_what_is_allowed(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    for (method, path, allowed) in [
        ("PUT", &path[..], "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("POST", &path[..], "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("DELETE", "/api/users/", "GET, HEAD, POST, OPTIONS"),
        ("BREW", "/api/users/", "GET, HEAD, POST, OPTIONS"),
    ] {
        let reply = app.request(method, path).send().await.unwrap();
        assert_eq!(
            (
                reply.status().as_u16(),
                reply.headers()["allow"].to_str().unwrap()
            ),
            (405, allowed),
            "{method} {path}"
        );
    }
    let reply = app.request("OPTIONS", &path).send().await.unwrap();
    assert_eq!(reply.status(), 204);
    assert_eq!(
        reply.headers()["accept-patch"],
        "application/merge-patch+json, application/json"
    );
}

async fn an_idempotency_key_makes_a_repetition_safe(app: App) {
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
    // At the same moment, too.
    let all = futures_util::future::join_all((0..20).map(|_| post("k2", "Bob"))).await;
    let mut ids = std::collections::HashSet::new();
    for reply in all {
        ids.insert(reply.unwrap().json::<Value>().await.unwrap()["id"].to_string());
    }
    assert_eq!(ids.len(), 1);
}

async fn a_base_guards_the_fields_that_are_touched(app: App) {
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

async fn every_type_of_field_survives_the_way(app: App) {
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
    // JSON fields merge; null takes a member away there, and sets a field that may be null.
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

async fn the_apps_own_check_refuses_by_field(app: App) {
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
