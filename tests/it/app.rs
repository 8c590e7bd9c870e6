//! An app that uses fieldsync, on a given store and under a given web framework.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::ListenerExt as _;
use fieldsync::{
    Access, Action, Authorizer, Collection, Denied, Engine, EngineBuilder, FieldErrors, Grant,
    Limits, MemoryStore, Principal, Timestamp,
};
use fieldsync_sqlite::SqliteStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::tasks::within_limit;
use crate::third_adapter::{Live, Rest};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct User {
    #[schemars(length(max = 100))]
    pub(crate) first_name: String,
    #[schemars(length(max = 100))]
    pub(crate) last_name: String,
}

impl User {
    pub(crate) fn named(first_name: &str, last_name: &str) -> Self {
        Self {
            first_name: first_name.into(),
            last_name: last_name.into(),
        }
    }
}

/// A record with every type of field, and a UUID as its id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Thing {
    pub(crate) flag: bool,
    pub(crate) count: i32,
    pub(crate) ratio: f64,
    pub(crate) note: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) due: Option<String>,
    pub(crate) tags: Vec<String>,
    #[schemars(extend("type" = "object"))]
    pub(crate) settings: serde_json::Map<String, Value>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum On {
    Memory,
    #[cfg(feature = "services")]
    Postgres,
    Sqlite,
}

/// The web framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Actix,
    Axum,
    /// Through the adapter of `examples/third_adapter`.
    Poem,
}

/// A running app. Its tasks end with the test's runtime.
pub(crate) struct App {
    pub(crate) server: Server,
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    _folder: tempfile::TempDir,
}

pub(crate) fn builder() -> EngineBuilder {
    let users = Collection::of::<User>("users")
        .timestamps()
        .capture()
        .validate(|_: Option<&User>, after: &User| {
            if after.first_name == "Voldemort" {
                return Err(FieldErrors::one("first_name", "must not be named"));
            }
            Ok(())
        });
    Engine::builder()
        .collection(users.open_to_everyone())
        .collection(
            Collection::of::<Thing>("things")
                .uuid_ids()
                .open_to_everyone(),
        )
        .feed("users", |change| match change.action {
            Action::Delete => {
                json!({"type": "user_update", "data": {"action": "delete", "user_id": change.id}})
            }
            action => {
                json!({"type": "user_update", "data": {"action": action, "user": change.record}})
            }
        })
        .allow_origin("https://friend.example")
}

/// The usual limits but for these.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

impl App {
    pub(crate) async fn start(server: Server, on: On, builder: EngineBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let builder = match on {
            On::Memory => builder.store(MemoryStore::new()),
            #[cfg(feature = "services")]
            On::Postgres => {
                let url = crate::cluster::fresh_database().await;
                let store = fieldsync_postgres::PostgresStore::connect(&url).await;
                builder.store(store.unwrap())
            }
            On::Sqlite => builder.store(
                SqliteStore::open(folder.path().join("app.db"))
                    .await
                    .unwrap(),
            ),
        };
        Self::with(server, builder, folder).await
    }

    /// Starts an app whose builder has a store already. The folder is deleted with the app.
    pub(crate) async fn with(
        server: Server,
        builder: EngineBuilder,
        folder: tempfile::TempDir,
    ) -> Self {
        let engine = builder.start().await.unwrap();
        let address = match server {
            Server::Actix => listen_by_actix(&engine),
            Server::Axum => listen_by_axum(&engine).await,
            Server::Poem => listen_by_poem(&engine).await,
        };
        Self {
            server,
            engine,
            address,
            http: reqwest::Client::new(),
            _folder: folder,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), self.url(path))
    }

    /// Sends JSON. Returns the status and the JSON of the reply, or null for none.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let reply = self.request(method, path).json(body).send().await.unwrap();
        let status = reply.status().as_u16();
        (
            status,
            serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or_default(),
        )
    }

    pub(crate) async fn create_user(&self, first_name: &str, last_name: &str) -> i64 {
        let user = json!({"first_name": first_name, "last_name": last_name});
        let (status, user) = self.send("POST", "/api/users/", &user).await;
        assert_eq!(status, 201, "{user}");
        user["id"].as_i64().unwrap()
    }

    /// Waits until this number of changes of a collection was announced, which comes after the replies to their edits.
    pub(crate) async fn announced(&self, collection: &str, changes: u64) {
        let announced = async {
            while self.engine.stats().collections[collection].offset < changes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within_limit("an announcement", announced).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request("GET", path)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

async fn listen_by_axum(engine: &Engine) -> SocketAddr {
    let app = Router::new()
        .nest(
            "/api",
            fieldsync_axum::rest(engine).fallback(fieldsync_axum::not_found),
        )
        .route("/api/", fieldsync_axum::events(engine))
        .route("/ws/user-updates/", fieldsync_axum::live(engine))
        .route("/healthz", fieldsync_axum::healthz(engine))
        .route("/readyz", fieldsync_axum::readyz(engine))
        .layer(middleware::from_fn(log_in));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.tap_io(fieldsync_axum::limit_writes);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A claim of the login of the tests.
pub(crate) struct Role(pub(crate) String);

/// The login of the tests. The headers are trusted: `x-user` with the name, `x-limit-key`, `x-role`, `x-session`, and `x-expires` with the
/// microseconds since 1970.
fn principal<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Principal> {
    let text = |name| header(name).map(|value| str::from_utf8(value).unwrap().to_owned());
    let limit_key = text("x-limit-key");
    let mut principal = match text("x-user") {
        Some(name) => Principal::named(name),
        None if limit_key.is_some() => Principal::anonymous(),
        None => return None,
    };
    if let Some(key) = limit_key {
        principal = principal.limit_key(key);
    }
    if let Some(role) = text("x-role") {
        principal = principal.with(Role(role));
    }
    if let Some(session) = text("x-session") {
        principal = principal.session(session);
    }
    if let Some(expires) = text("x-expires") {
        let micros = expires.parse().unwrap();
        principal = principal.expires_at(Timestamp::from_micros(micros).unwrap());
    }
    Some(principal)
}

async fn log_in(mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Some(principal) = principal(|name| headers.get(name).map(|value| value.as_bytes())) {
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

fn listen_by_actix(engine: &Engine) -> SocketAddr {
    use actix_web::dev::{Service as _, ServiceRequest};
    use actix_web::{App, HttpMessage as _, HttpServer, web};
    let engine = engine.clone();
    let app = move || {
        App::new()
            .wrap_fn(|request: ServiceRequest, service| {
                let headers = request.headers();
                let header = |name: &str| headers.get(name).map(|value| value.as_bytes());
                if let Some(principal) = principal(header) {
                    request.extensions_mut().insert(principal);
                }
                service.call(request)
            })
            .route("/api/", fieldsync_actix::events(&engine))
            .service(
                web::scope("/api")
                    .service(fieldsync_actix::rest(&engine))
                    .default_service(web::to(fieldsync_actix::not_found)),
            )
            .route("/ws/user-updates/", fieldsync_actix::live(&engine))
            .route("/healthz", fieldsync_actix::healthz(&engine))
            .route("/readyz", fieldsync_actix::readyz(&engine))
    };
    let server = HttpServer::new(app).workers(1).disable_signals();
    let server = server.on_connect(fieldsync_actix::limit_writes);
    let server = server.bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    tokio::spawn(server.run());
    address
}

async fn listen_by_poem(engine: &Engine) -> SocketAddr {
    use poem::listener::{Acceptor as _, Listener as _, TcpListener};
    use poem::{EndpointExt as _, Route, Server};
    let app = Route::new()
        .nest("/api", Rest(engine.clone()))
        .at("/ws/user-updates/", Live(engine.clone()))
        .before(async |mut request: poem::Request| {
            if let Some(principal) = principal(|name| request.header(name).map(str::as_bytes)) {
                request.set_data(principal);
            }
            Ok(request)
        });
    let acceptor = TcpListener::bind("127.0.0.1:0")
        .into_acceptor()
        .await
        .unwrap();
    let address = acceptor.local_addr()[0].as_socket_addr().copied().unwrap();
    tokio::spawn(Server::new_with_acceptor(acceptor).run(app));
    address
}

/// An authorizer that never returns.
#[derive(Debug)]
pub(crate) struct Never;

#[async_trait]
impl Authorizer for Never {
    async fn authorize(&self, _: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
        std::future::pending().await
    }
}

/// An authorizer that calls a function.
pub(crate) struct Rule<F>(pub(crate) F);

#[async_trait]
impl<F> Authorizer for Rule<F>
where
    F: Fn(&str, Access) -> Result<Grant, Denied> + Send + Sync + 'static,
{
    async fn authorize(&self, who: &Principal, access: Access, _: &str) -> Result<Grant, Denied> {
        (self.0)(who.name().unwrap_or_default(), access)
    }
}

impl<F> fmt::Debug for Rule<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rule")
    }
}

/// Makes one test per store and web framework of each case. `with name:` gives another builder than the usual one, and `in name:` a type that
/// starts what the cases take.
macro_rules! on_every_store {
    (with $builder:ident: $($case:ident),+ $(,)?) => {
        $crate::app::on_every_store!(
            (|server, on| $crate::app::App::start(server, on, super::$builder())): $($case),+
        );
    };
    (in $world:ident: $($case:ident),+ $(,)?) => {
        $crate::app::on_every_store!((super::$world::start): $($case),+);
    };
    ($start:tt: $($case:ident),+) => {
        $crate::app::on_every_store!(on_memory Axum Memory $start: $($case),+);
        $crate::app::on_every_store!(on_sqlite Axum Sqlite $start: $($case),+);
        $crate::app::on_every_store!(by_actix Actix Sqlite $start: $($case),+);
        #[cfg(feature = "services")]
        $crate::app::on_every_store!(on_postgres Axum Postgres $start: $($case),+);
        #[cfg(feature = "services")]
        $crate::app::on_every_store!(by_actix_on_postgres Actix Postgres $start: $($case),+);
        $crate::app::on_every_store!(by_poem Poem Memory $start: $($case),+);
    };
    ($name:ident $server:ident $on:ident $start:tt: $($case:ident),+) => {
        mod $name {
            use $crate::app::{On, Server};

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case($start(Server::$server, On::$on).await).await;
            })+
        }
    };
    ($($case:ident),+ $(,)?) => {
        use $crate::app::builder as usual;
        $crate::app::on_every_store!(with usual: $($case),+);
    };
}
pub(crate) use on_every_store;
