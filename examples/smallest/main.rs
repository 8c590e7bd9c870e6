//! The smallest app with a login: axum, SQLite, and notes that everyone with an account may edit.
//!
//!     cargo run --example smallest
//!     curl -c cookies -d ada:engine http://127.0.0.1:8004/login
//!     curl -b cookies -H 'Content-Type: application/json' -d '{"text": "Hello"}' http://127.0.0.1:8004/api/notes/

use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::{Router, extract::Request, response::IntoResponse, response::Response, routing::post};
use fieldsync::{Collection, Engine, Principal, Rules, signed_in};
use std::{collections::BTreeMap, error::Error};
use tokio::sync::RwLock;

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Note {
    text: String,
}

/// Names and passwords. A real app stores hashes of passwords, in a table.
const ACCOUNTS: [(&str, &str); 2] = [("ada", "engine"), ("grace", "compiler")];
static SESSIONS: RwLock<BTreeMap<String, Principal>> = RwLock::const_new(BTreeMap::new());

async fn log_in(body: String) -> Result<impl IntoResponse, StatusCode> {
    let account = body.split_once(':').filter(|pair| ACCOUNTS.contains(pair));
    let principal = Principal::named(account.ok_or(StatusCode::UNAUTHORIZED)?.0);
    let cookie = format!("session={}", uuid::Uuid::new_v4());
    SESSIONS.write().await.insert(cookie.clone(), principal);
    Ok([(header::SET_COOKIE, cookie + "; HttpOnly; SameSite=Strict")])
}

/// The middleware. A request without a known session stays anonymous.
async fn identify(mut request: Request, next: Next) -> Response {
    let cookies = request.headers().get(header::COOKIE);
    let cookies = cookies.and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut cookies = cookies.split("; ");
    let session = cookies.find(|cookie| cookie.starts_with("session="));
    if let Some(principal) = SESSIONS.read().await.get(session.unwrap_or("")) {
        request.extensions_mut().insert(principal.clone());
    }
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rules = Rules::new().read_and_write(signed_in());
    let notes = Collection::of::<Note>("notes").rules(rules);
    let store = fieldsync_sqlite::SqliteStore::open("notes.db").await?;
    let engine = Engine::builder().collection(notes).store(store);
    let engine = engine.start().await?;
    let app = Router::new()
        .nest("/api", fieldsync_axum::rest(&engine))
        .route("/live", fieldsync_axum::live(&engine))
        .layer(from_fn(identify))
        .route("/login", post(log_in));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8004").await?;
    Ok(axum::serve(listener, app).await?)
}
