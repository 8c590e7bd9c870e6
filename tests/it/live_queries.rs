//! Topics with a query: the records that match, as they enter and leave.

use std::collections::BTreeMap;

use fieldsync::{Access, Collection, Denied, Edit, EngineBuilder, Filter, Grant, View};
use serde_json::{Value, json};

use crate::app::{App, Rule, on_every_store};
use crate::events::Events;
use crate::random;
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_every_store!(with tasks:
    records_enter_and_leave_a_query,
    only_the_selected_fields_and_their_changes_are_sent,
    x_queries_on_one_socket_converge_and_resume,
    x_a_query_over_server_sent_events_resumes,
    one_live_is_for_all_topics_of_a_collection,
    a_write_outside_of_a_query_is_synced,
    a_bad_query_is_refused_everywhere_and_names_its_parameter,
    a_hidden_field_is_refused_like_an_unknown_one,
    a_filter_of_a_grant_hides_records_of_others,
    a_page_is_filled_with_visible_records,
    a_cursor_of_another_query_is_a_reset,
    x_the_end_of_a_record_is_told_though_the_log_lacks_what_decides,
    a_link_repeats_the_query_whatever_its_depth,
    all_matches_are_counted_if_that_is_preferred,
    a_selected_record_has_a_weak_tag,
);

/// Who may read what of `notes`: `ada` and `bob` their own, without the field `secret`.
fn own(user: &str, access: Access) -> Result<Grant, Denied> {
    let own = Grant::full().with_rows(Filter::eq("owner", user));
    match (user, access) {
        ("", _) => Err(Denied::Unauthenticated),
        ("staff", _) => Ok(Grant::full()),
        (_, Access::Read) => Ok(own.with_view(View::only(["owner", "text", "number"]))),
        _ => Ok(own),
    }
}

fn tasks() -> EngineBuilder {
    let tasks = json!({"type": "object", "properties": {
        "project_id": {"type": ["integer", "null"]},
        "status": {"type": "string", "enum": ["open", "late", "done"]},
        "title": {"type": ["string", "null"]},
    }});
    let notes = json!({"type": "object", "properties": {
        "owner": {"type": "string"},
        "text": {"type": "string"},
        "number": {"type": "integer"},
        "secret": {"type": "integer"},
    }});
    crate::app::builder()
        .collection(Collection::from_schema("tasks", &tasks).open_to_everyone())
        .collection(Collection::from_schema("notes", &notes).authorize(Rule(own)))
}

async fn task(app: &App, project_id: i64, status: &str) -> i64 {
    let task = json!({"project_id": project_id, "status": status, "title": "t"});
    let (status, body) = app.send("POST", "/api/tasks/", &task).await;
    assert_eq!(status, 201, "{body}");
    body["id"].as_i64().unwrap()
}

async fn patch(app: &App, id: i64, patch: Value) {
    let path = format!("/api/tasks/{id}/");
    let (status, body) = app.send("PATCH", &path, &patch).await;
    assert_eq!(status, 200, "{body}");
}

async fn subscribe(socket: &mut Socket, sub: &str, topic: &str) {
    let message = json!({"type": "subscribe", "sub": sub, "topic": topic});
    socket.send(&message).await;
}

async fn records_enter_and_leave_a_query(app: App) {
    let other = task(&app, 6, "open").await;
    let mut socket = Socket::v1(&app).await;
    subscribe(
        &mut socket,
        "mine",
        "tasks?project_id=eq.5&status=in.(open,late)",
    )
    .await;
    assert_eq!(socket.expect("subscribed").await["sub"], "mine");
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(
        (&snapshot["sub"], &snapshot["records"]),
        (&json!("mine"), &json!([]))
    );
    assert_eq!(socket.expect("live").await["collection"], "tasks");

    let id = task(&app, 5, "open").await;
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["id"]),
        (&json!("create"), &json!(id))
    );
    // Nothing of this is sent.
    patch(&app, other, json!({"title": "secret"})).await;
    patch(&app, other, json!({"status": "late"})).await;

    patch(&app, other, json!({"project_id": 5})).await;
    let change = socket.expect("change").await;
    let whole = json!({"project_id": 5, "status": "late", "title": "secret"});
    assert_eq!(
        (&change["action"], &change["fields"]),
        (&json!("enter"), &whole)
    );

    patch(&app, id, json!({"title": "new"})).await;
    let change = socket.expect("change").await;
    let fields = json!({"title": "new"});
    assert_eq!(
        (&change["action"], &change["fields"]),
        (&json!("update"), &fields)
    );

    patch(&app, id, json!({"status": "done", "title": "secret"})).await;
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["id"]),
        (&json!("leave"), &json!(id))
    );
    assert!(!change.to_string().contains("secret"), "{change}");

    // It is outside already.
    app.request("DELETE", &format!("/api/tasks/{id}/"))
        .send()
        .await
        .unwrap();
    app.request("DELETE", &format!("/api/tasks/{other}/"))
        .send()
        .await
        .unwrap();
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["id"]),
        (&json!("delete"), &json!(other))
    );

    // A refresh tells nothing of before: the whole record, or its end.
    let id = task(&app, 5, "open").await;
    socket.expect("change").await;
    app.engine.refresh(("tasks", id)).await.unwrap();
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["fields"]["title"]),
        (&json!("enter"), &json!("t"))
    );
}

async fn only_the_selected_fields_and_their_changes_are_sent(app: App) {
    let id = task(&app, 5, "open").await;
    let mut socket = Socket::v1(&app).await;
    subscribe(&mut socket, "titles", "tasks?select=title").await;
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(snapshot["records"], json!([{"id": id, "title": "t"}]));
    patch(&app, id, json!({"status": "late"})).await;
    patch(&app, id, json!({"status": "done", "title": "new"})).await;
    let change = socket.expect("change").await;
    assert_eq!(change["fields"], json!({"title": "new"}));
    let list = app.get("/api/tasks/?select=title,id&status=eq.done").await;
    assert_eq!(list, json!([{"id": id, "title": "new"}]));
}

const QUERIES: [&str; 6] = [
    "project_id=eq.1",
    "project_id=in.(1,2)&status=eq.open",
    "or=(project_id.is.null,status.neq.done)",
    "not.and=(project_id.eq.1,status.eq.open)",
    "title=eq.a&select=title",
    "id=gt.3",
];

/// Edits a random task, also in ways that no edit through the engine announces by itself.
async fn edit(app: &App, random: &mut fastrand::Rng) {
    let id = random.i64(1..=12);
    let status = ["open", "late", "done"][random.usize(..3)];
    let project = [json!(1), json!(2), json!(3), json!(null)][random.usize(..4)].clone();
    let fields = match random.u8(..4) {
        0 => json!({"project_id": project}),
        1 => json!({"status": status}),
        2 => json!({"title": if random.bool() { "a" } else { "b" }}),
        _ => json!({"project_id": project, "status": status}),
    };
    let edits = match random.u8(..10) {
        0 => vec![Edit::delete(("tasks", id))],
        1 | 2 => vec![Edit::create(
            "tasks",
            json!({"project_id": project, "status": status}),
        )],
        3 => vec![Edit::refresh(("tasks", id))],
        4 => vec![
            Edit::patch(("tasks", id), fields.clone()),
            Edit::patch(("tasks", id), json!({"title": "a"})),
        ],
        _ => vec![Edit::patch(("tasks", id), fields)],
    };
    // Many find no record.
    let _ = app.engine.transaction(edits).await;
}

/// A socket on which each mirror goes on where it was.
async fn subscribed(app: &App, mirrors: &mut BTreeMap<String, Mirror>) -> Socket {
    let mut socket = Socket::v1(app).await;
    for (query, mirror) in mirrors {
        let topic = format!("tasks?{query}");
        let sent = mirror.go_on_as(&mut socket, query, &topic).await;
        sent.unwrap();
    }
    socket
}

/// Waits until each mirror shows what a list with its query has.
async fn converge(app: &App, socket: &mut Socket, mirrors: &mut BTreeMap<String, Mirror>) {
    for query in QUERIES {
        let all = app.get(&format!("/api/tasks/?{query}")).await;
        let converged = async {
            while mirrors[query].list() != all {
                apply(mirrors, &socket.next().await.unwrap());
            }
        };
        within_limit(query, converged).await;
    }
}

fn apply(mirrors: &mut BTreeMap<String, Mirror>, message: &Value) {
    match message["sub"].as_str() {
        Some(sub) => drop(mirrors.get_mut(sub).unwrap().apply(message)),
        None => {
            assert_eq!(message["type"], "live");
            for mirror in mirrors.values_mut().filter(|mirror| mirror.is_subscribed) {
                mirror.apply(message);
            }
        }
    }
}

async fn x_queries_on_one_socket_converge_and_resume(app: App) {
    let mut random = random::generator();
    for _ in 0..20 {
        edit(&app, &mut random).await;
    }
    let mut mirrors: BTreeMap<String, Mirror> = QUERIES
        .iter()
        .map(|query| ((*query).to_owned(), Mirror::default()))
        .collect();
    for _ in 0..12 {
        let mut socket = subscribed(&app, &mut mirrors).await;
        for _ in 0..random.u8(..12) {
            edit(&app, &mut random).await;
        }
        if random.bool() {
            converge(&app, &mut socket, &mut mirrors).await;
        } else {
            for _ in 0..random.u8(..20) {
                let message = socket.next().await.unwrap();
                apply(&mut mirrors, &message);
                if message["type"] == "live" {
                    break;
                }
            }
        }
        drop(socket);
        for _ in 0..random.u8(..6) {
            edit(&app, &mut random).await;
        }
    }
    let mut socket = subscribed(&app, &mut mirrors).await;
    converge(&app, &mut socket, &mut mirrors).await;
    assert!(
        mirrors.values().all(|mirror| mirror.resets.is_empty()),
        "{mirrors:?}"
    );
}

async fn x_a_query_over_server_sent_events_resumes(app: App) {
    let (query, mut random) = ("project_id=eq.1&status=neq.done", random::generator());
    let path = format!("/api/tasks/?{query}");
    let (mut mirror, mut last_id) = (Mirror::default(), None);
    for _ in 0..8 {
        for _ in 0..random.u8(1..12) {
            edit(&app, &mut random).await;
        }
        let mut events = Events::open(&app, &path, last_id.as_deref()).await;
        let all = app.get(&path).await;
        while mirror.list() != all {
            let event = events.next().await.unwrap();
            mirror.apply(&event.data);
            last_id = event.id.or(last_id);
        }
    }
    assert!(mirror.resets.is_empty());
}

async fn one_live_is_for_all_topics_of_a_collection(app: App) {
    for project in 0..10 {
        task(&app, project, "open").await;
    }
    let mut socket = Socket::v1(&app).await;
    for project in 0..10 {
        subscribe(
            &mut socket,
            &project.to_string(),
            &format!("tasks?project_id=eq.{project}"),
        )
        .await;
    }
    let (mut snapshots, mut cursor) = (0, Value::Null);
    while snapshots < 10 || cursor.is_null() {
        let message = socket.next().await.unwrap();
        snapshots += usize::from(message["type"] == "snapshot");
        cursor = if message["type"] == "live" {
            message["cursor"].clone()
        } else {
            Value::Null
        };
    }
    drop(socket);
    // Each goes on from it, whatever its query.
    let mut socket = Socket::v1(&app).await;
    for project in 0..10 {
        let topic = format!("tasks?project_id=eq.{project}");
        let message = json!({"type": "subscribe", "sub": project.to_string(), "topic": topic, "since": cursor});
        socket.send(&message).await;
    }
    let id = task(&app, 7, "late").await;
    let mut messages = Vec::new();
    while messages
        .last()
        .is_none_or(|message: &Value| !message["type"].as_str().unwrap().starts_with("change"))
    {
        messages.push(socket.next().await.unwrap());
    }
    let change = messages.last().unwrap();
    assert_eq!(change["sub"], "7");
    assert!(
        change.to_string().contains(&format!("\"id\":{id}")),
        "{change}"
    );
    assert!(
        messages
            .iter()
            .all(|message| message["type"] != "snapshot" && message["type"] != "reset")
    );
}

/// Creates a record, and asks to be told when it has reached the socket. Returns the cursor after it.
async fn create_and_sync(app: &App, socket: &mut Socket, path: &str, record: Value) -> String {
    let reply = app.request("POST", path).json(&record).send().await;
    let reply = reply.unwrap();
    let cursor = reply.headers()["fieldsync-cursor"].to_str().unwrap();
    socket
        .send(&json!({"type": "sync", "cursor": cursor}))
        .await;
    cursor.to_owned()
}

async fn a_write_outside_of_a_query_is_synced(app: App) {
    let mut socket = Socket::v1(&app).await;
    subscribe(&mut socket, "one", "tasks?project_id=eq.1").await;
    socket.expect("snapshot").await;
    for project in [2, 1, 3] {
        let task = json!({"project_id": project, "status": "open"});
        let cursor = create_and_sync(&app, &mut socket, "/api/tasks/", task).await;
        if project == 1 {
            socket.expect("change").await;
        }
        assert_eq!(socket.expect("synced").await["cursor"], cursor);
    }
    socket
        .send(&json!({"type": "sync", "cursor": "nonsense"}))
        .await;
    assert_eq!(socket.expect("error").await["problem"]["status"], 400);
    // One of a collection that the socket has no topic of.
    let user = json!({"first_name": "x", "last_name": "y"});
    let cursor = create_and_sync(&app, &mut socket, "/api/users/", user).await;
    assert_eq!(socket.expect("synced").await["cursor"], cursor);
}

async fn a_bad_query_is_refused_everywhere_and_names_its_parameter(app: App) {
    let long = format!("title=eq.{}", "x".repeat(5000));
    let many = format!("title=in.({})", vec!["x"; 101].join(","));
    let conditions = format!("and=({})", vec!["id.eq.1"; 33].join(","));
    for (query, name) in [
        ("nothing=eq.1", "nothing"),
        ("project_id=5", "project_id"),
        ("project_id=eq.x", "project_id"),
        ("project_id=like.5", "project_id"),
        ("project_id=eq.null", "project_id"),
        ("project_id=is.unknown", "project_id"),
        ("status=eq.closed", "status"),
        ("status=gt.open", "status"),
        ("title=lt.x", "title"),
        ("title=in.(x", "title"),
        ("title=in.(\"x)", "title"),
        ("or=(title.eq.x", "or"),
        ("or=()", "or"),
        ("or=(nothing.eq.x)", "nothing"),
        ("and=(or(and(or(and(id.eq.1)))))", "and"),
        ("select=nothing", "nothing"),
        ("select=", "select"),
        ("select=title&select=title", "select"),
        ("order=title", "order"),
        ("offset=1", "offset"),
        ("columns=title", "columns"),
        ("title=eq.%FF", "title"),
        (&*long, ""),
        (&*many, "title"),
        (&*conditions, "and"),
    ] {
        let (status, problem) = app
            .send("GET", &format!("/api/tasks/?{query}"), &Value::Null)
            .await;
        assert_eq!(
            (status, &problem["type"]),
            (400, &json!("urn:fieldsync:bad-query")),
            "{query}"
        );
        assert!(problem["errors"].get(name).is_some(), "{query}: {problem}");
        let events = app.request("GET", &format!("/api/tasks/?{query}"));
        let events = events
            .header("accept", "text/event-stream")
            .send()
            .await
            .unwrap();
        assert_eq!(events.status(), 400, "{query}");
        let events: Value = serde_json::from_str(&events.text().await.unwrap()).unwrap();
        assert_eq!(events["errors"], problem["errors"]);
        let mut socket = Socket::v1(&app).await;
        subscribe(&mut socket, "bad", &format!("tasks?{query}")).await;
        let error = socket.expect("error").await;
        assert_eq!(
            (&error["sub"], &error["problem"]["errors"]),
            (&json!("bad"), &problem["errors"])
        );
    }
}

async fn a_hidden_field_is_refused_like_an_unknown_one(app: App) {
    let ask = async |query: &str| {
        let request = app.request("GET", &format!("/api/notes/?{query}"));
        let reply = request.header("x-user", "ada").send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    for query in [
        "FIELD=eq.1",
        "FIELD=is.null",
        "or=(number.eq.1,FIELD.gt.0)",
        "select=FIELD",
    ] {
        let (hidden, unknown) = (
            query.replace("FIELD", "secret"),
            query.replace("FIELD", "nosuch"),
        );
        let (status, text) = ask(&hidden).await;
        assert_eq!(
            (status, text.replace("secret", "nosuch")),
            ask(&unknown).await
        );
        assert_eq!(status, 400);
    }
    // The whole grant is what an outsider learns of a hidden collection.
    let mut socket = Socket::v1(&app).await;
    subscribe(&mut socket, "s", "notes?secret=eq.1").await;
    assert_eq!(socket.expect("error").await["problem"]["status"], 401);
}

async fn note(app: &App, owner: &str, number: i64) -> i64 {
    let note =
        json!({"owner": owner, "text": format!("of {owner}"), "number": number, "secret": 7});
    let created = app
        .engine
        .transaction(vec![Edit::create("notes", note)])
        .await
        .unwrap();
    created[0].id().to_string().parse().unwrap()
}

async fn a_filter_of_a_grant_hides_records_of_others(app: App) {
    let (mine, others) = (note(&app, "ada", 1).await, note(&app, "bob", 1).await);
    let mut socket = Socket::v1_as(&app, "ada").await;
    socket.subscribe("notes", None).await;
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(snapshot["records"].as_array().unwrap().len(), 1);
    subscribe(&mut socket, "ones", "notes?number=eq.1").await;
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(snapshot["records"].as_array().unwrap().len(), 1);

    let edit = async |id: i64, fields: Value| {
        let edit = Edit::patch(("notes", id), fields);
        app.engine.transaction(vec![edit]).await.unwrap();
    };
    // Both topics tell the same of what the grant gains and loses; only the query tells of what leaves it.
    edit(others, json!({"text": "new"})).await;
    edit(others, json!({"owner": "ada"})).await;
    for _ in 0..2 {
        let change = socket.expect("change").await;
        assert_eq!(
            (&change["action"], &change["id"]),
            (&json!("create"), &json!(others))
        );
        assert!(change["fields"].get("secret").is_none());
    }
    edit(others, json!({"number": 2})).await;
    let mut actions: Vec<_> = Vec::new();
    for _ in 0..2 {
        let change = socket.expect("change").await;
        actions.push((change["sub"].to_string(), change["action"].to_string()));
    }
    actions.sort();
    let expected = [("\"notes\"", "\"update\""), ("\"ones\"", "\"leave\"")];
    assert_eq!(
        actions,
        expected.map(|(sub, action)| (sub.to_owned(), action.to_owned()))
    );
    edit(mine, json!({"owner": "bob"})).await;
    for _ in 0..2 {
        let change = socket.expect("change").await;
        assert_eq!(
            (&change["action"], &change["id"]),
            (&json!("delete"), &json!(mine))
        );
        assert!(change.get("fields").is_none());
    }
    // An edit must leave its record among those of the grant.
    let request = app.request("PATCH", &format!("/api/notes/{others}/"));
    let reply = request
        .header("x-user", "ada")
        .json(&json!({"owner": "bob"}))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 403);
    // A refresh of a hidden record shows no id.
    app.engine.refresh(("notes", mine)).await.unwrap();
    let message = socket.next().await.unwrap();
    assert_eq!(
        (&message["type"], &message["reason"]),
        (&json!("reset"), &json!("view"))
    );
    assert!(
        !message.to_string().contains(&format!(":{mine}")),
        "{message}"
    );
}

async fn a_page_is_filled_with_visible_records(app: App) {
    for number in 0..30 {
        let owner = if number % 10 == 0 { "ada" } else { "bob" };
        note(&app, owner, number).await;
    }
    let request = app.request("GET", "/api/notes/?limit=2");
    let reply = request.header("x-user", "ada").send().await.unwrap();
    let next = reply.headers()["link"].to_str().unwrap().to_owned();
    let page: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    let numbers = |page: &Value| -> Vec<i64> {
        page.as_array()
            .unwrap()
            .iter()
            .map(|note| note["number"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(numbers(&page), [0, 10]);
    assert!(next.starts_with("</api/notes/?after=11&limit=2>"), "{next}");
    let reply = app.request("GET", "/api/notes/?after=11&limit=2&number=gt.10");
    let reply = reply.header("x-user", "ada").send().await.unwrap();
    assert!(reply.headers().get("link").is_none());
    let page: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!(numbers(&page), [20]);
}

async fn a_cursor_of_another_query_is_a_reset(app: App) {
    task(&app, 1, "open").await;
    let mut socket = Socket::v1(&app).await;
    subscribe(&mut socket, "one", "tasks?project_id=eq.1").await;
    let cursor = socket.expect("snapshot").await["cursor"].clone();
    let since = |sub: &str, topic: &str| json!({"type": "subscribe", "sub": sub, "topic": topic, "since": cursor});
    // The same, in other words.
    socket
        .send(&since("same", "tasks?and=(project_id.eq.1.0)"))
        .await;
    task(&app, 1, "late").await;
    let mut subs = Vec::new();
    while subs.len() < 2 {
        let message = socket.expect_any(&["change", "changes", "reset"]).await;
        assert_ne!(message["type"], "reset");
        subs.push(message["sub"].to_string());
    }
    subs.sort();
    assert_eq!(subs, ["\"one\"", "\"same\""]);
    socket.send(&since("other", "tasks?project_id=eq.2")).await;
    let reset = socket.expect("reset").await;
    assert_eq!(
        (&reset["sub"], &reset["reason"]),
        (&json!("other"), &json!("view"))
    );
}

async fn all_matches_are_counted_if_that_is_preferred(app: App) {
    for number in 0..12 {
        note(&app, if number % 2 == 0 { "ada" } else { "bob" }, number).await;
    }
    for (query, expected) in [
        ("limit=2", Some("0-1/6")),
        ("limit=2&after=3", Some("*/6")),
        ("number=gt.100", Some("*/0")),
        ("number=lte.4", Some("0-2/3")),
    ] {
        let request = app.request("GET", &format!("/api/notes/?{query}"));
        let request = request
            .header("x-user", "ada")
            .header("prefer", "x, count=exact");
        let reply = request.send().await.unwrap();
        let header = |name: &str| {
            reply
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        assert_eq!(header("content-range"), expected, "{query}");
        assert_eq!(header("preference-applied"), Some("count=exact"));
    }
    let reply = app.request("GET", "/api/tasks/").send().await.unwrap();
    assert!(reply.headers().get("content-range").is_none());
}

async fn a_selected_record_has_a_weak_tag(app: App) {
    let id = task(&app, 5, "open").await;
    let path = format!("/api/tasks/{id}/?select=title");
    let reply = app.request("GET", &path).send().await.unwrap();
    let tag = reply.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let body: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!(body, json!({"id": id, "title": "t"}));
    let again = app.request("GET", &path).header("if-none-match", &tag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    let again = app.request("GET", &path).header("if-match", &tag);
    assert_eq!(again.send().await.unwrap().status(), 412);
    for (query, status) in [
        ("status=eq.open", 200),
        ("status=eq.done", 404),
        ("nothing=eq.1", 400),
    ] {
        let (answer, _) = app
            .send("GET", &format!("/api/tasks/{id}/?{query}"), &Value::Null)
            .await;
        assert_eq!(answer, status, "{query}");
    }
}

async fn x_the_end_of_a_record_is_told_though_the_log_lacks_what_decides(app: App) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = task(&app, 5, "open").await;
        // Too large for the log of a change that leaves it as it is.
        patch(&app, id, json!({"title": "x".repeat(3000)})).await;
        ids.push(id);
    }
    let topic = "tasks?status=eq.open&title=not.is.null";
    let mut window = Mirror::default();
    let mut socket = Socket::v1(&app).await;
    window.go_on(&mut socket, topic).await.unwrap();
    window.catch_up(&mut socket).await;
    assert_eq!(window.records.len(), 3);
    drop(socket);
    for id in &ids {
        patch(&app, *id, json!({"status": "done"})).await;
    }
    app.request("DELETE", &format!("/api/tasks/{}/", ids[0]))
        .send()
        .await
        .unwrap();
    patch(&app, ids[1], json!({"title": null})).await;
    let mut socket = Socket::v1(&app).await;
    window.go_on(&mut socket, topic).await.unwrap();
    window.catch_up(&mut socket).await;
    assert_eq!(window.records.len(), 0, "{window:?}");
    assert!(window.resets.is_empty());
}

async fn a_link_repeats_the_query_whatever_its_depth(app: App) {
    for _ in 0..3 {
        task(&app, 5, "open").await;
    }
    let query = "or=(id.eq.0,and(id.gt.0,or(id.lt.0,and(id.gt.0,status.eq.open))))";
    let mut path = format!("/api/tasks/?limit=1&{query}");
    for number in 1..=3 {
        let reply = app.request("GET", &path).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        let link = reply.headers().get("link");
        let link = link.map(|link| link.to_str().unwrap().to_owned());
        let page: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        assert_eq!(page[0]["id"], number);
        match link {
            Some(link) => path = link[1..].split_once('>').unwrap().0.to_owned(),
            None => assert_eq!(number, 3),
        }
    }
}
