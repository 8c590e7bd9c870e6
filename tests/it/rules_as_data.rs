//! Rules as data: each example of the guide, as clients see it.

use std::convert::Infallible;

use bytes::Bytes;
use fieldsync::adapter::handle;
use fieldsync::{
    Collection, Edit, Engine, EngineBuilder, Fields, Filter, MemoryStore, Principal, RecordId,
    Rule, Rules, Stored, Topic, everyone, exists, on, owner, principal, principal_name, role,
    signed_in,
};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};

use crate::app::{App, Role, on_every_store};
use crate::events::Events;
use crate::socket::{Mirror, Socket};

on_every_store!(with ruled:
    a_what_no_rule_names_is_denied,
    a_everyone_reads_and_the_author_writes,
    a_records_belong_to_their_owners,
    a_members_of_a_project_read_its_tasks_and_editors_write_them,
    a_a_write_of_a_member_that_is_removed_meanwhile_is_refused,
    a_roles_decide_who_writes,
    a_a_field_is_hidden_from_all_but_a_role,
    a_a_rule_with_too_many_memberships_is_not_evaluated,
    an_engine_explains_what_decides,
);

fn has_role(name: &'static str) -> Rule {
    role(name, move |Role(role): &Role| role == name)
}

fn member() -> Rule {
    exists("members", on("project_id"), principal("user_id"))
}

fn editor() -> Rule {
    let editor = principal("user_id").and(Filter::eq("role", "editor"));
    exists("members", on("project_id"), editor)
}

/// The examples of the guide.
fn ruled() -> EngineBuilder {
    let text = |default: &str| json!({"type": "string", "maxLength": 20, "default": default});
    let number = || json!({"type": "integer", "default": 0});
    let collection = |name: &str, fields: Value| {
        Collection::from_schema(name, &json!({"type": "object", "properties": fields}))
    };
    let posts = collection("posts", json!({"author": text(""), "text": text("")})).rules(
        Rules::new()
            .read(everyone())
            .write(owner("author").set("author", principal_name())),
    );
    let notes = collection("notes", json!({"owner": text(""), "text": text("")}))
        .rules(Rules::new().read_and_write(owner("owner").set("owner", principal_name())));
    let members = json!({"user_id": text(""), "project_id": number(), "role": text("viewer")});
    let members = collection("members", members).rules(Rules::new().read(member()));
    let tasks = collection("tasks", json!({"project_id": number(), "title": text("")}))
        .rules(Rules::new().read(member()).write(editor()));
    let prices = collection("prices", json!({"price": number()}))
        .rules(Rules::new().read(everyone()).write(has_role("staff")));
    let people = json!({"name": text(""), "phone": text(""), "salary": number()});
    let people = collection("people", people).rules(
        Rules::new()
            .read_and_write(has_role("hr"))
            .read(signed_in().hide(["salary"]))
            .update(owner("name").writable(["phone"])),
    );
    let sealed = collection("sealed", json!({"text": text("")})).rules(Rules::new());
    [posts, notes, members, tasks, prices, people, sealed]
        .into_iter()
        .fold(Engine::builder(), EngineBuilder::collection)
}

/// A user of the tests: nobody, a name, or a name and a role as in `cleo/hr`.
type User = &'static str;

fn headers_of(user: User) -> Vec<(&'static str, String)> {
    let (name, role) = user.split_once('/').unwrap_or((user, ""));
    let headers = [("x-user", name), ("x-role", role)];
    let given = headers.into_iter().filter(|(_, value)| !value.is_empty());
    given
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}

/// Sends a request. With a header `if-match` that no record has, if it is stale.
async fn request(
    app: &App,
    user: User,
    request: &str,
    body: &Value,
    is_stale: bool,
) -> (u16, Value) {
    let (method, path) = request.split_once(' ').unwrap();
    let mut request = app.request(method, &format!("/api/{path}"));
    for (name, value) in headers_of(user) {
        request = request.header(name, value);
    }
    if is_stale {
        request = request.header("if-match", "\"stale\"");
    }
    if matches!(method, "POST" | "PATCH") {
        request = request.json(body);
    }
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    let body = reply.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn ask(app: &App, user: User, line: &str, body: Value) -> (u16, Value) {
    request(app, user, line, &body, false).await
}

/// A write, whether its precondition is stale, and the status of the reply.
type Case<'a> = (User, &'a str, Value, bool, u16);

async fn check(app: &App, cases: Vec<Case<'_>>) {
    for (user, line, body, is_stale, expected) in cases {
        let (status, reply) = request(app, user, line, &body, is_stale).await;
        assert_eq!(status, expected, "{user} {line} {body} {is_stale}: {reply}");
    }
}

/// The ids of a list.
async fn ids(app: &App, user: User, path: &str) -> Vec<i64> {
    let (status, list) = ask(app, user, &format!("GET {path}"), json!({})).await;
    assert_eq!(status, 200, "{user} {path}: {list}");
    let ids = list.as_array().unwrap().iter();
    ids.map(|record| record["id"].as_i64().unwrap()).collect()
}

async fn add(app: &App, collection: &str, record: Value) -> i64 {
    let fields: Fields = serde_json::from_value(record).unwrap();
    let handle = app.engine.collection(collection);
    let created: Stored<Fields> = handle.create(fields).await.unwrap();
    created.id.to_string().parse().unwrap()
}

async fn add_member(app: &App, user: &str, project: i64, role: &str) -> i64 {
    let member = json!({"user_id": user, "project_id": project, "role": role});
    add(app, "members", member).await
}

async fn remove(engine: &Engine, collection: &str, id: i64) {
    let edit = Edit::delete((collection, id));
    engine.transaction(vec![edit]).await.unwrap();
}

/// A socket of the user, and what it shows of the topic, once that is live.
async fn subscribed(app: &App, user: User, topic: &str) -> (Socket, Mirror) {
    let mut socket = Socket::open_with(app, Some("fieldsync.v1"), &headers_of(user)).await;
    let mut mirror = Mirror::default();
    socket.subscribe(topic, None).await;
    mirror.catch_up(&mut socket).await;
    (socket, mirror)
}

/// The status with which a subscription is refused.
async fn refused(app: &App, user: User, topic: &str) -> Value {
    let mut socket = Socket::open_with(app, Some("fieldsync.v1"), &headers_of(user)).await;
    socket.subscribe(topic, None).await;
    socket.expect("error").await["problem"]["status"].clone()
}

async fn a_what_no_rule_names_is_denied(app: App) {
    let id = add(&app, "sealed", json!({"text": "secret"})).await;
    let one = format!("sealed/{id}/");
    for user in ["", "ada", "ada/staff"] {
        for line in [
            "GET sealed/",
            &format!("GET {one}"),
            "POST sealed/",
            &format!("PATCH {one}"),
            &format!("DELETE {one}"),
        ] {
            let (status, reply) = ask(&app, user, line, json!({"text": "x"})).await;
            assert_eq!(status, 403, "{user} {line}");
            assert!(!reply.to_string().contains("secret"));
        }
        assert_eq!(refused(&app, user, "sealed").await, 403);
    }
    // A rule to read allows nothing else.
    check(
        &app,
        vec![
            (
                "ada",
                "POST members/",
                json!({"user_id": "ada"}),
                false,
                403,
            ),
            ("", "POST members/", json!({"user_id": "ada"}), false, 403),
        ],
    )
    .await;
}

async fn a_everyone_reads_and_the_author_writes(app: App) {
    let (mut socket, _) = subscribed(&app, "", "posts").await;
    let (status, post) = ask(&app, "ada", "POST posts/", json!({"text": "a"})).await;
    assert_eq!((status, &post["author"]), (201, &json!("ada")));
    let created = socket.expect("change").await;
    assert_eq!(created["fields"], json!({"author": "ada", "text": "a"}));
    let (status, problem) = ask(&app, "ada", "POST posts/", json!({"author": "bob"})).await;
    assert_eq!(
        (status, problem["errors"]["author"].is_array()),
        (403, true)
    );

    let one = format!("posts/{}/", post["id"]);
    let (patch, delete) = (format!("PATCH {one}"), format!("DELETE {one}"));
    let (new, long) = (json!({"text": "b"}), json!({"text": "long".repeat(10)}));
    check(
        &app,
        vec![
            ("", &format!("GET {one}"), json!({}), false, 200),
            ("", "POST posts/", new.clone(), false, 401),
            ("", &patch, new.clone(), false, 401),
            ("", &delete, json!({}), false, 401),
            // First whether it may be written, then the precondition, then the values.
            ("bob", &patch, new.clone(), false, 403),
            ("bob", &patch, new.clone(), true, 403),
            ("bob", &patch, long.clone(), false, 403),
            ("bob", &delete, json!({}), true, 403),
            ("bob", "PATCH posts/999/", new.clone(), false, 404),
            ("ada", &patch, new.clone(), true, 412),
            ("ada", &patch, long.clone(), true, 412),
            ("ada", &patch, long, false, 422),
            ("ada", &patch, json!({"author": "bob"}), false, 403),
            ("ada", &patch, new, false, 200),
            ("ada", &delete, json!({}), false, 204),
        ],
    )
    .await;
    let changed = socket.expect("change").await;
    assert_eq!(changed["fields"], json!({"text": "b"}));
    assert_eq!(socket.expect("change").await["action"], "delete");
}

async fn a_records_belong_to_their_owners(app: App) {
    let (mut of_ada, _) = subscribed(&app, "ada", "notes").await;
    let (mut of_bob, _) = subscribed(&app, "bob", "notes").await;
    assert_eq!(refused(&app, "", "notes").await, 401);
    let (status, note) = ask(&app, "ada", "POST notes/", json!({"text": "a"})).await;
    assert_eq!((status, &note["owner"]), (201, &json!("ada")));
    let id = note["id"].as_i64().unwrap();
    assert_eq!(ids(&app, "ada", "notes/").await, [id]);
    assert!(ids(&app, "bob", "notes/").await.is_empty());

    let one = format!("notes/{id}/");
    let (get, patch, delete) = (
        format!("GET {one}"),
        format!("PATCH {one}"),
        format!("DELETE {one}"),
    );
    let long = json!({"text": "long".repeat(10)});
    check(
        &app,
        vec![
            ("", "GET notes/", json!({}), false, 401),
            ("bob", &get, json!({}), false, 404),
            ("bob", &patch, long.clone(), true, 404),
            ("bob", &delete, json!({}), true, 404),
            ("ada", &patch, long, false, 422),
            ("ada", &patch, json!({"owner": "bob"}), false, 403),
            ("ada", &patch, json!({"text": "b"}), false, 200),
        ],
    )
    .await;
    // The app may give it to another.
    let edit = Edit::patch(("notes", id), json!({"owner": "bob"}));
    app.engine.transaction(vec![edit]).await.unwrap();
    for action in ["create", "update", "delete"] {
        assert_eq!(of_ada.expect("change").await["action"], action);
    }
    let received = of_bob.expect("change").await;
    assert_eq!(received["action"], "create");
    assert_eq!(received["fields"], json!({"owner": "bob", "text": "b"}));
    check(
        &app,
        vec![
            ("ada", &get, json!({}), false, 404),
            ("bob", &get, json!({}), false, 200),
        ],
    )
    .await;
}

async fn a_members_of_a_project_read_its_tasks_and_editors_write_them(app: App) {
    let membership = add_member(&app, "ada", 5, "editor").await;
    add_member(&app, "ada", 7, "viewer").await;
    add_member(&app, "bob", 5, "viewer").await;
    let five = add(&app, "tasks", json!({"project_id": 5, "title": "five"})).await;
    let seven = add(&app, "tasks", json!({"project_id": 7, "title": "seven"})).await;
    assert_eq!(ids(&app, "ada", "tasks/").await, [five, seven]);
    assert_eq!(ids(&app, "bob", "tasks/").await, [five]);
    assert!(ids(&app, "bob", "tasks/?project_id=eq.7").await.is_empty());
    assert!(ids(&app, "cleo", "tasks/").await.is_empty());
    // Members see each other.
    assert_eq!(ids(&app, "bob", "members/").await.len(), 2);
    assert!(ids(&app, "cleo", "members/").await.is_empty());

    let (mut of_bob, shown) = subscribed(&app, "bob", "tasks").await;
    assert_eq!(shown.records.len(), 1);
    let request = app.request("GET", "/api/tasks/").header("x-user", "bob");
    let mut events = Events::of(request).await;
    let snapshot = events.expect("snapshot").await.data;
    assert_eq!(snapshot["records"], shown.list());
    let (_, of_project) = subscribed(&app, "ada", "tasks?project_id=eq.7").await;
    assert_eq!(of_project.records.len(), 1);
    let line = |method: &str, id: i64| format!("{method} tasks/{id}/");
    let new = json!({"title": "new"});
    check(
        &app,
        vec![
            ("", "GET tasks/", json!({}), false, 401),
            ("cleo", &line("GET", five), json!({}), false, 404),
            ("cleo", &line("PATCH", five), new.clone(), true, 404),
            ("bob", &line("PATCH", five), new.clone(), true, 403),
            ("bob", &line("PATCH", seven), new.clone(), false, 404),
            ("bob", "POST tasks/", json!({"project_id": 5}), false, 403),
            ("ada", &line("PATCH", seven), new.clone(), false, 403),
            ("ada", &line("DELETE", seven), json!({}), false, 403),
            (
                "ada",
                &line("PATCH", five),
                json!({"project_id": 7}),
                false,
                403,
            ),
            ("ada", &line("PATCH", five), new.clone(), true, 412),
            ("ada", &line("PATCH", five), new.clone(), false, 200),
            ("ada", "POST tasks/", json!({"project_id": 7}), false, 403),
            ("ada", "POST tasks/", json!({}), false, 403),
            ("ada", "POST tasks/", json!({"project_id": 5}), false, 201),
        ],
    )
    .await;
    assert_eq!(
        of_bob.expect("change").await["fields"],
        json!({"title": "new"})
    );
    assert_eq!(of_bob.expect("change").await["action"], "create");
    assert_eq!(events.expect("change").await.data["fields"], new);
    assert_eq!(events.expect("change").await.data["action"], "create");

    // The cursor of a write is one of the principal's subscriptions.
    let written = app.request("PATCH", &format!("/api/tasks/{five}/"));
    let written = written
        .header("x-user", "ada")
        .json(&json!({"title": "five"}));
    let written = written.send().await.unwrap();
    let cursor = written.headers()["fieldsync-cursor"].to_str().unwrap();
    let mut resumed = Socket::v1_as(&app, "ada").await;
    resumed.subscribe("tasks", Some(cursor)).await;
    resumed.expect("subscribed").await;
    assert_eq!(resumed.next().await.unwrap()["type"], "live");

    remove(&app.engine, "members", membership).await;
    assert_eq!(ids(&app, "ada", "tasks/").await, [seven]);
    // What is open follows.
    assert_eq!(resumed.expect("reset").await["reason"], "view");
    let shown = resumed.expect("snapshot").await;
    assert_eq!(shown["records"].as_array().unwrap().len(), 1);
    assert_eq!(shown["records"][0]["id"], seven);
    check(
        &app,
        vec![
            ("ada", &line("GET", five), json!({}), false, 404),
            ("ada", &line("PATCH", five), new.clone(), false, 404),
            ("ada", "POST tasks/", json!({"project_id": 5}), false, 403),
        ],
    )
    .await;
    let (_, shown) = subscribed(&app, "ada", "tasks").await;
    assert_eq!(shown.records.len(), 1);
    add_member(&app, "ada", 5, "editor").await;
    check(&app, vec![("ada", &line("PATCH", five), new, false, 200)]).await;
}

/// Sends a request whose body begins only after the membership was removed. The rule was asked before.
async fn send_slowly(app: &App, method: &str, path: &str, body: Value, membership: i64) -> u16 {
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let engine = app.engine.clone();
    let body = Box::pin(stream::once(async move {
        remove(&engine, "members", membership).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(body.to_string())))
    }));
    let ada = Principal::named("ada");
    let reply = handle(&app.engine, ada, parts, StreamBody::new(body)).await;
    reply.status().as_u16()
}

async fn a_a_write_of_a_member_that_is_removed_meanwhile_is_refused(app: App) {
    let task = add(&app, "tasks", json!({"project_id": 5, "title": "old"})).await;
    let patch = format!("/tasks/{task}/");
    let new = json!({"title": "new", "project_id": 5});
    for (method, path, still_reads, status) in [
        ("PATCH", &*patch, false, 404),
        ("PATCH", &*patch, true, 403),
        ("POST", "/tasks/", false, 403),
    ] {
        let membership = add_member(&app, "ada", 5, "editor").await;
        let other = match still_reads {
            true => Some(add_member(&app, "ada", 5, "viewer").await),
            false => None,
        };
        let sent = send_slowly(&app, method, path, new.clone(), membership).await;
        assert_eq!(sent, status, "{method} {still_reads}");
        if let Some(other) = other {
            remove(&app.engine, "members", other).await;
        }
    }
    let tasks = app.engine.collection::<Fields>("tasks");
    let tasks = tasks.list(None, 10).await.unwrap();
    assert_eq!((tasks.len(), &tasks[0].fields["title"]), (1, &json!("old")));
    // Another membership that goes does no harm.
    add_member(&app, "ada", 5, "editor").await;
    let other = add_member(&app, "ada", 7, "editor").await;
    assert_eq!(send_slowly(&app, "PATCH", &patch, new, other).await, 200);
}

async fn a_roles_decide_who_writes(app: App) {
    let id = add(&app, "prices", json!({"price": 1})).await;
    let patch = format!("PATCH prices/{id}/");
    let (mut socket, _) = subscribed(&app, "", "prices").await;
    let new = json!({"price": 2});
    check(
        &app,
        vec![
            ("", "GET prices/", json!({}), false, 200),
            ("", &patch, new.clone(), false, 401),
            ("ada", &patch, new.clone(), false, 403),
            ("ada/hr", &patch, new.clone(), false, 403),
            ("ada/staff", &patch, new.clone(), true, 412),
            ("ada/staff", &patch, json!({"price": "x"}), false, 422),
            ("ada/staff", &patch, new.clone(), false, 200),
            ("ada/staff", "POST prices/", new, false, 201),
            (
                "ada/staff",
                &format!("DELETE prices/{id}/"),
                json!({}),
                false,
                204,
            ),
        ],
    )
    .await;
    assert_eq!(socket.expect("change").await["fields"], json!({"price": 2}));
}

async fn a_a_field_is_hidden_from_all_but_a_role(app: App) {
    let secret = 987_654_321;
    let person = |name: &str| json!({"name": name, "phone": "0", "salary": secret});
    let ada = add(&app, "people", person("ada")).await;
    let bob = add(&app, "people", person("bob")).await;
    let (mut socket, shown) = subscribed(&app, "ada", "people").await;
    let mut received = vec![shown.list()];
    let of_ada = format!("PATCH people/{ada}/");
    for (line, body, status) in [
        ("GET people/", json!({}), 200),
        ("GET people/?salary=eq.987654321", json!({}), 400),
        ("GET people/?select=salary", json!({}), 400),
        (&*of_ada, json!({"phone": "1"}), 200),
        (&of_ada, json!({"name": "bob"}), 403),
        (&of_ada, json!({"salary": 1}), 422),
        (&format!("PATCH people/{bob}/"), json!({"phone": "1"}), 403),
        ("POST people/", person("ada"), 403),
    ] {
        let (answered, reply) = ask(&app, "ada", line, body).await;
        assert_eq!(answered, status, "{line}: {reply}");
        received.push(reply);
    }
    received.push(socket.expect("change").await);
    let of_bob = format!("people/{bob}/");
    let (_, seen) = ask(&app, "eve/hr", &format!("GET {of_bob}"), json!({})).await;
    assert_eq!(seen["salary"], secret);
    let salary = json!({"salary": secret + 1});
    let (status, changed) = ask(&app, "eve/hr", &format!("PATCH {of_bob}"), salary).await;
    assert_eq!((status, &changed["salary"]), (200, &json!(secret + 1)));
    // The change of the salary is not sent.
    let (status, _) = ask(
        &app,
        "eve/hr",
        &format!("PATCH {of_bob}"),
        json!({"phone": "2"}),
    )
    .await;
    assert_eq!(status, 200);
    let change = socket.expect("change").await;
    assert_eq!(change["fields"], json!({"phone": "2"}));
    let received = format!("{received:?}");
    assert!(
        !received.contains("98765432") && !received.contains("salary\": Number"),
        "{received}"
    );
}

async fn a_a_rule_with_too_many_memberships_is_not_evaluated(app: App) {
    let members = |projects: std::ops::Range<i64>| {
        let member = |project| json!({"user_id": "ada", "project_id": project});
        let create = move |project| Edit::create("members", member(project));
        projects.map(create).collect()
    };
    app.engine.transaction(members(0..1000)).await.unwrap();
    let task = add(&app, "tasks", json!({"project_id": 999})).await;
    assert_eq!(ids(&app, "ada", "tasks/").await, [task]);
    let (mut socket, shown) = subscribed(&app, "ada", "tasks").await;
    assert_eq!(shown.records.len(), 1);
    add(&app, "tasks", json!({"project_id": 500})).await;
    assert_eq!(socket.expect("change").await["action"], "create");
    app.engine.transaction(members(1000..1001)).await.unwrap();
    let line = "GET tasks/";
    check(
        &app,
        vec![
            ("ada", line, json!({}), false, 503),
            ("bob", line, json!({}), false, 200),
        ],
    )
    .await;
}

async fn an_engine_explains_what_decides(app: App) {
    add_member(&app, "ada", 7, "viewer").await;
    add_member(&app, "ada", 5, "viewer").await;
    let ada = Principal::named("ada");
    let explain = async |who: &Principal, topic: Topic| {
        let explained = app.engine.explain(who, topic).await.unwrap();
        let text = explained.to_string();
        // Each database has words of its own.
        let text = text
            .split_once("  its plan: ")
            .map_or(&*text, |(text, plan)| {
                assert!(!plan.trim().is_empty());
                text
            });
        (explained.is_granted(), text.to_owned())
    };
    let topic = Topic::of("tasks")
        .filter(Filter::eq("title", "x"))
        .select(["title"]);
    let expected = "\
read tasks?and=%28title.eq.x%29&select=title as \"ada\"
  rule 1, exists(\"members\", on(\"project_id\"), principal(\"user_id\")): decides
  fields: title
  records: project_id.in.(5,7)
  of them: title.eq.x
  a change is found by: title \"x\"
  the store is asked for: project_id is 5 or 7, and title is \"x\"
";
    assert_eq!(explain(&ada, topic).await, (true, expected.into()));
    let expected = "\
read people as \"ada\"
  rule 1, role(\"hr\"): does not apply
  rule 2, signed_in(): decides
  fields: name, phone
  records: all
  a change is found by: its collection: all are shown
  the store is asked for: all records
";
    assert_eq!(
        explain(&ada, "people".into()).await,
        (true, expected.into())
    );
    let expected = "\
read notes as an anonymous principal
  rule 1, owner(\"owner\"): does not apply
  refused: authentication is required
";
    let anonymous = Principal::anonymous();
    assert_eq!(
        explain(&anonymous, "notes".into()).await,
        (false, expected.into())
    );
    let topic = Topic::of("people").filter(Filter::eq("salary", 1));
    let (is_granted, text) = explain(&ada, topic).await;
    assert!(
        !is_granted && text.contains("refused: the query: salary is not a known field"),
        "{text}"
    );
    let one: Topic = ("tasks", RecordId::Integer(9)).into();
    let (_, text) = explain(&Principal::named("bob"), one).await;
    assert!(text.contains("records: none\n"), "{text}");
    assert!(text.contains("a change is found by: id \"9\""), "{text}");
    assert!(app.engine.explain(&ada, "nothing").await.is_err());
}

#[tokio::test]
async fn an_engine_does_not_start_with_rules_that_can_not_be_meant() {
    let notes = json!({"type": "object", "properties": {"owner": {"type": "string"}}});
    for (rules, expected) in [
        (
            Rules::new().read(owner("boss")),
            "collection notes: rule 1, owner(\"boss\"): notes has no field \"boss\"",
        ),
        (
            Rules::new().read(exists("members", on("owner"), principal("name"))),
            "collection notes: rule 1, exists(\"members\", on(\"owner\"), principal(\"name\")): there is no collection \"members\"",
        ),
        (
            Rules::new().create(signed_in()),
            "collection notes: rule 1, signed_in(), lets principals create records that no rule lets them read: add \
             .read(signed_in()), or call .allow_blind_writes() if that is meant",
        ),
    ] {
        let builder = Engine::builder().store(MemoryStore::new());
        let notes = Collection::from_schema("notes", &notes).rules(rules);
        let refused = builder.collection(notes).start().await.unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
}
