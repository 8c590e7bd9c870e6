//! The measured process: serves fieldsync, a peer or the floor, and makes changes when a line on standard input says so.

use std::path::Path;

use actix_web::{App, HttpServer, web};
use axum::Router;
use axum::serve::ListenerExt as _;
use clap::Args;
use fieldsync::{Collection, Edit, Engine, MemoryStore};
use fieldsync_postgres::PostgresStore;
use fieldsync_redis::RedisBroker;
use fieldsync_sqlite::SqliteStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::client::text_frame;
use crate::hand_written;
use crate::kind::ServerKind;
use crate::plan::USERS;
use crate::wait::Result;

/// The services of a measured process.
#[derive(Debug, Args)]
pub(crate) struct Services {
    /// The PostgreSQL database.
    #[arg(long, default_value = "")]
    database: String,
    /// The Redis through which nodes notify each other.
    #[arg(long)]
    redis: Option<String>,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct User {
    first_name: String,
    last_name: String,
}

/// A row of a collection that only another program writes.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Item {
    name: String,
}

/// Prints the address, and serves until the process is killed or its standard input ends.
pub(crate) async fn serve(kind: ServerKind, folder: &Path, services: &Services) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut builder = Engine::builder();
    if let Some(redis) = &services.redis {
        builder = builder.broker(RedisBroker::connect(redis).await?);
    }
    let engine = match kind {
        ServerKind::Sqlite => {
            let store = SqliteStore::open(folder.join("ours.db")).await?;
            start(builder.store(store), users()).await?
        }
        ServerKind::SqliteWithoutCapture => {
            let store = SqliteStore::open(folder.join("ours.db")).await?;
            start(builder.store(store), users().without_capture()).await?
        }
        ServerKind::Memory | ServerKind::Actix => {
            start(builder.store(MemoryStore::new()), users()).await?
        }
        ServerKind::Postgres | ServerKind::PostgresWithoutCapture => {
            let store = PostgresStore::connect(&services.database).await?;
            let users = match kind {
                ServerKind::Postgres => users(),
                _ => users().without_capture(),
            };
            start(builder.store(store), users).await?
        }
        ServerKind::PostgresByIntrospection => {
            let store = PostgresStore::connect(&services.database).await?;
            let users = Collection::from_table(&store, "users").await?;
            let users = users.timestamps_as("created_at", "updated_at");
            start(builder.store(store), users.capture().open_to_everyone()).await?
        }
        ServerKind::HandWritten | ServerKind::HandWrittenPostgres => {
            let app = match kind {
                ServerKind::HandWritten => hand_written::on_sqlite(&folder.join("theirs.db"))?,
                _ => hand_written::on_postgres(&services.database).await?,
            };
            println!("{address}");
            return Ok(axum::serve(listener.tap_io(no_delay), app).await?);
        }
        ServerKind::Floor => {
            println!("{address}");
            let (changes, _) = broadcast::channel(64);
            tokio::spawn(floor(listener, changes.clone()));
            return on_command(async |count| {
                for number in 0..count {
                    changes.send(text_frame(&message(number)))?;
                }
                Ok(())
            })
            .await;
        }
    };
    if matches!(kind, ServerKind::Actix) {
        tokio::spawn(under_actix(listener.into_std()?, &engine)?);
    } else {
        tokio::spawn(under_axum(listener, engine.clone()));
    }
    println!("{address}");
    on_command(async |count| change(&engine, count).await).await
}

fn no_delay(stream: &mut tokio::net::TcpStream) {
    // Otherwise a write waits until the peer has acknowledged the one before.
    let _ = stream.set_nodelay(true);
}

fn users() -> Collection {
    let users = Collection::of::<User>("users");
    users.timestamps().open_to_everyone()
}

async fn start(builder: fieldsync::EngineBuilder, users: Collection) -> Result<Engine> {
    let items = Collection::of::<Item>("items").open_to_everyone();
    let engine = builder.collection(users).collection(items).start().await?;
    if engine.collection::<User>("users").get(1).await?.is_some() {
        // Another node created them.
        return Ok(engine);
    }
    let create = || Edit::create("users", json!({"first_name": "", "last_name": ""}));
    engine
        .transaction((0..USERS).map(|_| create()).collect())
        .await?;
    Ok(engine)
}

async fn under_axum(listener: TcpListener, engine: Engine) -> Result {
    let app = Router::new()
        .nest("/api", fieldsync_axum::rest(&engine))
        .route("/live", fieldsync_axum::live(&engine));
    Ok(axum::serve(listener.tap_io(no_delay), app).await?)
}

fn under_actix(listener: std::net::TcpListener, engine: &Engine) -> Result<actix_web::dev::Server> {
    let engine = engine.clone();
    let app = move || {
        App::new()
            .service(web::scope("/api").service(fieldsync_actix::rest(&engine)))
            .route("/live", fieldsync_actix::live(&engine))
    };
    let server = HttpServer::new(app).tcp_nodelay(true).disable_signals();
    Ok(server.listen(listener)?.run())
}

async fn change(engine: &Engine, count: usize) -> Result {
    let id = |number| (number % USERS) as i64 + 1;
    let name = std::time::UNIX_EPOCH.elapsed()?.as_nanos().to_string();
    let edit = |number| Edit::patch(("users", id(number)), json!({"first_name": name}));
    engine.transaction((0..count).map(edit).collect()).await?;
    Ok(())
}

/// A change as fieldsync sends it: both write the same number of bytes.
fn message(number: usize) -> String {
    let now = fieldsync::Timestamp::now().to_string();
    let name = "1790000000000000000";
    let cursor = "A".repeat(64);
    let id = number + 1;
    format!(
        r#"{{"type":"change","sub":"users","id":{id},"action":"update","fields":{{"first_name":"{name}","updated_at":"{now}"}},"at":"{now}","cursor":"{cursor}"}}"#
    )
}

/// Runs the command with the number in each line of standard input, and prints a line when it is done.
async fn on_command(command: impl AsyncFn(usize) -> Result) -> Result {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        command(line.parse()?).await?;
        println!("done");
    }
    Ok(())
}

/// The floor: one task per socket, one write per change.
async fn floor(listener: TcpListener, changes: broadcast::Sender<Vec<u8>>) -> Result {
    loop {
        let (mut socket, _) = listener.accept().await?;
        no_delay(&mut socket);
        let mut changes = changes.subscribe();
        tokio::spawn(async move {
            // The client waits for this frame: from now on it receives every change.
            socket.write_all(&text_frame("{}")).await?;
            while let Ok(frame) = changes.recv().await {
                socket.write_all(&frame).await?;
            }
            Ok::<_, std::io::Error>(())
        });
    }
}
