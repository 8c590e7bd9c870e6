//! What clients may take of a node, and what each principal may: whoever takes more is refused, and nobody else is.

use fieldsync::{
    Access, Collection, Denied, Edit, EngineBuilder, EngineError, Grant, Principal, Record, Refusal,
};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::app::{App, Rule, builder, limits, on_every_store};
use crate::events::Events;
use crate::socket::Socket;
use crate::tasks::within_limit;

on_every_store!(with limited:
    s_a_principal_with_too_many_connections_is_refused_a_further_one,
    s_a_node_that_has_all_its_connections_refuses_a_further_one,
    s_edits_beyond_a_principals_rate_are_refused,
    s_idempotency_keys_beyond_a_principals_limit_are_not_stored,
    s_edits_that_fill_the_log_are_refused,
    s_messages_beyond_the_rate_close_the_socket,
    s_a_page_of_many_hidden_records_ends_and_the_next_goes_on,
);

fn limited() -> EngineBuilder {
    let properties = json!({"owner": {"type": "string"}});
    let schema = json!({"type": "object", "properties": properties});
    // A closure, which no database can evaluate.
    let own = |user: &str, _: Access| {
        let (name, user) = (format!("of {user}"), user.to_owned());
        let rows = move |note: &Record| note.fields["owner"] == user;
        Ok::<_, Denied>(Grant::full().with_rows_fn(name, rows))
    };
    let notes = Collection::from_schema("notes", &schema).authorize(Rule(own));
    builder().collection(notes).limits(limits(|limits| {
        limits.list_records = 300;
        limits.connections = 8;
        limits.principal_connections = 3;
        limits.messages_per_second = 2;
        limits.principal_edits_per_second = 1;
        limits.principal_idempotency_keys = 10;
        limits.principal_log_bytes_per_hour = 200_000;
    }))
}

/// Asks for a WebSocket as this user, and lets go of it.
pub(crate) async fn handshake(app: &App, who: (&str, &str)) -> (u16, HeaderMap) {
    let request = app.request("GET", "/ws/user-updates/");
    let request = request
        .header(who.0, who.1)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "fieldsync.v1");
    let reply = within_limit("a handshake", request.send()).await.unwrap();
    (reply.status().as_u16(), reply.headers().clone())
}

async fn events_as(app: &App, user: &str) -> reqwest::Response {
    let request = app.request("GET", "/api/users/").header("x-user", user);
    let request = request.header("accept", "text/event-stream");
    within_limit("a stream", request.send()).await.unwrap()
}

async fn s_a_principal_with_too_many_connections_is_refused_a_further_one(app: App) {
    let mut sockets = [
        Socket::v1_as(&app, "eve").await,
        Socket::v1_as(&app, "eve").await,
    ];
    let request = app.request("GET", "/api/users/").header("x-user", "eve");
    let mut events = Events::of(request).await;
    let (status, headers) = handshake(&app, ("x-user", "eve")).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (429, &"10".parse().unwrap())
    );
    assert_eq!(headers["content-type"], "application/problem+json");
    let refused = events_as(&app, "eve").await;
    assert_eq!(refused.status(), 429);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:fieldsync:limit");
    // What is open goes on, and so do reads and other principals.
    for socket in &mut sockets {
        socket.subscribe("users", None).await;
        socket.expect("snapshot").await;
    }
    events.expect("snapshot").await;
    let read = app.request("GET", "/api/users/").header("x-user", "eve");
    assert_eq!(read.send().await.unwrap().status(), 200);
    let ada = Socket::v1_as(&app, "ada").await;
    // Clients of which nothing is known may be any number; those with an address are counted by it.
    assert_eq!(handshake(&app, ("x-other", "")).await.0, 101);
    let address = ("x-limit-key", "192.0.2.1");
    let headers = [(address.0, address.1.to_owned())];
    let visitors = [1, 2, 3].map(|_| Socket::open_with(&app, V1, &headers));
    let visitors = futures_util::future::join_all(visitors).await;
    assert_eq!(handshake(&app, address).await.0, 429);
    drop((ada, visitors));
    // The end of one makes room for another.
    drop(sockets);
    let reopened = async { while handshake(&app, ("x-user", "eve")).await.0 != 101 {} };
    within_limit("room for another socket", reopened).await;
}

const V1: Option<&str> = Some("fieldsync.v1");

async fn s_a_node_that_has_all_its_connections_refuses_a_further_one(app: App) {
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(Socket::v1(&app).await);
    }
    let (status, headers) = handshake(&app, ("x-user", "ada")).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    // An `EventSource` gives up at a 503, and so it is told when to come back.
    let events = events_as(&app, "ada").await;
    assert_eq!(events.status(), 200);
    let text = within_limit("the end of the stream", events.text()).await;
    let retry = text.unwrap();
    assert!(
        retry.starts_with("retry: ") && retry.lines().count() == 2,
        "{retry:?}"
    );
    assert_eq!(app.get("/api/users/").await, json!([]));
}

/// Sends edits until one is refused. Returns how many were not, and the refusal.
async fn until_refused(
    app: &App,
    user: &str,
    edit: impl Fn(usize) -> (&'static str, String, Value, Option<String>),
) -> (usize, HeaderMap, Value) {
    let refused = async {
        for number in 0.. {
            let (method, path, body, key) = edit(number);
            let mut request = app
                .request(method, &path)
                .header("x-user", user)
                .json(&body);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let reply = request.send().await.unwrap();
            if !reply.status().is_success() {
                assert_eq!(reply.status(), 429);
                let headers = reply.headers().clone();
                return (number, headers, reply.json().await.unwrap());
            }
        }
        unreachable!()
    };
    within_limit("a refusal", refused).await
}

fn rename(number: usize) -> (&'static str, String, Value, Option<String>) {
    let user = json!({"first_name": number.to_string()});
    ("PATCH", "/api/users/1/".into(), user, None)
}

async fn s_edits_beyond_a_principals_rate_are_refused(app: App) {
    app.create_user("Ada", "").await;
    let (edits, headers, problem) = until_refused(&app, "eve", rename).await;
    assert!(edits >= 20, "{edits}");
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(problem["type"], "urn:fieldsync:limit");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("1 edits per second"), "{detail}");
    let user = app.get("/api/users/1/").await;
    assert_eq!(user["first_name"], (edits - 1).to_string());
    // The app's own handlers have the same limit. Each edit of a transaction counts.
    let eve = app.engine.on_behalf_of(Principal::named("eve"));
    let edit = Edit::patch(("users", 1), json!({"last_name": "x"}));
    let refused = eve.transaction(vec![edit.clone(); 20]).await.unwrap_err();
    let is_limit = matches!(refused, EngineError::Refused(Refusal::OverLimit { .. }));
    assert!(is_limit, "{refused:?}");
    // Others may write, and so may the app and clients that nothing is known about.
    assert!(until_refused(&app, "ada", rename).await.0 >= 20);
    app.engine.transaction(vec![edit; 30]).await.unwrap();
    for _ in 0..30 {
        app.create_user("Bob", "").await;
    }
}

async fn s_idempotency_keys_beyond_a_principals_limit_are_not_stored(app: App) {
    let create = |number: usize| {
        let user = json!({"first_name": number.to_string()});
        (
            "POST",
            "/api/users/".into(),
            user,
            Some(format!("key-{number}")),
        )
    };
    let (edits, headers, problem) = until_refused(&app, "eve", create).await;
    assert_eq!(edits, 5, "half of them at once");
    let seconds: u32 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds > 3000, "{seconds}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("10 idempotency keys per day"), "{detail}");
    assert_eq!(app.get("/api/users/").await.as_array().unwrap().len(), 5);
    // What was applied under its key is still answered, and edits without a key go on.
    let send = async |number: usize, has_key: bool| {
        let (method, path, body, key) = create(number);
        let mut request = app
            .request(method, &path)
            .header("x-user", "eve")
            .json(&body);
        if has_key {
            request = request.header("idempotency-key", key.unwrap());
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(0, true).await, 201);
    assert_eq!(send(6, false).await, 201);
    assert_eq!(app.get("/api/users/").await.as_array().unwrap().len(), 6);
    let (edits, ..) = until_refused(&app, "ada", create).await;
    assert_eq!(edits, 5);
}

async fn s_edits_that_fill_the_log_are_refused(app: App) {
    let (_, thing) = app.send("POST", "/api/things/", &json!({})).await;
    let path = format!("/api/things/{}/", thing["id"].as_str().unwrap());
    let patch = |number: usize| {
        let letter = if number.is_multiple_of(2) { "a" } else { "b" };
        let note = json!({"note": letter.repeat(30_000)});
        ("PATCH", path.clone(), note, None)
    };
    // The first is logged with 30 KB, the others with the former value as well.
    let (edits, headers, problem) = until_refused(&app, "eve", patch).await;
    assert_eq!(edits, 3);
    let seconds: u32 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1000..=3600).contains(&seconds), "{seconds}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("200000 bytes of changes per hour"),
        "{detail}"
    );
    let (edits, ..) = until_refused(&app, "ada", |number| patch(number + 1)).await;
    assert!((2..=3).contains(&edits), "{edits}");
}

async fn s_messages_beyond_the_rate_close_the_socket(app: App) {
    let mut socket = Socket::v1(&app).await;
    let unsubscribe = json!({"type": "unsubscribe", "sub": "users"});
    for _ in 0..40 {
        socket.send(&unsubscribe).await;
        socket.expect("unsubscribed").await;
    }
    // The rate lets some more through while this waits for answers.
    for _ in 0..1000 {
        socket.send(&unsubscribe).await;
        if let Err(code) = socket.next().await {
            assert_eq!(code, 1008);
            return;
        }
    }
    panic!("the socket is still open");
}

/// Reads a list to its end, as this user. Returns the number of records on each page, and the places in the links.
async fn pages(app: &App, user: &str, query: &str) -> (Vec<usize>, Vec<String>) {
    let (mut path, mut pages, mut places) = (format!("/api/notes/?{query}"), vec![], vec![]);
    loop {
        let request = app.request("GET", &path).header("x-user", user);
        let reply = within_limit("a page", request.send()).await.unwrap();
        assert_eq!(reply.status(), 200);
        let link = reply.headers().get("link").cloned();
        let page: Vec<Value> = reply.json().await.unwrap();
        assert!(page.iter().all(|note| note["owner"] == user), "{page:?}");
        pages.push(page.len());
        let Some(link) = link else {
            return (pages, places);
        };
        let link = link.to_str().unwrap().trim_start_matches('<');
        path = link.split_once('>').unwrap().0.to_owned();
        let place = path.split_once("after=").unwrap().1;
        places.push(place.split('&').next().unwrap().to_owned());
    }
}

async fn s_a_page_of_many_hidden_records_ends_and_the_next_goes_on(app: App) {
    let notes = (0..1000).map(|number| {
        let owner = if number == 650 || number == 990 {
            "ada"
        } else {
            "bob"
        };
        Edit::create("notes", json!({"owner": owner}))
    });
    app.engine.transaction(notes.collect()).await.unwrap();
    for query in ["limit=1", "limit=50", "limit=50&order=id.desc"] {
        let (read, places) = pages(&app, "eve", query).await;
        assert!(read.len() > 1 && read.len() <= 5, "{query}: {read:?}");
        assert!(read.iter().all(|records| *records == 0), "{read:?}");
        // No place is the id of a record, which would be hidden.
        assert!(places.iter().all(|place| place.len() > 20), "{places:?}");
        let (read, _) = pages(&app, "ada", query).await;
        assert_eq!(read.iter().sum::<usize>(), 2, "{query}: {read:?}");
    }
    // In Rust, a list goes on until it has found something.
    let ada = app.engine.on_behalf_of(Principal::named("ada"));
    let page = ada.list("notes", None, 1).await.unwrap();
    assert_eq!((page.records.len(), page.next.is_some()), (1, true));
}
