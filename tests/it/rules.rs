//! Authorization over HTTP, WebSockets and the Rust API, and the app's own code when it panics or does not return.

use std::time::Duration;

use fieldsync::{
    Access, Collection, Denied, Edit, Engine, EngineBuilder, EngineError, FieldErrors, Fields,
    Grant, Principal, Refusal, Stored, Update, View,
};
use futures_util::StreamExt as _;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::app::{App, Never, Rule, on_every_store};
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_every_store!(with ruled:
    a_a_record_that_the_principal_may_not_read_does_not_exist,
    a_a_principal_can_neither_create_a_record_for_another_nor_give_one_away,
    a_a_field_that_the_principal_may_not_read_is_in_no_reply_and_in_no_message,
    a_an_action_without_permission_is_refused,
    a_a_field_that_may_be_read_but_not_set_is_refused,
    a_a_hidden_collection_looks_like_one_that_does_not_exist,
    a_a_record_that_becomes_hidden_is_deleted_without_its_new_values,
    a_the_same_idempotency_key_of_two_users_is_two_keys,
    a_the_link_to_the_next_page_names_no_hidden_record,
    idempotency_keys_of_the_app_and_of_principals_are_separate,
    a_panic_in_the_apps_code_fails_one_request,
    a_panic_in_the_code_of_a_feed_closes_its_socket_with_1011,
    an_authorizer_that_never_returns_does_not_delay_a_drain,
    a_subscription_ends_with_its_engine,
);

/// `notes` belong to their owners, only the boss may read `secrets`, and everyone may create `posts`, which nobody may read.
fn ruled() -> EngineBuilder {
    let notes = json!({"type": "object", "properties": {
        "owner": {"type": "string", "default": ""},
        "text": {"type": "string", "default": ""},
        "salary": {"type": "integer", "default": 0},
    }});
    let collection = |name: &str| Collection::from_schema(name, &notes);
    let own = |user: &str, _: Access| {
        let name = user.to_owned();
        let grant = Grant::full().with_rows_fn(user, move |record| {
            assert_ne!(record.fields["text"], "panic in the rule", "on purpose");
            record.fields["owner"] == name.as_str()
        });
        Ok(match user {
            "clerk" => Grant::full()
                .with_view(View::only(["owner", "text"]))
                .with_writable(View::only(["text"])),
            "boss" => Grant::full(),
            _ => grant,
        })
    };
    let secret = |user: &str, _: Access| match user {
        "boss" => Ok(Grant::full()),
        _ => Err(Denied::Hidden),
    };
    let post = |user: &str, access| match (user, access) {
        ("", _) => Err(Denied::Unauthenticated),
        (_, Access::Create) => Ok(Grant::full()),
        _ => Err(Denied::Forbidden),
    };
    let checked = |_: Option<&Fields>, after: &Fields| {
        assert_ne!(after["text"], "panic in the check", "on purpose");
        Ok::<(), FieldErrors>(())
    };
    Engine::builder()
        .collection(collection("notes").validate(checked).authorize(Rule(own)))
        .collection(collection("secrets").authorize(Rule(secret)))
        .collection(collection("posts").authorize(Rule(post)))
        .collection(collection("slow").authorize(Never))
        .feed("notes", |change| {
            assert_ne!(change.record["text"], "panic in the feed", "on purpose");
            json!(change.record)
        })
}

async fn reply(request: RequestBuilder) -> (u16, Value) {
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    let body = reply.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

impl App {
    fn as_user(&self, user: &str, method: &str, path: &str) -> RequestBuilder {
        self.request(method, path).header("x-user", user)
    }

    async fn note(&self, fields: Value) -> i64 {
        let fields: Fields = serde_json::from_value(fields).unwrap();
        let note: Stored<Fields> = self
            .engine
            .collection("notes")
            .create(fields)
            .await
            .unwrap();
        note.id.to_string().parse().unwrap()
    }
}

async fn a_a_record_that_the_principal_may_not_read_does_not_exist(app: App) {
    let mine = app.note(json!({"owner": "ada", "text": "mine"})).await;
    let theirs = app.note(json!({"owner": "bob", "text": "theirs"})).await;
    let path = format!("/api/notes/{theirs}/");
    for (method, body) in [("GET", ""), ("PATCH", "{}"), ("DELETE", "")] {
        let request = app.as_user("ada", method, &path);
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let absent = app.as_user("ada", method, "/api/notes/999/");
        let absent = absent.header("content-type", "application/json").body(body);
        let answer = reply(request).await;
        assert_eq!(answer.0, 404, "{method}");
        assert_eq!(answer, reply(absent).await, "{method}");
    }
    let (_, list) = reply(app.as_user("ada", "GET", "/api/notes/")).await;
    assert_eq!(list[0]["id"], mine);
    assert_eq!(list.as_array().unwrap().len(), 1);

    let mut socket = Socket::v1_as(&app, "ada").await;
    socket.subscribe("notes", None).await;
    assert_eq!(socket.expect("snapshot").await["records"], list);
    socket.expect("live").await;
    socket.subscribe(&format!("notes/{theirs}"), None).await;
    assert_eq!(socket.expect("snapshot").await["records"], json!([]));
    socket.expect("live").await;
    // The change of bob's record is not sent. The change of ada's record is.
    let patch = |id: i64| Edit::patch(("notes", &id), json!({"text": "new"}));
    app.engine
        .transaction(vec![patch(theirs), patch(mine)])
        .await
        .unwrap();
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["id"], &change["fields"]),
        (&json!(mine), &json!({"text": "new"}))
    );

    let ada = app.engine.on_behalf_of(Principal::named("ada"));
    let refused = ada.transaction(vec![patch(theirs)]).await;
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::NotFound(_)))
    ));
}

async fn a_a_principal_can_neither_create_a_record_for_another_nor_give_one_away(app: App) {
    let planted = app
        .as_user("eve", "POST", "/api/notes/")
        .json(&json!({"owner": "bob"}));
    assert_eq!(reply(planted).await.0, 403);
    let mine = app.note(json!({"owner": "eve"})).await;
    let path = format!("/api/notes/{mine}/");
    let given = app
        .as_user("eve", "PATCH", &path)
        .json(&json!({"owner": "bob"}));
    assert_eq!(reply(given).await.0, 403);
    assert_eq!(
        reply(app.as_user("boss", "GET", "/api/notes/"))
            .await
            .1
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

async fn a_a_field_that_the_principal_may_not_read_is_in_no_reply_and_in_no_message(app: App) {
    let id = app
        .note(json!({"owner": "ada", "text": "a", "salary": 987_654_321}))
        .await;
    let path = format!("/api/notes/{id}/");
    let mut socket = Socket::v1_as(&app, "clerk").await;
    socket.subscribe("notes", None).await;
    let mut messages = vec![socket.expect("snapshot").await, socket.expect("live").await];
    let mut bodies = vec![
        reply(app.as_user("clerk", "GET", &path)).await.1,
        reply(app.as_user("clerk", "GET", "/api/notes/")).await.1,
        reply(
            app.as_user("clerk", "PATCH", &path)
                .json(&json!({"text": "b"})),
        )
        .await
        .1,
        // Refused even if the value is the current one: otherwise the reply would reveal it.
        reply(
            app.as_user("clerk", "PATCH", &path)
                .json(&json!({"salary": 987_654_321})),
        )
        .await
        .1,
        reply(
            app.as_user("clerk", "PATCH", &path)
                .json(&json!({"salary": 1})),
        )
        .await
        .1,
    ];
    assert_eq!(bodies[3], bodies[4]);
    assert_eq!(bodies[3]["status"], 422);
    let base = socket.expect("change").await;
    let old = base["cursor"].as_str().unwrap().to_owned();
    // A change of only the hidden field is not sent, and is no conflict with an edit of a visible field.
    app.engine
        .collection::<Fields>("notes")
        .patch(&id, json!({"salary": 987_654_322}))
        .await
        .unwrap();
    app.engine
        .collection::<Fields>("notes")
        .patch(&id, json!({"text": "c", "salary": 987_654_323}))
        .await
        .unwrap();
    let change = socket.expect("change").await;
    assert_eq!(change["fields"], json!({"text": "c"}));
    messages.extend([base, change]);
    let stale = app
        .as_user("clerk", "PATCH", &path)
        .header("fieldsync-base", &old)
        .json(&json!({"text": "d"}));
    let (status, conflict) = reply(stale).await;
    assert_eq!(
        (status, &conflict["conflicts"]["text"]["theirs"]),
        (409, &json!("c"))
    );
    let deletion = app
        .as_user("clerk", "DELETE", &path)
        .header("fieldsync-base", &old);
    let (status, conflict_of_all) = reply(deletion).await;
    assert_eq!(status, 409);
    bodies.extend([conflict, conflict_of_all]);
    // Missed changes show the same fields.
    let mut mirror = Mirror::default();
    let mut again = Socket::v1_as(&app, "clerk").await;
    again.subscribe("notes", Some(&old)).await;
    loop {
        let message = again.next().await.unwrap();
        messages.push(message.clone());
        if mirror.apply(&message) {
            break;
        }
    }
    for sent in messages.iter().chain(&bodies) {
        let sent = sent.to_string();
        assert!(!sent.contains("98765432"), "{sent}");
    }
    // A cursor of another view does not resume.
    let mut boss = Socket::v1_as(&app, "boss").await;
    boss.subscribe("notes", Some(&old)).await;
    assert_eq!(boss.expect("reset").await["reason"], "view");
}

async fn a_a_field_that_may_be_read_but_not_set_is_refused(app: App) {
    let id = app.note(json!({"owner": "ada", "text": "old"})).await;
    let path = format!("/api/notes/{id}/");
    let patch = async |body: Value| reply(app.as_user("clerk", "PATCH", &path).json(&body)).await;
    // Whether it may be set is decided before whether the values are valid.
    let (status, problem) = patch(json!({"owner": "bob", "text": 1})).await;
    assert_eq!(
        (status, &problem["type"]),
        (403, &json!("urn:fieldsync:forbidden"))
    );
    assert_eq!(
        problem["errors"],
        json!({"owner": ["may not be changed by you"]})
    );
    // What may not be read, either, is like a field that does not exist.
    let (status, problem) = patch(json!({"salary": 1})).await;
    assert_eq!(
        (status, &problem["errors"]),
        (422, &json!({"salary": ["is not a known field"]}))
    );
    let create = app
        .as_user("clerk", "POST", "/api/notes/")
        .json(&json!({"owner": "bob"}));
    let (status, problem) = reply(create).await;
    assert_eq!(status, 403);
    assert_eq!(
        problem["errors"],
        json!({"owner": ["may not be set by you"]})
    );
    assert_eq!(patch(json!({"text": "new"})).await.0, 200);
}

async fn a_an_action_without_permission_is_refused(app: App) {
    let request = app.request("POST", "/api/posts/").json(&json!({}));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.headers().contains_key("www-authenticate"));
    let (status, made) = reply(
        app.as_user("ada", "POST", "/api/posts/")
            .json(&json!({"text": "x"})),
    )
    .await;
    // A principal that may write but not read sees only the id.
    assert_eq!(
        (status, made.as_object().unwrap().len()),
        (201, 1),
        "{made}"
    );
    let path = format!("/api/posts/{}/", made["id"]);
    for method in ["GET", "PATCH", "DELETE"] {
        let request = app.as_user("ada", method, &path).json(&json!({}));
        assert_eq!(reply(request).await.0, 403, "{method}");
    }
    let mut socket = Socket::v1_as(&app, "ada").await;
    socket.subscribe("posts", None).await;
    assert_eq!(socket.expect("error").await["problem"]["status"], 403);
}

async fn a_a_hidden_collection_looks_like_one_that_does_not_exist(app: App) {
    let requests = [
        ("GET", ""),
        ("HEAD", ""),
        ("OPTIONS", ""),
        ("PUT", ""),
        ("POST", ""),
        ("GET", "1/"),
        ("GET", "x/"),
        ("OPTIONS", "1/"),
        ("PATCH", "1/"),
        ("DELETE", "1/"),
        ("GET", "a/b/c"),
    ];
    for (method, path) in requests {
        let ask = |collection: &str| {
            let path = format!("/api/{collection}/{path}");
            reply(app.as_user("ada", method, &path).body("no JSON"))
        };
        assert_eq!(
            ask("secrets").await,
            ask("nothing").await,
            "{method} {path}"
        );
    }
    let mut socket = Socket::v1_as(&app, "ada").await;
    for topic in ["", "/1", "/x"] {
        let mut answers = Vec::new();
        for collection in ["secrets", "nothing"] {
            socket
                .subscribe(&format!("{collection}{topic}"), None)
                .await;
            answers.push(socket.expect("error").await["problem"].clone());
        }
        assert_eq!(answers[0], answers[1]);
    }
}

async fn a_a_record_that_becomes_hidden_is_deleted_without_its_new_values(app: App) {
    let id = app.note(json!({"owner": "ada", "text": "old"})).await;
    let ada = app.engine.on_behalf_of(Principal::named("ada"));
    let mut updates = ada.subscribe("notes", None).await.unwrap();
    while !matches!(updates.next().await.unwrap(), Update::Live { .. }) {}
    let mut socket = Socket::v1_as(&app, "ada").await;
    socket.subscribe("notes", None).await;
    socket.expect("snapshot").await;
    socket.expect("live").await;
    let given = json!({"owner": "bob", "text": "bobs secret"});
    app.engine
        .collection::<Fields>("notes")
        .patch(&id, given)
        .await
        .unwrap();
    let change = socket.expect("change").await;
    assert_eq!(change["action"], "delete");
    assert!(!change.to_string().contains("secret"));
    let update = updates.next().await.unwrap();
    assert!(matches!(update, Update::Change { .. }));
    assert!(!format!("{update:?}").contains("secret"), "{update:?}");
    // A record that becomes visible again is created.
    app.engine
        .collection::<Fields>("notes")
        .patch(&id, json!({"owner": "ada"}))
        .await
        .unwrap();
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["fields"]["text"]),
        (&json!("create"), &json!("bobs secret"))
    );
}

async fn a_the_same_idempotency_key_of_two_users_is_two_keys(app: App) {
    let post = || {
        let request = app
            .as_user("ada", "POST", "/api/notes/")
            .header("idempotency-key", "k");
        reply(request.json(&json!({"owner": "ada", "text": "mine"})))
    };
    let (status, first) = post().await;
    assert_eq!((status, &first["text"]), (201, &json!("mine")));
    assert_eq!(post().await, (201, first.clone()));
    let bobs = app
        .as_user("bob", "POST", "/api/notes/")
        .header("idempotency-key", "k");
    let (status, other) = reply(bobs.json(&json!({"owner": "bob", "text": "mine"}))).await;
    // The same key of another user is another key.
    assert_eq!(status, 201);
    assert_ne!(other["id"], first["id"]);
}

async fn a_the_link_to_the_next_page_names_no_hidden_record(app: App) {
    for number in 0..9 {
        let owner = if number % 4 == 3 { "ada" } else { "bob" };
        app.note(json!({"owner": owner})).await;
    }
    let (mut path, mut seen) = ("/api/notes/?limit=2".to_owned(), Vec::new());
    loop {
        let page = app.as_user("ada", "GET", &path).send().await.unwrap();
        let link = page
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let records: Vec<Value> = page.json().await.unwrap();
        seen.extend(records.iter().map(|record| record["id"].clone()));
        let Some(link) = link else { break };
        let last = seen
            .last()
            .expect("a page before the last has records")
            .to_string();
        assert!(link.contains(&format!("after={last}&")), "{link}");
        path = link[1..link.find('>').unwrap()].to_owned();
    }
    assert_eq!(seen, [json!(4), json!(8)]);
    let all = app
        .engine
        .on_behalf_of(Principal::named("ada"))
        .list("notes", None, usize::MAX)
        .await;
    assert_eq!(all.unwrap().records.len(), 2);
}

async fn idempotency_keys_of_the_app_and_of_principals_are_separate(app: App) {
    let create = |text: &str| {
        let fields = json!({"owner": "", "text": text});
        vec![Edit::create("notes", fields).with_idempotency_key("import")]
    };
    let engine = &app.engine;
    engine
        .on_behalf_of(Principal::anonymous())
        .transaction(create("a"))
        .await
        .unwrap();
    engine
        .on_behalf_of(Principal::named(""))
        .transaction(create("b"))
        .await
        .unwrap();
    engine.transaction(create("c")).await.unwrap();
    assert_eq!(
        engine
            .collection::<Fields>("notes")
            .list(None, 9)
            .await
            .unwrap()
            .len(),
        3
    );
}

async fn a_panic_in_the_apps_code_fails_one_request(app: App) {
    let id = app.note(json!({"owner": "ada"})).await;
    let path = format!("/api/notes/{id}/");
    for text in ["panic in the check", "panic in the rule"] {
        let (status, problem) = reply(
            app.as_user("ada", "PATCH", &path)
                .json(&json!({"text": text})),
        )
        .await;
        assert_eq!(status, 500, "{text}");
        assert_eq!(problem["type"], "urn:fieldsync:internal");
    }
    let closure = Edit::update(("notes", &id), |_: &mut Fields| -> () {
        panic!("on purpose")
    });
    let refused = app.engine.transaction(vec![closure]).await;
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::AppPanicked))
    ));
    // None of them is stored, and other requests go on.
    let (status, note) = reply(
        app.as_user("ada", "PATCH", &path)
            .json(&json!({"text": "fine"})),
    )
    .await;
    assert_eq!((status, &note["text"]), (200, &json!("fine")));
    // A record for which the row filter panics is hidden, and the others are shown.
    let mut socket = Socket::v1_as(&app, "ada").await;
    socket.subscribe("notes", None).await;
    Mirror::default().catch_up(&mut socket).await;
    let bad = json!({"owner": "ada", "text": "panic in the rule"});
    let bad = app.note(bad).await;
    let (status, notes) = reply(app.as_user("ada", "GET", "/api/notes/")).await;
    assert_eq!((status, &notes[0]["id"]), (200, &json!(id)));
    assert_eq!(notes.as_array().unwrap().len(), 1);
    let bad = format!("/api/notes/{bad}/");
    assert_eq!(reply(app.as_user("ada", "GET", &bad)).await.0, 404);
    let mut later = Socket::v1_as(&app, "ada").await;
    later.subscribe("notes", None).await;
    assert_eq!(later.expect("snapshot").await["records"], notes);
    // The socket that was open is told of later changes, and when the record can be shown.
    let text = json!({"text": "mended"});
    assert_eq!(
        reply(app.as_user("boss", "PATCH", &bad).json(&text))
            .await
            .0,
        200
    );
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["fields"]["text"]),
        (&json!("create"), &text["text"])
    );
}

async fn a_panic_in_the_code_of_a_feed_closes_its_socket_with_1011(app: App) {
    let (mut feed, mut v1) = (Socket::feed(&app).await, Socket::v1_as(&app, "boss").await);
    v1.subscribe("notes", None).await;
    v1.expect("snapshot").await;
    v1.expect("live").await;
    // The feed has begun when it answers a ping.
    feed.ping().await;
    app.note(json!({"text": "panic in the feed"})).await;
    assert_eq!(feed.next().await, Err(1011));
    assert_eq!(
        v1.expect("change").await["fields"]["text"],
        "panic in the feed"
    );
}

async fn an_authorizer_that_never_returns_does_not_delay_a_drain(app: App) {
    let mut socket = Socket::v1_as(&app, "ada").await;
    socket.subscribe("slow", None).await;
    let (drained, closed) = tokio::join!(app.engine.drain(Duration::from_secs(9)), socket.next());
    assert!(
        drained.is_complete(),
        "the socket does not wait for the authorizer"
    );
    assert_eq!(closed, Err(1012));
}

async fn a_subscription_ends_with_its_engine(_: App) {
    let engine = ruled()
        .store(fieldsync::MemoryStore::new())
        .start()
        .await
        .unwrap();
    let mut updates = engine.subscribe("notes", None).await.unwrap();
    for _ in 0..2 {
        updates.next().await.unwrap();
    }
    drop(engine);
    assert_eq!(
        within_limit("the end of a subscription", updates.next()).await,
        None
    );
}
