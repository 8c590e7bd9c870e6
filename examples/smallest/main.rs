//! The smallest app with a login: axum, SQLite, and notes that everyone with an account may edit.
//!
//! ```sh
//! cargo run --example smallest
//! curl -c cookies -d ada:engine http://127.0.0.1:8004/login
//! curl -b cookies -H 'Content-Type: application/json' -d '{"text": "Hello"}' http://127.0.0.1:8004/api/notes/
//! ```

use std::{collections::HashMap, error::Error, sync::Arc};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::{Router, response::IntoResponse, response::Response, routing::post};
use fieldsync::{Access, Authorizer, Collection, Denied, Engine, Grant, Principal};
use tokio::sync::RwLock;

#[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Note {
    text: String,
}

/// `name:password`. A real app keeps a table of users and hashed passwords.
const ACCOUNTS: [&str; 2] = ["ada:engine", "grace:compiler"];
/// Who is logged in, by session cookie.
type Sessions = Arc<RwLock<HashMap<String, Principal>>>;

async fn log_in(State(sessions): State<Sessions>, account: String) -> Response {
    if !ACCOUNTS.contains(&account.as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let principal = Principal::named(account.split(':').next().unwrap_or_default());
    let cookie = format!("session={}", uuid::Uuid::new_v4());
    sessions.write().await.insert(cookie.clone(), principal);
    [(header::SET_COOKIE, cookie + "; HttpOnly; SameSite=Strict")].into_response()
}

/// The middleware. Without a known cookie the request stays anonymous.
async fn identify(State(sessions): State<Sessions>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(header::COOKIE);
    let cookies = header.and_then(|value| value.to_str().ok()).unwrap_or("");
    for cookie in cookies.split("; ") {
        if let Some(principal) = sessions.read().await.get(cookie).cloned() {
            request.extensions_mut().insert(principal);
            break;
        }
    }
    next.run(request).await
}

#[derive(Debug)]
struct LoggedIn;

#[async_trait::async_trait]
impl Authorizer for LoggedIn {
    async fn authorize(&self, who: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
        let name = who.name().ok_or(Denied::Unauthenticated);
        name.map(|_| Grant::full())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let notes = Collection::of::<Note>("notes").authorize(LoggedIn);
    let store = fieldsync_sqlite::SqliteStore::open("notes.db").await?;
    let engine = Engine::builder().collection(notes).store(store).start();
    let engine = engine.await?;
    let sessions = Sessions::default();
    let app = Router::new()
        .nest("/api", fieldsync_axum::rest(&engine))
        .route("/live", fieldsync_axum::live(&engine))
        .layer(from_fn_with_state(Arc::clone(&sessions), identify))
        .route("/login", post(log_in).with_state(sessions));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8004").await?;
    Ok(axum::serve(listener, app).await?)
}
