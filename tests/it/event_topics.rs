//! One stream of server-sent events for several topics.

use std::collections::BTreeMap;

use fieldsync::{Collection, Denied, EngineBuilder};
use serde_json::{Value, json};

use crate::app::{App, Rule, on_every_store};
use crate::events::{Event, Events};
use crate::random;
use crate::socket::Mirror;

on_every_store!(with topics:
    x_a_stream_of_several_topics_resumes_each_of_them,
    equal_cursors_are_in_an_id_once,
    x_a_topic_whose_place_is_too_long_for_an_id_starts_anew,
    a_plus_is_a_space_and_other_methods_are_refused,
    h_topics_that_can_not_be_served_are_refused,
    s_a_stream_of_several_topics_ends_when_the_engine_drains,
);

/// The usual app, and a collection that nobody may know of.
fn topics() -> EngineBuilder {
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    let hide = |_: &str, _| Err(Denied::Hidden);
    let texts = Collection::from_schema("texts", &schema).text_ids();
    crate::app::builder()
        .collection(texts.open_to_everyone())
        .collection(Collection::from_schema("secrets", &schema).authorize(Rule(hide)))
}

const PATH: &str = "/api/?topic=users&topic=things&topic=users/1";

/// What a page shows of each topic.
#[derive(Default)]
struct Page {
    topics: BTreeMap<String, Mirror>,
    last_id: Option<String>,
}

impl Page {
    fn apply(&mut self, event: Event) {
        match event.data["sub"].as_str() {
            Some(topic) => {
                let topic = self.topics.entry(topic.to_owned()).or_default();
                topic.apply(&event.data);
            }
            None => assert_eq!(event.name, "live"),
        }
        self.last_id = event.id.or(self.last_id.take());
    }

    async fn shows(&self, app: &App) -> bool {
        let list = |topic: &str| self.topics.get(topic).map(Mirror::list);
        let users = app.get("/api/users/").await;
        let first = users
            .as_array()
            .unwrap()
            .iter()
            .filter(|user| user["id"] == 1);
        let first = Value::Array(first.cloned().collect());
        let sorted = |list: Option<Value>| {
            let mut list: Vec<String> = list?.as_array()?.iter().map(Value::to_string).collect();
            list.sort();
            Some(list)
        };
        let things = app.get("/api/things/").await;
        list("users") == Some(users)
            && list("users/1") == Some(first)
            && sorted(list("things")) == sorted(Some(things))
    }
}

async fn write(app: &App, random: &mut fastrand::Rng) {
    let name = json!({"first_name": random.u32(..).to_string()});
    match random.u8(..5) {
        0 => drop(app.send("POST", "/api/users/", &name).await),
        1 => drop(
            app.send("POST", "/api/things/", &json!({"count": random.i32(..)}))
                .await,
        ),
        2 => drop(app.send("PATCH", "/api/users/1/", &name).await),
        3 => drop(app.send("PATCH", "/api/users/2/", &name).await),
        _ => drop(app.request("DELETE", "/api/users/3/").send().await.unwrap()),
    }
}

async fn x_a_stream_of_several_topics_resumes_each_of_them(app: App) {
    let mut random = random::generator();
    for name in ["one", "two", "three"] {
        app.create_user(name, "").await;
    }
    let (mut page, mut snapshots) = (Page::default(), 0);
    for _ in 0..12 {
        let mut events = Events::open(&app, PATH, page.last_id.as_deref()).await;
        for _ in 0..random.u8(..4) {
            write(&app, &mut random).await;
        }
        for _ in 0..random.u8(1..6) {
            let event = events.next().await.unwrap();
            snapshots += usize::from(event.data["type"] == "snapshot");
            page.apply(event);
        }
        drop(events);
        write(&app, &mut random).await;
    }
    let mut events = Events::open(&app, PATH, page.last_id.as_deref()).await;
    while !page.shows(&app).await {
        let event = events.next().await.unwrap();
        snapshots += usize::from(event.data["type"] == "snapshot");
        page.apply(event);
    }
    // Each topic has one, and is continued from then on.
    assert_eq!(snapshots, 3);
    assert!(page.topics.values().all(|topic| topic.resets.is_empty()));
}

async fn equal_cursors_are_in_an_id_once(app: App) {
    app.create_user("one", "").await;
    let path = "/api/?topic=users/1&topic=users/2&topic=users/3&topic=users";
    let mut events = Events::open(&app, path, None).await;
    // One for all.
    while events.next().await.unwrap().name != "live" {}
    app.send("PATCH", "/api/users/1/", &json!({"first_name": "changed"}))
        .await;
    let mut last_id = String::new();
    for _ in 0..2 {
        last_id = events.expect("change").await.id.unwrap();
    }
    // The topics that have nothing new follow without an event of their own.
    let places: Vec<&str> = last_id.split(',').collect();
    assert_eq!(places.len(), 4);
    let mut events = Events::open(&app, path, Some(&last_id)).await;
    last_id = events.expect("live").await.id.unwrap();
    assert_eq!(&last_id[64..], ",,,");
}

async fn x_a_topic_whose_place_is_too_long_for_an_id_starts_anew(app: App) {
    for number in 0..200 {
        let text = json!({"id": format!("{number:0113}"), "text": "x".repeat(1000)});
        assert_eq!(app.send("POST", "/api/texts/", &text).await.0, 201);
    }
    let path = "/api/?topic=users&topic=texts";
    let (mut window, mut last_id) = (Mirror::default(), None);
    for round in 0.. {
        let mut events = Events::open(&app, path, last_id.as_deref()).await;
        let mut pieces = 0;
        loop {
            let event = events.next().await.unwrap();
            last_id = event.id.clone().or(last_id);
            let is_live = event.data["collection"] == "texts";
            if is_live || event.data["sub"] == "texts" {
                window.apply(&event.data);
            }
            if is_live {
                break;
            }
            pieces += usize::from(event.data["sub"] == "texts" && event.data["type"] == "snapshot");
            if round == 0 && pieces == 2 {
                break;
            }
        }
        if round > 0 {
            break;
        }
        // It is among what has arrived.
        let first = format!("/api/texts/{:0113}/", 0);
        app.request("DELETE", &first).send().await.unwrap();
    }
    assert_eq!(window.list(), app.get("/api/texts/").await);
    assert_eq!(window.resets, ["trimmed"]);
}

async fn a_plus_is_a_space_and_other_methods_are_refused(app: App) {
    app.send(
        "POST",
        "/api/texts/",
        &json!({"id": "a b", "text": "with a space"}),
    )
    .await;
    app.send(
        "POST",
        "/api/texts/",
        &json!({"id": "a+b", "text": "with a plus"}),
    )
    .await;
    for (topic, text) in [
        ("a+b", "with a space"),
        ("a%20b", "with a space"),
        ("a%2Bb", "with a plus"),
    ] {
        let path = format!("/api/?topic=texts/{topic}");
        let mut events = Events::open(&app, &path, None).await;
        let snapshot = events.expect("snapshot").await;
        assert_eq!(snapshot.data["records"][0]["text"], text, "{topic}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let reply = app
            .request(method, "/api/?topic=users")
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 405, "{method}");
        assert_eq!(reply.headers()["allow"], "GET, HEAD, OPTIONS");
    }
    let options = app.request("OPTIONS", "/api/").send().await.unwrap();
    assert_eq!(options.headers()["allow"], "GET, HEAD, OPTIONS");
}

async fn h_topics_that_can_not_be_served_are_refused(app: App) {
    let many = (1..=51).map(|id| format!("topic=users/{id}"));
    let many = many.collect::<Vec<_>>().join("&");
    for (query, last_id, expected) in [
        ("", "", (400, "malformed")),
        ("topic=", "", (404, "not-found")),
        ("topic=nothing", "", (404, "not-found")),
        ("topic=users&topic=secrets", "", (404, "not-found")),
        ("topic=users/x", "", (404, "not-found")),
        ("topic=secrets/x", "", (404, "not-found")),
        ("topic=users&topic=users", "", (400, "malformed")),
        ("topic=%ff", "", (400, "malformed")),
        (&many, "", (400, "malformed")),
        ("topic=users&topic=things", "x,y", (400, "malformed")),
        ("topic=users&topic=things", "-", (400, "malformed")),
        ("topic=users&topic=things", "-,-,-", (400, "malformed")),
    ] {
        let request = app.request("GET", &format!("/api/?{query}"));
        let request = request
            .header("accept", "text/event-stream")
            .header("last-event-id", last_id);
        let reply = request.send().await.unwrap();
        let status = reply.status().as_u16();
        let problem: Value = reply.json().await.unwrap();
        let kind = problem["type"].as_str().unwrap();
        assert_eq!(
            (status, kind),
            (expected.0, &*format!("urn:fieldsync:{}", expected.1)),
            "{query} {last_id}"
        );
    }
    // A hidden collection and one that does not exist have the same answer.
    let body = async |topic: &str| {
        let request = app.request("GET", &format!("/api/?topic=users&topic={topic}"));
        let reply = request
            .header("accept", "text/event-stream")
            .send()
            .await
            .unwrap();
        reply.text().await.unwrap()
    };
    assert_eq!(body("secrets").await, body("nothing").await);
    let twice = body("secrets&topic=secrets").await;
    assert_eq!(twice, body("nothing&topic=nothing").await);
    assert_eq!(body("secrets/1").await, body("nothing/1").await);
    let plain = app
        .request("GET", "/api/?topic=users")
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 406);
}

async fn s_a_stream_of_several_topics_ends_when_the_engine_drains(app: App) {
    let mut events = Events::open(&app, PATH, None).await;
    events.next().await.unwrap();
    let drained = app.engine.drain(std::time::Duration::from_secs(5)).await;
    assert!(drained.is_complete());
    while events.next().await.is_some() {}
}
