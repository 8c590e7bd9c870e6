//! Server-sent events on the REST routes.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::app::{App, on_every_store};
use crate::socket::{Mirror, by_id};
use crate::tasks::within_limit;

on_every_store!(
    events_contain_the_messages_of_the_protocol,
    x_a_stream_resumes_after_the_last_event_id,
    h_a_cursor_of_another_collection_is_reset_and_a_malformed_one_is_refused,
    a_stream_of_one_record_has_only_its_events,
    s_a_stream_ends_when_the_engine_drains,
    only_requests_that_accept_events_get_them,
);

/// A reader of server-sent events (WHATWG HTML, section 9.2.6).
pub(crate) struct Events {
    reply: Response,
    text: String,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Events {
    pub(crate) async fn open(app: &App, path: &str, last_id: Option<&str>) -> Self {
        let mut request = app.request("GET", path);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        Self::of(request).await
    }

    /// Opens a stream with this request.
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let request = request.header("accept", "text/event-stream");
        let reply = within_limit("the head of a stream", request.send())
            .await
            .unwrap();
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()["content-type"], "text/event-stream");
        assert_eq!(reply.headers()["cache-control"], "no-store, no-transform");
        let text = String::new();
        let mut events = Self { reply, text };
        let retry = events.block().await.unwrap();
        let retry: u32 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!((1000..4000).contains(&retry));
        events
    }

    /// The next block of lines, or `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk = within_limit("an event", self.reply.chunk()).await;
            self.text
                .push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Event> {
        let mut event = Event {
            name: String::new(),
            id: None,
            data: Value::Null,
        };
        let mut block = self.block().await?;
        while block == ":" {
            // A heartbeat while the stream is not live.
            block = self.block().await?;
        }
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ => panic!("{line:?}"),
            }
        }
        assert_eq!(event.data["type"], event.name);
        let place = event.data["cursor"].as_str();
        let place = place.or(event.data["resume"].as_str());
        match event.id.as_deref() {
            // A stream of several topics.
            Some(id) if id.contains(',') => {
                assert!(id.contains('~') || id.contains(place.unwrap()));
            }
            id => assert_eq!(id, place),
        }
        Some(event)
    }

    /// The next event, which must have this name. A heartbeat may come before it.
    pub(crate) async fn expect(&mut self, name: &str) -> Event {
        let mut event = self.next().await.unwrap();
        while event.name == "live" && name != "live" {
            event = self.next().await.unwrap();
        }
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// Reads until the records of the mirror are those of a GET, when writes have ended.
    pub(crate) async fn converge(&mut self, mirror: &mut Mirror, app: &App, path: &str) {
        let all = by_id(&app.get(path).await).collect();
        let converged = async {
            while mirror.records != all {
                mirror.apply(&self.next().await.unwrap().data);
            }
        };
        within_limit("the records of a GET", converged).await;
    }
}

async fn events_contain_the_messages_of_the_protocol(app: App) {
    let id = app.create_user("John", "Doe").await;
    let mut events = Events::open(&app, "/api/users/", None).await;
    let snapshot = events.expect("snapshot").await;
    assert_eq!(snapshot.data["records"], app.get("/api/users/").await);
    events.expect("live").await;
    let path = format!("/api/users/{id}/");
    let request = app
        .request("PATCH", &path)
        .header("idempotency-key", "mine");
    let reply = request
        .json(&json!({"first_name": "<b>\n\nJack"}))
        .send()
        .await
        .unwrap();
    let cursor = reply.headers()["fieldsync-cursor"]
        .to_str()
        .unwrap()
        .to_owned();
    let change = events.expect("change").await;
    assert_eq!(change.data["sub"], "users");
    assert_eq!(change.data["fields"]["first_name"], "<b>\n\nJack");
    assert_eq!(
        (&change.data["key"], change.id.unwrap()),
        (&json!("mine"), cursor)
    );
}

async fn x_a_stream_resumes_after_the_last_event_id(app: App) {
    let id = app.create_user("", "").await;
    let path = format!("/api/users/{id}/");
    let (mut mirror, mut last_id) = (Mirror::default(), None);
    for round in 0..20 {
        let mut events = Events::open(&app, "/api/users", last_id.as_deref()).await;
        for number in 0..5 {
            let name = json!({"first_name": format!("{round} {number}")});
            app.send("PATCH", &path, &name).await;
        }
        for _ in 0..=round % 4 {
            let event = events.next().await.unwrap();
            assert_eq!(event.name == "snapshot", last_id.is_none());
            mirror.apply(&event.data);
            last_id = event.id.or(last_id);
        }
    }
    let since = last_id.unwrap();
    let mut events = Events::open(&app, &format!("/api/users/?since={since}"), None).await;
    events.converge(&mut mirror, &app, "/api/users/").await;
    assert_eq!(mirror.resets, [""; 0]);
    // `Last-Event-ID` takes precedence over `since`, which an EventSource repeats.
    Events::open(&app, "/api/users/?since=nonsense", Some(&since)).await;
}

async fn h_a_cursor_of_another_collection_is_reset_and_a_malformed_one_is_refused(app: App) {
    app.create_user("John", "Doe").await;
    let things = app.request("GET", "/api/things/").send().await.unwrap();
    let foreign = things.headers()["fieldsync-cursor"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut events = Events::open(&app, "/api/users/", Some(&foreign)).await;
    assert_eq!(events.expect("reset").await.data["reason"], "key");
    events.expect("snapshot").await;
    for (path, last_id, at_fault) in [
        ("/api/users/", "nonsense", "Last-Event-ID"),
        ("/api/users/", &*format!("{foreign},"), "Last-Event-ID"),
        ("/api/users/", "-", "Last-Event-ID"),
        ("/api/users/?since=nonsense", "", "since"),
    ] {
        let request = app
            .request("GET", path)
            .header("accept", "text/event-stream");
        let reply = request
            .header("last-event-id", last_id)
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status(), 400);
        let problem: Value = reply.json().await.unwrap();
        assert!(problem["errors"][at_fault].is_array(), "{problem}");
    }
}

async fn a_stream_of_one_record_has_only_its_events(app: App) {
    let mut events = Events::open(&app, "/api/users/1/", None).await;
    assert_eq!(events.expect("snapshot").await.data["records"], json!([]));
    events.expect("live").await;
    app.create_user("John", "Doe").await;
    app.create_user("Jane", "Smith").await;
    app.request("DELETE", "/api/users/1/").send().await.unwrap();
    for action in ["create", "delete"] {
        let change = events.expect("change").await.data;
        assert_eq!(
            (&change["sub"], &change["action"]),
            (&json!("users/1"), &json!(action))
        );
    }
}

async fn s_a_stream_ends_when_the_engine_drains(app: App) {
    let mut events = Events::open(&app, "/api/users/", None).await;
    events.expect("snapshot").await;
    events.expect("live").await;
    assert!(app.engine.drain(Duration::from_secs(5)).await.is_complete());
    assert!(events.next().await.is_none());
    // An `EventSource` comes back only after a 200.
    let request = app
        .request("GET", "/api/users/")
        .header("accept", "text/event-stream");
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let body = reply.text().await.unwrap();
    let delay = body.strip_prefix("retry: ").unwrap().trim_end();
    assert!(
        (1000..4000).contains(&delay.parse::<u32>().unwrap()),
        "{body}"
    );
    // Reads are still answered.
    assert_eq!(app.get("/api/users/").await, json!([]));
}

async fn only_requests_that_accept_events_get_them(app: App) {
    for (accept, events) in [
        ("text/event-stream", true),
        ("Text/Event-Stream; q=0.5, application/json", true),
        ("text/event-stream;q=0", false),
        ("application/json", false),
        ("text/html", false),
        ("*/*", false),
    ] {
        let head = app.request("HEAD", "/api/users/").header("accept", accept);
        let reply = head.send().await.unwrap();
        let expected = if events {
            "text/event-stream"
        } else {
            "application/json"
        };
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["content-type"]),
            (200, &expected.parse().unwrap()),
            "{accept}"
        );
    }
    let absent = app
        .request("GET", "/api/nothing/")
        .header("accept", "text/event-stream");
    assert_eq!(absent.send().await.unwrap().status(), 404);
}
