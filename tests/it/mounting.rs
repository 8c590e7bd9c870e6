//! The ways in which people mount the routes into their apps. For each: every method on every route, what is not there,
//! `Location`, and the app's own routes.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::routing::get;
use axum::{Router, ServiceExt as _};
use fieldsync::adapter::MountPath;
use fieldsync::{Engine, MemoryStore};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_layer::Layer as _;

use crate::app::builder;
use crate::socket::Socket;
use crate::third_adapter::{Live, Rest};

async fn engine() -> Engine {
    builder().store(MemoryStore::new()).start().await.unwrap()
}

/// What the app's own routes and fallback answer.
async fn page() -> &'static str {
    "the app's page"
}

struct Mounted {
    way: &'static str,
    address: SocketAddr,
    /// The path at which the routes are.
    prefix: &'static str,
}

impl Mounted {
    async fn axum(way: &'static str, prefix: &'static str, app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            way,
            address,
            prefix,
        }
    }

    async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Response {
        let url = format!("http://{}{}{path}", self.address, self.prefix);
        let request = Client::new().request(method.parse().unwrap(), url);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.unwrap()
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.request(method, path, None).await.status().as_u16()
    }

    async fn check(&self) {
        let Self { way, prefix, .. } = self;
        let user = || Some(json!({"first_name": "Ada", "last_name": "Lovelace"}));
        for (path, id) in [("/users/", 1), ("/users", 2)] {
            let made = self.request("POST", path, user()).await;
            assert_eq!(made.status(), 201, "{way} {path}");
            let location = made.headers()["location"].to_str().unwrap();
            assert_eq!(location, format!("{prefix}/users/{id}/"), "{way}");
        }
        let next = self.request("GET", "/users/?limit=1", None).await;
        let next = next.headers()["link"].to_str().unwrap().to_owned();
        assert!(
            next.starts_with(&format!("<{prefix}/users/?")),
            "{way}: {next}"
        );
        for (path, methods) in [
            (
                "/users",
                [
                    ("GET", 200),
                    ("HEAD", 200),
                    ("OPTIONS", 204),
                    ("PUT", 405),
                    ("DELETE", 405),
                ],
            ),
            (
                "/users/1",
                [
                    ("GET", 200),
                    ("HEAD", 200),
                    ("OPTIONS", 204),
                    ("PUT", 405),
                    ("POST", 405),
                ],
            ),
            (
                "/users/9",
                [
                    ("GET", 404),
                    ("HEAD", 404),
                    ("OPTIONS", 204),
                    ("DELETE", 404),
                    ("PUT", 405),
                ],
            ),
            (
                "/users/1/2",
                [
                    ("GET", 404),
                    ("HEAD", 404),
                    ("OPTIONS", 404),
                    ("DELETE", 404),
                    ("PUT", 404),
                ],
            ),
        ] {
            for (method, status) in methods {
                for slash in ["", "/"] {
                    let path = format!("{path}{slash}");
                    assert_eq!(
                        self.status(method, &path).await,
                        status,
                        "{way}: {method} {path}"
                    );
                }
            }
        }
        let missing = self.request("GET", "/users/9/", None).await;
        assert_eq!(
            missing.headers()["content-type"],
            "application/problem+json",
            "{way}"
        );
        let change = Some(json!({"first_name": "Augusta"}));
        let patched = self.request("PATCH", "/users/1/", change).await;
        assert_eq!(
            patched.json::<Value>().await.unwrap()["first_name"],
            "Augusta",
            "{way}"
        );
        assert_eq!(self.status("DELETE", "/users/2").await, 204, "{way}");
        // The app's own route, and its WebSocket beside it.
        let own = Client::new().get(format!("http://{}/about", self.address));
        let own = own.send().await.unwrap().text().await.unwrap();
        assert_eq!(own, "the app's page", "{way}");
        let address = self.address.to_string();
        let socket = Socket::open_at(&address, Some("fieldsync.v1")).await;
        assert!(socket.is_some(), "{way}");
    }

    /// An unknown path is the app's.
    async fn check_fallback(&self) {
        for path in ["/nothing/", "/nothing/1", "/usersx/"] {
            let reply = self.request("GET", path, None).await.text().await.unwrap();
            assert_eq!(reply, "the app's page", "{} {path}", self.way);
        }
    }
}

/// A router with the app's own routes.
fn app<S: Clone + Send + Sync + 'static>(engine: &Engine) -> Router<S> {
    Router::new()
        .route("/about", get(page))
        .route("/ws/user-updates/", fieldsync_axum::live(engine))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_mounting_works_under_axum() {
    use fieldsync_axum::rest;
    type Mount = fn(&Engine) -> Router;
    let ways: [(&str, &str, Mount); 13] = [
        ("nested once", "/api", |e| app(e).nest("/api", rest(e))),
        ("nested twice", "/v1/api", |e| {
            app(e).nest("/v1", Router::new().nest("/api", rest(e)))
        }),
        ("nested below a parameter", "/t/7/api", |e| {
            app(e).nest("/t/{id}/api", rest(e))
        }),
        ("nested as a service", "/api", |e| {
            app(e).nest_service("/api", rest::<()>(e))
        }),
        ("merged", "", |e| app(e).merge(rest(e))),
        ("the app merged into it", "", |e| rest(e).merge(app(e))),
        ("merged beside a catch-all", "", |e| {
            app(e).merge(rest(e)).route("/{*path}", get(page))
        }),
        ("beside a catch-all", "/api", |e| {
            app(e).route("/{*path}", get(page)).nest("/api", rest(e))
        }),
        ("merged before a fallback", "", |e| {
            app(e).merge(rest(e)).fallback(page)
        }),
        ("merged after a fallback", "", |e| {
            app(e).fallback(page).merge(rest(e))
        }),
        ("nested before a fallback", "/api", |e| {
            app(e).nest("/api", rest(e)).fallback(page)
        }),
        ("nested after a fallback", "/api", |e| {
            app(e).fallback(page).nest("/api", rest(e))
        }),
        ("with layers", "/api", |e| {
            let rest = rest(e).layer(middleware::from_fn(pass));
            app(e).nest("/api", rest).layer(middleware::from_fn(pass))
        }),
    ];
    for (way, prefix, mount) in ways {
        let mounted = Mounted::axum(way, prefix, mount(&engine().await)).await;
        mounted.check().await;
        if way.contains("catch-all") || way.contains("a fallback") {
            mounted.check_fallback().await;
        }
    }
    // With the app's state.
    let engine = engine().await;
    let with_state = app::<u8>(&engine)
        .route(
            "/number",
            get(|State(number): State<u8>| async move { number.to_string() }),
        )
        .nest("/api", fieldsync_axum::rest(&engine))
        .with_state(7);
    Mounted::axum("with state", "/api", with_state)
        .await
        .check()
        .await;
}

async fn pass(request: Request, next: Next) -> axum::response::Response {
    next.run(request).await
}

/// A middleware around the whole app that removes a prefix, as people write it.
async fn strip(mut request: Request, next: Next) -> axum::response::Response {
    let uri = request.uri().to_string();
    if let Some(rest) = uri.strip_prefix("/behind/proxy") {
        *request.uri_mut() = rest.parse().unwrap();
        request
            .extensions_mut()
            .insert(MountPath::new("/behind/proxy"));
    }
    next.run(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_a_middleware_removes_is_part_of_location() {
    let engine = engine().await;
    let inner = app(&engine).nest("/api", fieldsync_axum::rest(&engine));
    // A layer of a router runs after its routing.
    let outer = Router::new()
        .fallback_service(inner.clone())
        .layer(middleware::from_fn(strip));
    Mounted::axum("in a router", "/behind/proxy/api", outer)
        .await
        .check()
        .await;
    // Around the router there is none that keeps the original URI.
    let engine = self::engine().await;
    let inner = app(&engine).nest("/api", fieldsync_axum::rest(&engine));
    let around = middleware::from_fn(strip).layer(inner);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mounted = Mounted {
        way: "around the router",
        address: listener.local_addr().unwrap(),
        prefix: "/behind/proxy/api",
    };
    tokio::spawn(async move { axum::serve(listener, around.into_make_service()).await });
    mounted.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_name_is_answered_like_a_path_of_nothing() {
    let engine = engine().await;
    let rest = fieldsync_axum::rest(&engine).fallback(fieldsync_axum::not_found);
    let mounted = Mounted::axum("with not_found", "/api", app(&engine).nest("/api", rest)).await;
    let reply = mounted.request("GET", "/nothing/", None).await;
    assert_eq!(reply.status(), 404);
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_mounting_works_under_actix() {
    use actix_web::web::{ServiceConfig, scope, to};
    use fieldsync_actix::{live, rest};
    async fn own() -> &'static str {
        page().await
    }
    type Mount = fn(&Engine, &mut ServiceConfig);
    let ways: [(&str, &str, Mount); 7] = [
        ("in a scope", "/api", |e, app| {
            app.service(scope("/api").service(rest(e)));
        }),
        ("in two scopes", "/v1/api", |e, app| {
            app.service(scope("/v1").service(scope("/api").service(rest(e))));
        }),
        ("below a parameter", "/t/7/api", |e, app| {
            app.service(scope("/t/{id}/api").service(rest(e)));
        }),
        ("at the root", "", |e, app| {
            app.service(rest(e));
        }),
        ("in an empty scope", "", |e, app| {
            app.route("/about", to(own))
                .route("/ws/user-updates/", live(e));
            app.service(scope("").service(rest(e)));
        }),
        ("before a fallback", "", |e, app| {
            app.service(rest(e)).default_service(to(own));
        }),
        ("after a fallback", "/api", |e, app| {
            app.default_service(to(own))
                .service(scope("/api").service(rest(e)));
        }),
    ];
    for (way, prefix, mount) in ways {
        let engine = engine().await;
        let server = actix_web::HttpServer::new(move || {
            let configure = |app: &mut ServiceConfig| {
                mount(&engine, app);
                // After the routes of the collections.
                app.route("/about", to(own))
                    .route("/ws/user-updates/", live(&engine));
            };
            actix_web::App::new().configure(configure)
        });
        let server = server
            .workers(1)
            .disable_signals()
            .bind("127.0.0.1:0")
            .unwrap();
        let mounted = Mounted {
            way,
            address: server.addrs()[0],
            prefix,
        };
        tokio::spawn(server.run());
        mounted.check().await;
        if way.contains("a fallback") {
            mounted.check_fallback().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_mounting_works_under_poem() {
    use poem::listener::{Acceptor as _, Listener as _, TcpListener};
    use poem::{Route, Server, get, handler};
    #[handler]
    fn own() -> &'static str {
        "the app's page"
    }
    type Mount = fn(Rest, Route) -> Route;
    let ways: [(&str, &str, Mount); 3] = [
        ("nested once", "/api", |rest, app| app.nest("/api", rest)),
        ("nested twice", "/v1/api", |rest, app| {
            app.nest("/v1", Route::new().nest("/api", rest))
        }),
        ("beside a catch-all", "/api", |rest, app| {
            app.at("/*path", get(own)).nest("/api", rest)
        }),
    ];
    for (way, prefix, mount) in ways {
        let engine = engine().await;
        let app = Route::new()
            .at("/about", get(own))
            .at("/ws/user-updates/", Live(engine.clone()));
        let app = mount(Rest(engine), app);
        let acceptor = TcpListener::bind("127.0.0.1:0")
            .into_acceptor()
            .await
            .unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        tokio::spawn(Server::new_with_acceptor(acceptor).run(app));
        Mounted {
            way,
            address,
            prefix,
        }
        .check()
        .await;
    }
}
