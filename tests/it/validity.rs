//! What a principal has opened ends when its credential expires, and when the principal or its session is revoked: on this node, and
//! on others while the broker is down.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use fieldsync::backend::{Broker, BrokerError, Notification};
use fieldsync::{
    Access, Authorizer, Collection, Cursor, Denied, Edit, Engine, EngineBuilder, EngineError,
    Grant, MemoryStore, Principal, Refusal, Subscription, Timestamp, Update, async_trait,
};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::{App, On, Server, User, on_every_store};
use crate::events::Events;
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_every_store!(
    a_an_expired_principal_is_disconnected_and_refused,
    a_a_socket_of_an_expired_principal_is_closed_before_it_subscribes,
    a_a_revoked_principal_is_disconnected_and_nobody_else,
    a_one_session_is_revoked_alone,
    a_a_principal_that_was_checked_before_a_revocation_opens_nothing,
    a_a_socket_that_takes_nothing_is_closed_by_a_revocation,
    the_revocations_are_no_collection_of_the_app,
    s_a_revocation_is_refused_while_the_engine_drains,
);

type Headers = Vec<(&'static str, String)>;

/// The headers of a login.
fn login(user: &str, session: &str) -> Headers {
    vec![
        ("x-user", user.to_owned()),
        ("x-session", session.to_owned()),
    ]
}

/// The headers of a login that expires at this time.
fn until(user: &str, expires: SystemTime) -> Headers {
    let since = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let micros = since.as_micros().to_string();
    vec![("x-user", user.to_owned()), ("x-expires", micros)]
}

impl App {
    fn with_headers(&self, method: &str, path: &str, headers: &Headers) -> reqwest::RequestBuilder {
        let request = self.request(method, path);
        let headers = headers.iter();
        headers.fold(request, |request, (name, value)| {
            request.header(*name, value)
        })
    }
}

/// A live socket, with what it shows.
struct Window {
    socket: Socket,
    mirror: Mirror,
}

impl Window {
    async fn open(app: &App, headers: &Headers, since: Option<&str>) -> Self {
        let mut socket = Socket::open_with(app, Some("fieldsync.v1"), headers).await;
        socket.subscribe("users", since).await;
        let mut mirror = Mirror::default();
        mirror.cursor = since.map(str::to_owned);
        while !mirror.apply(&socket.next().await.unwrap()) {}
        Self { socket, mirror }
    }

    /// The close code and the reason. Heartbeats may come before them.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.socket.next_or_close().await {
                Ok(message) => assert_eq!(message["type"], "live", "{message}"),
                Err(close) => return close,
            }
        }
    }
}

/// An event stream up to its first `live`.
async fn events(app: &App, headers: &Headers) -> Events {
    let mut events = Events::of(app.with_headers("GET", "/api/users/", headers)).await;
    while events.next().await.unwrap().data["type"] != "live" {}
    events
}

/// The rest of an event stream has no change.
async fn ended(mut events: Events) {
    while let Some(event) = events.next().await {
        assert_ne!(event.data["type"], "change", "{event:?}");
    }
}

/// A live subscription of the Rust API.
async fn subscription(
    engine: &Engine,
    principal: Principal,
    since: Option<Cursor>,
) -> Subscription {
    let caller = engine.on_behalf_of(principal);
    let mut subscription = caller.subscribe("users", since).await.unwrap();
    while !matches!(subscription.next().await, Some(Update::Live { .. })) {}
    subscription
}

/// Creates a user, and waits until the feeds that are open have it: those that open later do not get it.
async fn create(app: &App, name: &str) {
    let before = app.engine.stats().collections["users"].offset;
    let user = User::named(name, "");
    app.engine.collection("users").create(user).await.unwrap();
    app.announced("users", before + 1).await;
}

async fn a_an_expired_principal_is_disconnected_and_refused(app: App) {
    create(&app, "before").await;
    let expires = SystemTime::now() + Duration::from_secs(2);
    let ada = until("ada", expires);
    let mut window = Window::open(&app, &ada, None).await;
    let mut feed = Socket::open_with(&app, None, &ada).await;
    let stream = events(&app, &ada).await;
    let expiring = Principal::named("ada").expires_at(expires);
    let mut in_rust = subscription(&app.engine, expiring.clone(), None).await;
    let get = async |headers| app.with_headers("GET", "/api/users/", headers).send().await;
    assert_eq!(get(&ada).await.unwrap().status(), 200);
    assert!(!expiring.is_expired());

    let expired = (4401, "expired".to_owned());
    assert_eq!(window.closed().await, expired);
    assert!(SystemTime::now() >= expires);
    assert_eq!(feed.next_or_close().await, Err(expired));
    ended(stream).await;
    assert!(within_limit("the end", in_rust.next()).await.is_none());

    create(&app, "while away").await;
    for accept in ["application/json", "text/event-stream"] {
        let request = app.with_headers("GET", "/api/users/", &ada);
        let refused = request.header("accept", accept).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.starts_with("Bearer error=\"invalid_token\""),
            "{challenge}"
        );
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["type"], "urn:fieldsync:expired");
    }
    let patch = app.with_headers("PATCH", "/api/users/1/", &ada);
    let patch = patch.json(&json!({"first_name": "not stored"})).send();
    assert_eq!(patch.await.unwrap().status(), 401);
    let refused = app.engine.on_behalf_of(expiring).get(("users", 1)).await;
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::Denied(Denied::Expired)))
    ));

    // With a fresh credential the client goes on where it was.
    let fresh = until("ada", SystemTime::now() + Duration::from_secs(3600));
    assert_eq!(get(&fresh).await.unwrap().status(), 200);
    let cursor = window.mirror.cursor.unwrap();
    let window = Window::open(&app, &fresh, Some(&cursor)).await;
    let names: Vec<_> = window
        .mirror
        .records
        .values()
        .map(|user| &user["first_name"])
        .collect();
    assert_eq!(names, ["while away"]);
    assert_eq!(window.mirror.resets, Vec::<String>::new());
}

async fn a_a_socket_of_an_expired_principal_is_closed_before_it_subscribes(app: App) {
    let ada = until("ada", SystemTime::now() - Duration::from_secs(1));
    for protocol in [Some("fieldsync.v1"), None] {
        let mut socket = Socket::open_with(&app, protocol, &ada).await;
        let closed = socket.next_or_close().await;
        assert_eq!(closed, Err((4401, "expired".to_owned())), "{protocol:?}");
    }
}

async fn a_a_revoked_principal_is_disconnected_and_nobody_else(app: App) {
    let (home, phone, bob) = (login("ada", "1"), login("ada", "2"), login("bob", "3"));
    let mut windows = [
        Window::open(&app, &home, None).await,
        Window::open(&app, &phone, None).await,
    ];
    let mut feed = Socket::open_with(&app, None, &home).await;
    let stream = events(&app, &home).await;
    let mut in_rust = subscription(&app.engine, Principal::named("ada"), None).await;
    let mut others = [
        Window::open(&app, &bob, None).await,
        Window::open(&app, &Vec::new(), None).await,
    ];
    app.engine.revoke("ada").await.unwrap();
    // The change comes after the revocation: nobody who was revoked sees it.
    create(&app, "new").await;
    let revoked = (4401, "revoked".to_owned());
    for window in &mut windows {
        assert_eq!(window.closed().await, revoked);
    }
    assert_eq!(feed.next_or_close().await, Err(revoked));
    ended(stream).await;
    assert!(within_limit("the end", in_rust.next()).await.is_none());
    for other in &mut others {
        let change = other.socket.expect("change").await;
        assert_eq!(change["fields"]["first_name"], "new");
    }

    // The app has not invalidated the credential, or has made a new one: the client goes on where it was.
    let [window, _] = windows;
    let cursor = window.mirror.cursor.unwrap();
    let mut window = Window::open(&app, &home, Some(&cursor)).await;
    assert_eq!(window.mirror.records.len(), 1);
    create(&app, "newer").await;
    let change = window.socket.expect("change").await;
    assert_eq!(change["fields"]["first_name"], "newer");
}

async fn a_one_session_is_revoked_alone(app: App) {
    let mut home = Window::open(&app, &login("ada", "home"), None).await;
    let mut phone = Window::open(&app, &login("ada", "phone"), None).await;
    // A name is no session.
    let mut namesake = Window::open(&app, &login("phone", "other"), None).await;
    app.engine.revoke_session("phone").await.unwrap();
    assert_eq!(phone.closed().await, (4401, "revoked".to_owned()));
    create(&app, "new").await;
    home.socket.expect("change").await;
    namesake.socket.expect("change").await;
}

async fn a_a_principal_that_was_checked_before_a_revocation_opens_nothing(app: App) {
    let began = std::time::Instant::now();
    let ada = Principal::named("ada");
    let bob = Principal::named("bob");
    app.engine.revoke("ada").await.unwrap();
    let of = async |principal: &Principal| {
        let caller = app.engine.on_behalf_of(principal.clone());
        let mut subscription = caller.subscribe("users", None).await.unwrap();
        subscription.next().await.is_some()
    };
    assert!(!of(&ada).await);
    assert!(of(&bob).await);
    let again = Principal::named("ada");
    assert!(of(&again).await);
    // The app began to check the credential before the revocation, and made the principal after it.
    assert!(!of(&again.checked_at(began)).await);
}

async fn a_a_socket_that_takes_nothing_is_closed_by_a_revocation(app: App) {
    let mut socket = Socket::open_with(&app, Some("fieldsync.v1"), &login("ada", "1")).await;
    socket.subscribe("things", None).await;
    socket.expect("snapshot").await;
    socket.expect("live").await;
    // More than the buffers between the server and this client take.
    let long = "x".repeat(900_000);
    for _ in 0..10 {
        let edit = Edit::create("things", json!({"note": &long}));
        app.engine.transaction(vec![edit]).await.unwrap();
    }
    app.engine.revoke("ada").await.unwrap();
    let canary = Edit::create("things", json!({"note": "canary"}));
    app.engine.transaction(vec![canary]).await.unwrap();
    loop {
        match socket.next_or_close().await {
            Ok(message) => assert_ne!(message["fields"]["note"], "canary"),
            Err(close) => return assert_eq!(close, (4401, "revoked".to_owned())),
        }
    }
}

async fn the_revocations_are_no_collection_of_the_app(app: App) {
    app.engine.revoke("ada").await.unwrap();
    let names: Vec<_> = app.engine.collection_names().collect();
    assert_eq!(names, ["things", "users"]);
    let name = "fieldsync_revocations";
    let reply = app.request("GET", &format!("/api/{name}/")).send().await;
    assert_eq!(reply.unwrap().status(), 404);
    assert!(app.engine.subscribe(name, None).await.is_err());
    let mut socket = Socket::v1(&app).await;
    socket.subscribe(name, None).await;
    assert_eq!(socket.expect("error").await["problem"]["status"], 404);
    let schema = json!({"type": "object"});
    let own = Collection::from_schema(name, &schema)
        .table("notes")
        .open_to_everyone();
    let started = Engine::builder()
        .collection(own)
        .store(MemoryStore::new())
        .start()
        .await;
    let error = started.unwrap_err().to_string();
    assert!(error.contains("reserved"), "{error}");
}

async fn s_a_revocation_is_refused_while_the_engine_drains(app: App) {
    let _ = app.engine.drain(Duration::from_secs(1)).await;
    let revoked = app.engine.revoke("ada").await;
    assert!(matches!(revoked, Err(EngineError::Stopping)));
}

mod while_a_rule_is_asked {
    use super::*;

    on_every_store!(with gated: a_a_revocation_ends_what_it_opens);

    /// The rules that wait: who asks, until the test says so.
    static GATES: LazyLock<Mutex<HashMap<String, Gate>>> = LazyLock::new(Mutex::default);

    /// Notified when the rule is asked, and waited for until it answers.
    type Gate = (Arc<Notify>, Arc<Notify>);

    /// A rule that waits for those who have a gate.
    #[derive(Debug)]
    struct Gated;

    #[async_trait]
    impl Authorizer for Gated {
        async fn authorize(&self, who: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
            let gates = GATES
                .lock()
                .unwrap()
                .get(who.name().unwrap_or_default())
                .cloned();
            if let Some((asked, answer)) = gates {
                asked.notify_one();
                answer.notified().await;
            }
            Ok(Grant::full())
        }
    }

    fn gated() -> EngineBuilder {
        Engine::builder().collection(Collection::of::<User>("users").capture().authorize(Gated))
    }

    async fn a_a_revocation_ends_what_it_opens(app: App) {
        let user = format!("{:?}", app.address);
        let (asked, answer) = Gate::default();
        let gate = (Arc::clone(&asked), Arc::clone(&answer));
        GATES.lock().unwrap().insert(user.clone(), gate);
        let ada = login(&user, "1");

        let mut socket = Socket::open_with(&app, Some("fieldsync.v1"), &ada).await;
        socket.subscribe("users", None).await;
        within_limit("the rule", asked.notified()).await;
        app.engine.revoke(&user).await.unwrap();
        assert_eq!(
            socket.next_or_close().await,
            Err((4401, "revoked".to_owned()))
        );

        let request = app.with_headers("GET", "/api/users/", &ada);
        let opening = tokio::spawn(Events::of(request));
        within_limit("the rule", asked.notified()).await;
        app.engine.revoke(&user).await.unwrap();
        answer.notify_one();
        assert!(opening.await.unwrap().next().await.is_none());

        let engine = app.engine.clone();
        let opening = tokio::spawn(async move {
            let caller = engine.on_behalf_of(Principal::named(user));
            caller.subscribe("users", None).await.unwrap()
        });
        within_limit("the rule", asked.notified()).await;
        app.engine
            .revoke(&format!("{:?}", app.address))
            .await
            .unwrap();
        answer.notify_one();
        assert!(opening.await.unwrap().next().await.is_none());
    }
}

/// A broker that is down.
#[derive(Debug)]
pub(crate) struct Down;

#[async_trait]
impl Broker for Down {
    async fn publish(&self, _: Notification) -> Result<(), BrokerError> {
        Err(BrokerError("it is down".into()))
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notification>, BrokerError> {
        Err(BrokerError("it is down".into()))
    }
}

const POLL: Duration = Duration::from_secs(1);

/// Three nodes on one store, whose broker is down.
async fn nodes(server: Server, on: On) -> Vec<App> {
    let users = || Collection::of::<User>("users").capture().open_to_everyone();
    let builder = || {
        Engine::builder()
            .collection(users())
            .broker(Down)
            .poll_interval(POLL)
    };
    let shared = tempfile::tempdir().unwrap();
    let path = shared.path().join("app.db");
    let memory = MemoryStore::new();
    #[cfg(feature = "services")]
    let url = match on {
        On::Postgres => crate::cluster::fresh_database().await,
        _ => String::new(),
    };
    let mut nodes = Vec::new();
    let mut folders = vec![shared];
    for _ in 0..3 {
        let builder = match on {
            On::Memory => builder().store(memory.clone()),
            On::Sqlite => builder().store(SqliteStore::open(&path).await.unwrap()),
            #[cfg(feature = "services")]
            On::Postgres => {
                let store = fieldsync_postgres::PostgresStore::connect(&url).await;
                builder().store(store.unwrap())
            }
        };
        let folder = folders
            .pop()
            .unwrap_or_else(|| tempfile::tempdir().unwrap());
        nodes.push(App::with(server, builder, folder).await);
    }
    nodes
}

async fn revocations_reach_all_nodes(server: Server, on: On) {
    let nodes = nodes(server, on).await;
    let ada = login("ada", "1");
    let mut windows = Vec::new();
    let mut streams = Vec::new();
    let mut in_rust = Vec::new();
    let mut others = Vec::new();
    for node in &nodes {
        windows.push(Window::open(node, &ada, None).await);
        streams.push(events(node, &ada).await);
        in_rust.push(subscription(&node.engine, Principal::named("ada"), None).await);
        others.push(Window::open(node, &login("bob", "2"), None).await);
    }
    let began = Instant::now();
    nodes[0].engine.revoke("ada").await.unwrap();
    for window in &mut windows {
        assert_eq!(window.closed().await, (4401, "revoked".to_owned()));
    }
    for stream in streams {
        ended(stream).await;
    }
    for subscription in &mut in_rust {
        assert!(within_limit("the end", subscription.next()).await.is_none());
    }
    let took = began.elapsed();
    assert!(
        took <= POLL + Duration::from_millis(500),
        "it took {took:?}"
    );
    create(&nodes[1], "new").await;
    for other in &mut others {
        other.socket.expect("change").await;
    }
    // Two at once, from two nodes: of one principal, and of a session of another.
    windows.clear();
    for node in &nodes {
        windows.push(Window::open(node, &ada, None).await);
    }
    let (one, two) = tokio::join!(
        nodes[1].engine.revoke("ada"),
        nodes[2].engine.revoke_session("2")
    );
    one.unwrap();
    two.unwrap();
    for window in windows.iter_mut().chain(&mut others) {
        assert_eq!(window.closed().await, (4401, "revoked".to_owned()));
    }
}

macro_rules! on_three_nodes {
    ($($name:ident $server:ident $on:ident),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            revocations_reach_all_nodes(Server::$server, On::$on).await;
        })+
    };
}
on_three_nodes!(
    b_revocations_reach_all_nodes_in_memory Axum Memory,
    b_revocations_reach_all_nodes_on_sqlite Axum Sqlite,
    b_revocations_reach_all_nodes_by_actix_on_sqlite Actix Sqlite,
);
#[cfg(feature = "services")]
on_three_nodes!(
    b_revocations_reach_all_nodes_on_postgres Axum Postgres,
    b_revocations_reach_all_nodes_by_actix_on_postgres Actix Postgres,
);

/// A restored database may lack revocations. Then the app checks the credentials again of all who can be revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_who_can_be_revoked_connects_again_when_revocations_were_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let users = Collection::of::<User>("users").capture().open_to_everyone();
    let builder = Engine::builder().collection(users);
    let store = SqliteStore::open(&path).await.unwrap();
    let app = App::with(Server::Axum, builder.store(store), folder).await;
    let mut ada = Window::open(&app, &login("ada", "1"), None).await;
    let mut anonymous = Window::open(&app, &Vec::new(), None).await;
    let sql = "update fieldsync_heads set epoch = epoch + 1 where log = 'fieldsync_revocations'";
    let database = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(database.execute(sql, []).unwrap(), 1);
    let (code, reason) = ada.closed().await;
    assert_eq!(code, 1012);
    assert!(reason.starts_with("retry-after-ms="), "{reason}");
    create(&app, "new").await;
    anonymous.socket.expect("change").await;
    // Revocations go on in the new log.
    let mut ada = Window::open(&app, &login("ada", "1"), None).await;
    app.engine.revoke("ada").await.unwrap();
    assert_eq!(ada.closed().await, (4401, "revoked".to_owned()));
}

#[test]
fn a_time_of_ours_is_a_time_of_the_system() {
    let time: Timestamp = "1969-12-31T23:59:59.5Z".parse().unwrap();
    let before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
    assert_eq!(SystemTime::from(time), before);
}
