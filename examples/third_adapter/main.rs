//! fieldsync under another framework: `adapter.rs` is all that poem needs. Run it with `cargo run --example third_adapter`.

mod adapter;

use fieldsync::{Collection, Engine, MemoryStore};
use poem::listener::TcpListener;
use poem::{Route, Server};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter::{Live, Rest};

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct User {
    #[schemars(length(max = 100))]
    first_name: String,
    #[schemars(length(max = 100))]
    last_name: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let users = Collection::of::<User>("users").timestamps();
    let engine = Engine::builder()
        .collection(users.open_to_everyone())
        .store(MemoryStore::new())
        .start()
        .await?;
    let app = Route::new()
        .nest("/api", Rest(engine.clone()))
        .at("/live", Live(engine));
    println!("http://127.0.0.1:8003/api/users/");
    Ok(Server::new(TcpListener::bind("127.0.0.1:8003"))
        .run(app)
        .await?)
}
