//! The peers: the app written by hand, with a transaction per request and a broadcast channel to the windows.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, patch};
use axum::{Json, Router};
use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_postgres::NoTls;

use crate::plan::USERS;
use crate::wait::Result;

/// The size of the connection pool: that of `PostgresStore::connect`.
const CONNECTIONS: usize = 16;

/// The state of a handler: the database, and the channel to the subscribers.
type Shared<D> = (D, broadcast::Sender<Value>);
type Reply = std::result::Result<Json<Value>, StatusCode>;

fn app<D: Clone + Send + Sync + 'static>(database: D, update: MethodRouter<Shared<D>>) -> Router {
    let (changes, _) = broadcast::channel(64);
    Router::new()
        .route("/api/users/{id}/", update)
        .with_state((database, changes))
}

/// Sends the user to the subscribers, if there are any, and replies with it.
fn reply(user: Option<Value>, changes: &broadcast::Sender<Value>) -> Reply {
    let user = user.ok_or(StatusCode::NOT_FOUND)?;
    let _ = changes.send(user.clone());
    Ok(Json(user))
}

pub(crate) fn on_sqlite(path: &Path) -> Result<Router> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "pragma journal_mode = wal;
         pragma synchronous = full;
         create table users (id integer primary key autoincrement, first_name varchar(100) not null,
                             last_name varchar(100) not null, updated_at datetime not null);",
    )?;
    for _ in 0..USERS {
        connection.execute(
            "insert into users (first_name, last_name, updated_at) values ('', '', '')",
            [],
        )?;
    }
    Ok(app(
        Arc::new(Mutex::new(connection)),
        patch(update_on_sqlite),
    ))
}

async fn update_on_sqlite(
    State((connection, changes)): State<Shared<Arc<Mutex<Connection>>>>,
    UrlPath(id): UrlPath<i64>,
    Json(body): Json<Value>,
) -> Reply {
    let user = tokio::task::spawn_blocking(move || -> rusqlite::Result<Option<Value>> {
        let mut connection = connection.lock().expect("nothing panics while it is held");
        let transaction = connection.transaction()?;
        let now = fieldsync::Timestamp::now().to_string();
        let sql = "update users set first_name = ?2, updated_at = ?3 where id = ?1 \
                   returning id, first_name, last_name, updated_at";
        let user = transaction
            .prepare_cached(sql)?
            .query_row((id, body["first_name"].as_str(), now), |row| {
                Ok(json!({
                    "id": row.get::<_, i64>(0)?,
                    "first_name": row.get::<_, String>(1)?,
                    "last_name": row.get::<_, String>(2)?,
                    "updated_at": row.get::<_, String>(3)?,
                }))
            })
            .optional()?;
        transaction.commit()?;
        Ok(user)
    });
    let user = user
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    reply(user, &changes)
}

pub(crate) async fn on_postgres(url: &str) -> Result<Router> {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let pool = Pool::builder(Manager::from_config(url.parse()?, NoTls, recycling))
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(5)))
        .build()?;
    pool.get()
        .await?
        .batch_execute(&format!(
            "create table users (id bigint generated always as identity primary key,
                                 first_name varchar(100) not null, last_name varchar(100) not null,
                                 updated_at timestamptz not null);
             create table changes (id bigint generated always as identity primary key,
                                   user_id bigint not null, fields jsonb not null, at timestamptz not null);
             insert into users (first_name, last_name, updated_at)
                 select '', '', now() from generate_series(1, {USERS});"
        ))
        .await?;
    Ok(app(pool, patch(update_on_postgres)))
}

async fn update_on_postgres(
    State((pool, changes)): State<Shared<Pool>>,
    UrlPath(id): UrlPath<i64>,
    Json(body): Json<Value>,
) -> Reply {
    let user = update_and_log(&pool, id, &body)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    reply(user, &changes)
}

async fn update_and_log(
    pool: &Pool,
    id: i64,
    body: &Value,
) -> std::result::Result<Option<Value>, PoolError> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let sql = "select first_name, last_name from users where id = $1 for update";
    let select = transaction.prepare_cached(sql).await?;
    let Some(row) = transaction.query_opt(&select, &[&id]).await? else {
        return Ok(None);
    };
    let (previous, last_name): (String, String) = (row.get(0), row.get(1));
    let first_name = body["first_name"].as_str().unwrap_or(&previous);
    let sql = "update users set first_name = $2, updated_at = now() where id = $1 returning updated_at::text";
    let update = transaction.prepare_cached(sql).await?;
    let row = transaction.query_one(&update, &[&id, &first_name]).await?;
    let updated_at: String = row.get(0);
    let sql = "insert into changes (user_id, fields, at) values ($1, $2::text::jsonb, now())";
    let insert = transaction.prepare_cached(sql).await?;
    let fields = json!({"first_name": first_name}).to_string();
    transaction.execute(&insert, &[&id, &fields]).await?;
    transaction.commit().await?;
    Ok(Some(json!({
        "id": id,
        "first_name": first_name,
        "last_name": last_name,
        "updated_at": updated_at,
    })))
}
