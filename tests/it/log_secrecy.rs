//! What the log contains: the ids of requests and connections, and nothing that is secret. The scenes run in a process of their own,
//! whose subscriber takes every line of every thread.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldsync::MemoryStore;
use fieldsync::{
    Access, Collection, Denied, Edit, Engine, EngineBuilder, FieldErrors, Fields, Grant, View,
};
use fieldsync_sqlite::SqliteStore;
use reqwest::RequestBuilder;
use serde_json::json;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::app::{App, Rule, Server};
use crate::events::Events;
use crate::socket::Socket;

/// It is in everything that the log must not contain.
const CANARY: &str = "canary";

/// Set in the process that runs the scenes: the URLs of fresh databases.
const IN_CHILD: &str = "FIELDSYNC_TEST_LOG_DATABASES";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_value_id_query_or_token_reaches_the_log() {
    let log = Log::default();
    if let Ok(databases) = std::env::var(IN_CHILD) {
        let written = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter("off,fieldsync=trace")
            .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(move || written.clone())
            .init();
        play_on_every_store(&databases).await;
        check(&log.text());
        return;
    }
    #[cfg(not(feature = "services"))]
    let databases = String::new();
    #[cfg(feature = "services")]
    let databases = {
        let (one, two) = (
            crate::cluster::fresh_database(),
            crate::cluster::fresh_database(),
        );
        format!("{} {}", one.await, two.await)
    };
    let test = "log_secrecy::a_no_value_id_query_or_token_reaches_the_log";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", test, "--nocapture"])
        .env(IN_CHILD, databases);
    let child = tokio::task::spawn_blocking(move || child.output()).await;
    let child = child.unwrap().unwrap();
    let output = [child.stdout, child.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(
        child.status.success() && output.contains("1 passed"),
        "{output}"
    );
}

/// Checks the lines of all scenes.
fn check(log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    let secret = lines
        .iter()
        .find(|line| line.to_lowercase().contains(CANARY));
    assert_eq!(secret, None);
    let has = |words: &[&str]| {
        let is_line = |line: &&str| words.iter().all(|word| line.contains(word));
        assert!(lines.iter().any(is_line), "no line has {words:?}:\n{log}");
    };
    has(&[
        "request_id=from-the-proxy",
        "method=\"PATCH\"",
        "collection=\"notes\"",
        "status=200",
    ]);
    has(&["request_id=4bf92f3577b34da6a3ce929d0e0e4736"]);
    has(&["method=\"other\"", "status=405"]);
    for transport in ["websocket", "event_stream"] {
        has(&["connection_id=", "request_id=", transport]);
    }
    has(&["a request failed", "status=500", "request_id="]);
    has(&["a WebSocket ended", "connection_id="]);
    has(&["an event stream has ended", "connection_id="]);
    #[cfg(feature = "services")]
    has(&["SQLSTATE 22P02"]);
}

/// Notes with text ids, of which `secret` is hidden from all but the boss.
fn notes() -> EngineBuilder {
    let text = || json!({"type": "string", "default": "", "maxLength": 1000});
    let schema = json!({"type": "object", "properties": {"title": text(), "secret": text()}});
    let rule = |user: &str, access: Access| match (user, access) {
        ("canary-boss", _) => Ok(Grant::full()),
        ("canary-stranger", _) => Err(Denied::Forbidden),
        ("canary-lost", _) => Err(Denied::unavailable("the directory is down")),
        _ => Ok(Grant::full()
            .with_view(View::only(["title"]))
            .with_rows_fn("titled", |note| note.fields["title"] != "canary-hidden")),
    };
    let check = |_: Option<&Fields>, after: &Fields| match after["title"] == "canary-refused" {
        true => Err(FieldErrors::one("title", "must not be canary-refused")),
        false => Ok(()),
    };
    let notes = Collection::from_schema("notes", &schema).text_ids();
    Engine::builder()
        .heartbeat(Duration::from_secs(1))
        .collection(notes.validate(check).authorize(Rule(rule)))
}

async fn play_on_every_store(databases: &str) {
    let mut databases = databases.split(' ').filter(|url| !url.is_empty());
    for server in [Server::Axum, Server::Actix] {
        let folder = || tempfile::tempdir().unwrap();
        play(App::with(server, notes().store(MemoryStore::new()), folder()).await).await;
        let on_sqlite = folder();
        let store = SqliteStore::open(on_sqlite.path().join("app.db"))
            .await
            .unwrap();
        play(App::with(server, notes().store(store), on_sqlite).await).await;
        let Some(url) = databases.next() else {
            continue;
        };
        #[cfg(feature = "services")]
        play_on_postgres(server, url).await;
        #[cfg(not(feature = "services"))]
        unreachable!("{url}");
    }
}

/// The same on PostgreSQL, where a trigger of the app fails on a value and says which.
#[cfg(feature = "services")]
async fn play_on_postgres(server: Server, url: &str) {
    let store = fieldsync_postgres::PostgresStore::connect(url)
        .await
        .unwrap();
    let app = App::with(server, notes().store(store), tempfile::tempdir().unwrap()).await;
    let client = crate::cluster::connect(url).await;
    let sql = "create function fail() returns trigger language plpgsql as $$ begin
            if new.title like '%-to-integer' then perform new.title::integer; end if;
            if new.title like '%-to-raise' then raise exception using message = 'no', detail = new.title; end if;
            return new;
        end $$;
        create trigger fail before update on notes for each row execute function fail();
        alter table notes add constraint is_short check (length(title) < 100);
        alter table notes add constraint is_unique unique (secret)";
    client.batch_execute(sql).await.unwrap();
    let edit = json!({"id": "canary-id", "title": "canary-title", "secret": "canary-secret"});
    let post = app
        .request("POST", "/api/notes/")
        .header("x-user", "canary-boss");
    assert_eq!(post.json(&edit).send().await.unwrap().status(), 201);
    for (title, status) in [
        ("canary-to-integer".to_owned(), 500),
        ("canary-to-raise".to_owned(), 422),
        (CANARY.repeat(30), 422),
    ] {
        let body = json!({"title": title});
        let (answered, _) = app.send("PATCH", "/api/notes/canary-id/", &body).await;
        assert_eq!(answered, status, "{title}");
    }
    let twin = json!({"id": "canary-twin", "secret": "canary-secret"});
    let post = app
        .request("POST", "/api/notes/")
        .header("x-user", "canary-boss");
    assert_eq!(post.json(&twin).send().await.unwrap().status(), 409);
    client
        .batch_execute("drop trigger fail on notes; delete from notes")
        .await
        .unwrap();
    client
        .batch_execute("alter table notes drop constraint is_unique")
        .await
        .unwrap();
    play(app).await;
}

async fn status(request: RequestBuilder) -> u16 {
    let request = request
        .header("authorization", "Bearer canary-token")
        .header("cookie", "session=canary-session")
        .header("x-user", "canary-user");
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    reply.bytes().await.unwrap();
    status
}

/// Reads, writes, refusals and subscriptions.
async fn play(app: App) {
    write(&app).await;
    read(&app).await;
    refuse(&app).await;
    subscribe(&app).await;
    let failed = app
        .engine
        .transaction(vec![Edit::patch(("notes", "canary-none"), json!({}))]);
    failed.await.unwrap_err();
    let _ = app.engine.drain(Duration::from_secs(5)).await;
}

async fn write(app: &App) {
    let note = json!({"id": "canary-note", "title": "canary-title"});
    let post = app
        .request("POST", "/api/notes/?token=canary-query")
        .json(&note);
    let post = post.header("idempotency-key", "\"canary-key\"");
    assert_eq!(status(post).await, 201);
    let patch = app.request("PATCH", "/api/notes/canary-note/?access_token=canary-query");
    let patch = patch.json(&json!({"title": "canary-new"}));
    let id = "from-the-proxy";
    assert_eq!(status(patch.header("x-request-id", id)).await, 200);
}

async fn read(app: &App) {
    for path in [
        "/api/notes/canary-note/?access_token=canary-query",
        "/api/notes/?limit=1&title=neq.canary-query&access_token=canary-query",
    ] {
        assert_eq!(status(app.request("GET", path)).await, 200, "{path}");
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let get = app.request("GET", "/api/notes/canary-none/");
    assert_eq!(status(get.header("traceparent", trace)).await, 404);
    for (path, status_) in [
        ("/api/notes/?limit=canary", 400),
        ("/api/notes/?title=canary-query", 400),
        ("/api/notes/?canary-query=eq.1", 400),
        ("/api/notes/?after=%FFcanary", 400),
        ("/api/canary/", 404),
        ("/api/?topic=canary-topic", 406),
    ] {
        let get = app
            .request("GET", path)
            .header("x-request-id", "canary in words");
        assert_eq!(status(get).await, status_, "{path}");
    }
    let events = app
        .request("GET", "/api/notes/")
        .header("accept", "text/event-stream");
    let events = events.header("last-event-id", "canary-event");
    assert_eq!(status(events).await, 400);
}

async fn refuse(app: &App) {
    let path = "/api/notes/canary-note/";
    let patch = |body: String| {
        let patch = app.request("PATCH", path).body(body);
        patch.header("content-type", "application/json")
    };
    for (body, expected) in [
        ("{\"title\": canary".to_owned(), 400),
        ("{\"canary\": 1, \"canary\": 2}".to_owned(), 400),
        (json!({"canary-field": "canary"}).to_string(), 422),
        (json!({"title": ["canary"]}).to_string(), 422),
        (json!({"title": CANARY.repeat(1000)}).to_string(), 422),
        (json!({"title": "canary-refused"}).to_string(), 422),
        (json!({"title": CANARY.repeat(200_000)}).to_string(), 413),
    ] {
        assert_eq!(status(patch(body.clone())).await, expected, "{body:.100}");
    }
    for (header, value) in [
        ("if-match", "\"canary\""),
        ("fieldsync-base", "canary"),
        ("idempotency-key", "canary key"),
    ] {
        let refused = status(patch("{}".into()).header(header, value)).await;
        assert!([400, 409, 412].contains(&refused), "{header}: {refused}");
    }
    assert_eq!(status(app.request("CANARY", path)).await, 405);
    for user in ["canary-stranger", "canary-lost"] {
        let refused = app.request("GET", path).header("x-user", user).send().await;
        assert!([403, 503].contains(&refused.unwrap().status().as_u16()));
    }
}

async fn subscribe(app: &App) {
    let mut socket = Socket::v1_as(app, "canary-user").await;
    socket.subscribe("notes/canary-note", None).await;
    socket.expect("snapshot").await;
    socket.expect("live").await;
    let mut events = Events::open(app, "/api/notes/?access_token=canary-query", None).await;
    events.expect("snapshot").await;
    let edit = json!({"title": "canary-change"});
    app.send("PATCH", "/api/notes/canary-note/", &edit).await;
    socket.expect("change").await;
    socket.subscribe("notes?title=eq.canary-filter", None).await;
    socket.expect("snapshot").await;
    for topic in ["canary-topic", "notes?title=canary", "notes?canary=eq.1"] {
        socket.subscribe(topic, None).await;
        socket.expect("error").await;
    }
    socket.subscribe("notes", Some("canary-cursor")).await;
    socket.expect("error").await;
    for text in [
        "canary",
        "{\"type\": \"canary\"}",
        "{\"canary\"",
        "[\"canary\"]",
    ] {
        socket.send_text(text).await;
        socket.expect("error").await;
    }
    while socket.next().await.is_ok() {}
    drop(events);
    let open = async {
        while app.engine.stats().event_streams > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    crate::tasks::within_limit("the end of the stream", open).await;
}

/// The demo logs no values, not even where `RUST_LOG` asks for every line of every library.
#[cfg(feature = "services")]
#[tokio::test(flavor = "multi_thread")]
async fn a_the_log_of_the_demo_has_no_statements_with_values() {
    for server in ["axum", "actix"] {
        let url = crate::cluster::fresh_database().await;
        let options = [
            "--listen",
            "127.0.0.1:0",
            "--store",
            &url,
            "--server",
            server,
        ];
        let mut command = crate::demo::command(&options);
        command.env("RUST_LOG", "trace");
        let mut demo = crate::demo::Demo::launch(command, &options[2..]);
        let body = json!({"first_name": "canary-name"});
        let patch = reqwest::Client::new().patch(demo.url("/api/users/1/?token=canary-query"));
        let patch = patch
            .header("authorization", "Bearer canary-token")
            .json(&body);
        assert_eq!(patch.send().await.unwrap().status(), 200);
        assert_eq!(demo.terminate(), Some(0));
        let log = demo.rest_of_log();
        let has = |words: &str| log.iter().any(|line| line.contains(words));
        assert!(
            has("a request was answered") && !has(CANARY),
            "{}",
            log.join("\n")
        );
    }
}
