//! Handlers of the app's own, beside the REST routes: who makes the request, and errors of the engine as responses.

use std::net::SocketAddr;
use std::time::Duration;

use fieldsync::{Access, Collection, Denied, Engine, EngineError, Fields, Grant, MemoryStore};
use fieldsync::{Principal, RecordKey, Refusal};
use serde_json::json;

use crate::app::Rule;

async fn engine() -> Engine {
    let schema =
        json!({"type": "object", "properties": {"text": {"type": "string", "default": ""}}});
    let rule = |user: &str, _: Access| match user {
        "ada" => Ok(Grant::full()),
        "" => Err(Denied::Unauthenticated),
        _ => Err(Denied::Forbidden),
    };
    let notes = Collection::from_schema("notes", &schema).authorize(Rule(rule));
    let builder = Engine::builder().collection(notes);
    builder.store(MemoryStore::new()).start().await.unwrap()
}

/// The text of a note, or a refusal of the handler's own for the id 13.
async fn read(engine: &Engine, principal: Principal, id: i64) -> Result<String, EngineError> {
    let key = RecordKey::new("notes", id);
    if id == 13 {
        return Err(Refusal::NotFound(key).into());
    }
    let read = engine.on_behalf_of(principal).get(key).await?;
    Ok(json!(read.record).to_string())
}

async fn serve_by_axum(engine: Engine) -> SocketAddr {
    use axum::Router;
    use axum::extract::{Path, Request, State};
    use axum::middleware::{Next, from_fn};
    use axum::routing::get;
    use fieldsync_axum::{Error, Principal};

    async fn whoami(Principal(principal): Principal) -> String {
        principal.name().unwrap_or("nobody").to_owned()
    }
    async fn note(
        State(engine): State<Engine>,
        Principal(principal): Principal,
        Path(id): Path<i64>,
    ) -> Result<String, Error> {
        Ok(read(&engine, principal, id).await?)
    }
    async fn log_in(mut request: Request, next: Next) -> axum::response::Response {
        if let Some(name) = request.headers().get("x-user") {
            let principal = fieldsync::Principal::named(name.to_str().unwrap());
            request.extensions_mut().insert(principal);
        }
        next.run(request).await
    }

    let app = Router::new()
        .nest("/api", fieldsync_axum::rest(&engine))
        .route("/whoami", get(whoami))
        .route("/own/notes/{id}", get(note))
        .layer(from_fn(log_in))
        .with_state(engine);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn serve_by_actix(engine: Engine) -> SocketAddr {
    use actix_web::dev::{Service as _, ServiceRequest};
    use actix_web::web::{Data, Path, get, scope};
    use actix_web::{App, HttpMessage as _, HttpServer};
    use fieldsync_actix::{Error, Principal};

    async fn whoami(Principal(principal): Principal) -> String {
        principal.name().unwrap_or("nobody").to_owned()
    }
    async fn note(
        engine: Data<Engine>,
        Principal(principal): Principal,
        id: Path<i64>,
    ) -> Result<String, Error> {
        Ok(read(&engine, principal, *id).await?)
    }

    let app = move || {
        App::new()
            .wrap_fn(|request: ServiceRequest, service| {
                if let Some(name) = request.headers().get("x-user") {
                    let principal = fieldsync::Principal::named(name.to_str().unwrap());
                    request.extensions_mut().insert(principal);
                }
                service.call(request)
            })
            .service(scope("/api").service(fieldsync_actix::rest(&engine)))
            .app_data(Data::new(engine.clone()))
            .route("/whoami", get().to(whoami))
            .route("/own/notes/{id}", get().to(note))
    };
    let server = HttpServer::new(app).workers(1).disable_signals();
    let server = server.bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    tokio::spawn(server.run());
    address
}

/// Sends a GET, as the user if there is one.
async fn ask(address: SocketAddr, path: &str, user: Option<&str>) -> reqwest::Response {
    let request = reqwest::Client::new().get(format!("http://{address}{path}"));
    let request = match user {
        Some(user) => request.header("x-user", user),
        None => request,
    };
    request.send().await.unwrap()
}

/// What is compared between two responses.
async fn likeness(response: reqwest::Response) -> (u16, Vec<Option<String>>, String) {
    let names = [
        "content-type",
        "cache-control",
        "www-authenticate",
        "retry-after",
        "content-length",
    ];
    let header = |name| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
    let headers = names.map(header).to_vec();
    let status = response.status().as_u16();
    (status, headers, response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_gets_the_principal_that_the_login_left_or_the_anonymous_one() {
    let engine = engine().await;
    for address in [serve_by_axum(engine.clone()).await, serve_by_actix(engine)] {
        for (user, name) in [(Some("ada"), "ada"), (None, "nobody")] {
            let response = ask(address, "/whoami", user).await;
            assert_eq!(response.text().await.unwrap(), name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_handler_is_the_same_response_as_in_the_rest_routes() {
    let engine = engine().await;
    let note = engine
        .collection("notes")
        .create(Fields::new())
        .await
        .unwrap();
    let servers = [
        serve_by_axum(engine.clone()).await,
        serve_by_actix(engine.clone()),
    ];
    let cases = [
        (2, Some("ada"), 404),
        (13, Some("ada"), 404),
        (1, Some("bob"), 403),
        (1, None, 401),
    ];
    for address in servers {
        let own = ask(address, &format!("/own/notes/{}", note.id), Some("ada")).await;
        assert_eq!(own.status(), 200);
        for (id, user, status) in cases {
            let rest = ask(address, &format!("/api/notes/{id}"), user).await;
            let own = ask(address, &format!("/own/notes/{id}"), user).await;
            assert_eq!(own.status(), status);
            assert_eq!(
                likeness(own).await,
                likeness(rest).await,
                "{id} as {user:?}"
            );
        }
    }
    assert!(engine.drain(Duration::from_secs(5)).await.is_complete());
}
