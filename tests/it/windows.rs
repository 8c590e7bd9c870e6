//! Windows: the first records of an order, as they come and go.

use std::cmp::Ordering;

use fieldsync::{Collection, Engine, EngineBuilder};
use serde_json::{Value, json};

use crate::app::{App, on_every_store};
use crate::events::Events;
use crate::random;
use crate::socket::Socket;

on_every_store!(with messages:
    a_window_has_the_first_records_as_they_come_and_go,
    a_window_resumes_where_nothing_has_changed_in_it,
    a_window_over_server_sent_events,
    records_that_are_equal_stand_in_the_order_of_their_ids,
    a_bad_order_is_refused_and_names_its_parameter,
    pages_of_an_order_follow_each_other,
    an_order_without_a_limit_is_left_to_who_has_all,
);

/// `notes` have integer ids, `texts` have ids of text.
fn messages() -> EngineBuilder {
    let schema = json!({"type": "object", "properties": {
        "room": {"type": "integer", "default": 0},
        "at": {"type": ["integer", "null"], "default": null},
        "text": {"type": "string", "default": ""},
        "title": {"type": "string", "default": ""},
    }});
    let of = |name| {
        Collection::from_schema(name, &schema)
            .without_capture()
            .open_to_everyone()
    };
    Engine::builder()
        .collection(
            of("messages")
                .orderable(["title"])
                .filterable(["room", "text"]),
        )
        .collection(of("texts").text_ids())
}

async fn create(app: &App, message: Value) -> i64 {
    let (status, body) = app.send("POST", "/api/messages/", &message).await;
    assert_eq!(status, 201, "{body}");
    body["id"].as_i64().unwrap()
}

async fn patch(app: &App, id: i64, patch: Value) {
    let path = format!("/api/messages/{id}/");
    let (status, body) = app.send("PATCH", &path, &patch).await;
    assert_eq!(status, 200, "{body}");
}

/// What the changes of a message do: the action and the id of each.
fn actions(message: &Value) -> Vec<(String, i64)> {
    let changes = message["changes"].as_array().unwrap().iter();
    let action = |change: &Value| {
        let action = change["action"].as_str().unwrap().to_owned();
        (action, change["id"].as_i64().unwrap())
    };
    changes.map(action).collect()
}

fn ids(records: &Value) -> Vec<i64> {
    let records = records.as_array().unwrap().iter();
    records.map(|one| one["id"].as_i64().unwrap()).collect()
}

async fn a_window_has_the_first_records_as_they_come_and_go(app: App) {
    for at in 1..=5 {
        create(&app, json!({"room": 1, "at": at})).await;
    }
    let elsewhere = create(&app, json!({"room": 2, "at": 10})).await;
    let mut socket = Socket::v1(&app).await;
    let newest = "messages?room=eq.1&order=at.desc&limit=3";
    socket.subscribe(newest, None).await;
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(ids(&snapshot["records"]), [5, 4, 3]);
    assert!(snapshot["cursor"].is_string());
    socket.expect("live").await;

    // One comes, and the last one has no more room.
    let new = create(&app, json!({"room": 1, "at": 6, "text": "new"})).await;
    let changes = socket.expect("changes").await;
    assert_eq!(
        actions(&changes),
        [("create".into(), new), ("leave".into(), 3)]
    );
    assert!(changes["cursor"].is_string());
    assert_eq!(changes["changes"][0]["fields"]["text"], "new");

    // A change within is a change of what it changed.
    patch(&app, 4, json!({"text": "edited"})).await;
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["fields"]),
        (&json!("update"), &json!({"text": "edited"}))
    );
    // What is behind the window is not sent, nor what is in another room.
    patch(&app, 1, json!({"text": "behind"})).await;
    patch(&app, elsewhere, json!({"at": 11})).await;

    // One leaves, and the next one follows with all its fields.
    let (status, _) = app.send("DELETE", "/api/messages/5/", &json!(null)).await;
    assert_eq!(status, 204);
    let changes = socket.expect("changes").await;
    assert_eq!(
        actions(&changes),
        [("delete".into(), 5), ("enter".into(), 3)]
    );
    assert_eq!(changes["changes"][1]["fields"]["at"], 3);

    // One falls behind others.
    patch(&app, new, json!({"at": 0})).await;
    let changes = socket.expect("changes").await;
    assert_eq!(
        actions(&changes),
        [("leave".into(), new), ("enter".into(), 2)]
    );
    // One moves to another room, and one comes from there.
    patch(&app, 4, json!({"room": 3})).await;
    let changes = socket.expect("changes").await;
    assert_eq!(
        actions(&changes),
        [("leave".into(), 4), ("enter".into(), 1)]
    );
    patch(&app, elsewhere, json!({"room": 1})).await;
    let changes = socket.expect("changes").await;
    assert_eq!(
        actions(&changes),
        [("enter".into(), elsewhere), ("leave".into(), 1)]
    );
    // Null is largest.
    patch(&app, new, json!({"at": null})).await;
    let changes = socket.expect("changes").await;
    assert_eq!(
        actions(&changes),
        [("enter".into(), new), ("leave".into(), 2)]
    );
    let list = app
        .get(&format!("/api/{}", newest.replacen('?', "/?", 1)))
        .await;
    assert_eq!(ids(&list), [new, elsewhere, 3]);
}

async fn a_window_resumes_where_nothing_has_changed_in_it(app: App) {
    for at in 1..=4 {
        create(&app, json!({"room": 1, "at": at})).await;
    }
    let mut socket = Socket::v1(&app).await;
    let topic = "messages?room=eq.1&order=at&limit=2";
    socket.subscribe(topic, None).await;
    let cursor = socket.expect("snapshot").await["cursor"].clone();
    create(&app, json!({"room": 2, "at": 0})).await;
    drop(socket);

    let mut socket = Socket::v1(&app).await;
    socket.subscribe(topic, cursor.as_str()).await;
    socket.expect("live").await;
    patch(&app, 2, json!({"at": 9})).await;
    let changes = socket.expect("changes").await;
    assert_eq!(
        actions(&changes),
        [("leave".into(), 2), ("enter".into(), 3)]
    );
    let cursor = changes["cursor"].clone();
    drop(socket);

    patch(
        &app,
        4,
        json!({"text": "behind the window, and in its filter"}),
    )
    .await;
    let mut socket = Socket::v1(&app).await;
    socket.subscribe(topic, cursor.as_str()).await;
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(ids(&snapshot["records"]), [1, 3]);
    // The cursor of another window, and of a page of the list, is of something else.
    let mut socket = Socket::v1(&app).await;
    socket
        .subscribe("messages?room=eq.1&order=at&limit=3", cursor.as_str())
        .await;
    assert_eq!(socket.expect("reset").await["reason"], "view");
    assert_eq!(ids(&socket.expect("snapshot").await["records"]), [1, 3, 4]);
}

async fn a_window_over_server_sent_events(app: App) {
    for at in 1..=3 {
        create(&app, json!({"room": 1, "at": at})).await;
    }
    let path = "/api/messages/?order=at.desc&limit=2";
    let mut events = Events::of(app.request("GET", path)).await;
    let snapshot = events.expect("snapshot").await;
    assert_eq!(ids(&snapshot.data["records"]), [3, 2]);
    events.expect("live").await;
    let (status, _) = app.send("DELETE", "/api/messages/3/", &json!(null)).await;
    assert_eq!(status, 204);
    let changes = events.expect("changes").await;
    assert_eq!(
        actions(&changes.data),
        [("delete".into(), 3), ("enter".into(), 1)]
    );
}

async fn records_that_are_equal_stand_in_the_order_of_their_ids(app: App) {
    // By code point, whatever the collation of the key is.
    let names = ["b", "B", "a", "é", "z", "Z", "_", "a b"];
    for id in names {
        let text = json!({"id": id, "at": 1});
        let (status, body) = app.send("POST", "/api/texts/", &text).await;
        assert_eq!(status, 201, "{body}");
    }
    let mut sorted = names;
    sorted.sort_unstable();
    for (order, expected) in [
        ("at", sorted.to_vec()),
        ("at,id.desc", sorted.iter().rev().copied().collect()),
        ("id.desc", sorted.iter().rev().copied().collect()),
    ] {
        let mut path = format!("/api/texts/?order={order}&limit=3");
        let mut listed = Vec::new();
        loop {
            let reply = app.request("GET", &path).send().await.unwrap();
            let link = reply.headers().get("link").cloned();
            let page: Vec<Value> = reply.json().await.unwrap();
            listed.extend(
                page.iter()
                    .map(|one| one["id"].as_str().unwrap().to_owned()),
            );
            let Some(link) = link else { break };
            let link = link.to_str().unwrap();
            path = link[1..link.find('>').unwrap()].to_owned();
        }
        assert_eq!(listed, expected, "{order}");
        let mut socket = Socket::v1(&app).await;
        let topic = format!("texts?order={order}&limit=3");
        socket.subscribe(&topic, None).await;
        let snapshot = socket.expect("snapshot").await;
        let first = snapshot["records"].as_array().unwrap().iter();
        let first: Vec<_> = first.map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(first, expected[..3], "{order}");
    }
}

async fn a_bad_order_is_refused_and_names_its_parameter(app: App) {
    for (query, parameter, message) in [
        ("order=when", "order", "\"when\" is not a known field"),
        ("order=text", "order", "\"text\" has no order"),
        ("order=at.up", "order", "after its end"),
        ("order=at&order=at", "order", "only once"),
        ("limit=0", "limit", "from 1 to 1000"),
        ("limit=1001", "limit", "from 1 to 1000"),
        ("title=gt.a", "title", "can't be asked about"),
        ("text=gt.a", "text", "has no order"),
        ("at=gt.1", "at", "can't be asked about"),
    ] {
        let reply = app
            .request("GET", &format!("/api/messages/?{query}"))
            .send();
        let reply = reply.await.unwrap();
        assert_eq!(reply.status(), 400, "{query}");
        let problem: Value = reply.json().await.unwrap();
        let errors = problem["errors"][parameter]
            .to_string()
            .replace("\\\"", "\"");
        let detail = problem["detail"].to_string().replace("\\\"", "\"");
        assert!(
            errors.contains(message) || detail.contains(message),
            "{query}: {problem}"
        );
        let mut socket = Socket::v1(&app).await;
        socket.subscribe(&format!("messages?{query}"), None).await;
        let error = socket.expect("error").await;
        assert_eq!(error["problem"]["status"], 400, "{query}: {error}");
    }
    // Who has a window sorts it.
    let mut socket = Socket::v1(&app).await;
    socket
        .subscribe("messages?order=at&limit=5&select=text", None)
        .await;
    let error = socket.expect("error").await;
    assert!(error.to_string().contains("must be selected"), "{error}");
    // One record has no order.
    let id = create(&app, json!({})).await;
    for query in ["order=at", "limit=1"] {
        let path = format!("/api/messages/{id}/?{query}");
        let reply = app.request("GET", &path).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{query}");
    }
}

async fn pages_of_an_order_follow_each_other(app: App) {
    let mut random = random::generator();
    for _ in 0..60 {
        let at = [json!(null), json!(1), json!(2), json!(3)][random.usize(..4)].clone();
        let title = ["", "a", "B", "é"][random.usize(..4)];
        let room = random.i64(0..2);
        create(&app, json!({"at": at, "title": title, "room": room})).await;
    }
    let all = app.get("/api/messages/").await;
    let all = all.as_array().unwrap();
    for order in [
        "at",
        "at.desc",
        "at.nullsfirst,title.desc",
        "at.desc.nullslast,id.desc",
        "title,at.desc",
        "room.desc,at",
    ] {
        let mut path = format!("/api/messages/?order={order}&limit=7");
        let mut listed = Vec::new();
        loop {
            let reply = app.request("GET", &path).send().await.unwrap();
            assert_eq!(reply.status(), 200, "{path}");
            let link = reply.headers().get("link").cloned();
            listed.extend(reply.json::<Vec<Value>>().await.unwrap());
            let Some(link) = link else { break };
            let link = link.to_str().unwrap();
            path = link[1..link.find('>').unwrap()].to_owned();
        }
        let mut expected = all.clone();
        expected.sort_by(|one, other| compare(order, one, other));
        assert_eq!(listed, expected, "{order}");
    }
    // A place is of one order alone, and of no other query.
    let reply = app.request("GET", "/api/messages/?order=at&limit=7").send();
    let link = reply.await.unwrap().headers()["link"].clone();
    let link = link.to_str().unwrap();
    let after = link.split("after=").nth(1).unwrap();
    let after = after.split(['&', '>']).next().unwrap();
    for query in ["order=at.desc", "order=at&room=eq.1", "order=title", ""] {
        let path = format!("/api/messages/?{query}&after={after}");
        let reply = app.request("GET", &path).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{query}");
    }
    let reply = app.request("GET", "/api/messages/?order=at&after=5").send();
    assert_eq!(reply.await.unwrap().status(), 400);
}

async fn an_order_without_a_limit_is_left_to_who_has_all(app: App) {
    // Several pieces of a snapshot.
    for room in 0..3 {
        let create =
            |at: i64| fieldsync::Edit::create("messages", json!({"room": room, "at": 500 - at}));
        let edits = (0..200).map(create).collect();
        app.engine.transaction(edits).await.unwrap();
    }
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("messages?room=neq.1&order=at", None).await;
    let mut received = Vec::new();
    loop {
        let piece = socket.expect("snapshot").await;
        received.extend(ids(&piece["records"]));
        if piece["cursor"].is_string() {
            break;
        }
    }
    let expected: Vec<i64> = (1..=600).filter(|id| !(201..=400).contains(id)).collect();
    assert_eq!(received, expected);
    let id = create(&app, json!({"room": 0, "at": 0})).await;
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["id"]),
        (&json!("create"), &json!(id))
    );
}

/// Compares two records by an order as the URL has it, and then by their ids.
pub(crate) fn compare(order: &str, one: &Value, other: &Value) -> Ordering {
    for term in order.split(',') {
        let mut words = term.split('.');
        let field = words.next().unwrap();
        let words: Vec<_> = words.collect();
        let descends = words.contains(&"desc");
        let nulls_first =
            words.contains(&"nullsfirst") || descends && !words.contains(&"nullslast");
        let (one, other) = (&one[field], &other[field]);
        let nulls = one.is_null().cmp(&other.is_null());
        let nulls = if nulls_first { nulls.reverse() } else { nulls };
        let values = match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => one.as_str().cmp(&other.as_str()),
        };
        let values = if descends { values.reverse() } else { values };
        let is_null = one.is_null() || other.is_null();
        let order = if is_null { nulls } else { values };
        if order != Ordering::Equal {
            return order;
        }
    }
    one["id"].as_i64().cmp(&other["id"].as_i64())
}
