//! The plain feed: one JSON message per change, in a format of the app.

use std::sync::Arc;

use async_trait::async_trait;
use fieldsync::{Access, Authorizer, Collection, Denied, Edit, Engine, Grant, Principal};
use serde_json::json;
use tokio::sync::Notify;

use crate::app::{App, On, Server, User, on_every_store};
use crate::socket::Socket;

on_every_store!(
    a_feed_sends_each_change_in_the_format_of_the_app,
    messages_from_a_client_are_ignored
);

async fn a_feed_sends_each_change_in_the_format_of_the_app(app: App) {
    let mut earlier = Socket::feed(&app).await;
    let before = app.create_user("Before", "").await;
    // The author of a write may have its answer before the subscribers have the change.
    earlier.next().await.unwrap();
    let mut socket = Socket::feed(&app).await;
    assert_eq!(socket.protocol, None);
    // A feed has no snapshot: its first message is about a later change.
    let (_, created) = app
        .send("POST", "/api/users/", &json!({"first_name": "John"}))
        .await;
    let message = socket.next().await.unwrap();
    assert_eq!(
        message,
        json!({"type": "user_update", "data": {"action": "create", "user": created}})
    );
    let path = format!("/api/users/{}/", created["id"]);
    let (_, changed) = app.send("PATCH", &path, &json!({"last_name": "Doe"})).await;
    let message = socket.next().await.unwrap();
    assert_eq!(
        message,
        json!({"type": "user_update", "data": {"action": "update", "user": changed}})
    );
    app.request("DELETE", &path).send().await.unwrap();
    let message = socket.next().await.unwrap();
    assert_eq!(
        message,
        json!({"type": "user_update", "data": {"action": "delete", "user_id": created["id"]}})
    );
    assert_ne!(created["id"], before);
}

async fn messages_from_a_client_are_ignored(app: App) {
    let (mut one, mut two) = (Socket::feed(&app).await, Socket::feed(&app).await);
    one.send(&json!({"type": "user_update", "data": {"action": "delete", "user_id": 1}}))
        .await;
    one.send_text("nonsense").await;
    let id = app.create_user("John", "Doe").await;
    for socket in [&mut one, &mut two] {
        assert_eq!(socket.next().await.unwrap()["data"]["user"]["id"], id);
    }
}

/// An authorizer that answers when the test notifies it.
#[derive(Debug, Default, Clone)]
struct Slow(Arc<Notify>);

#[async_trait]
impl Authorizer for Slow {
    async fn authorize(&self, _: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
        self.0.notified().await;
        Ok(Grant::full())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn x_a_feed_gets_the_changes_that_happen_while_its_authorizer_waits() {
    let slow = Slow::default();
    let users = Collection::of::<User>("users").authorize(slow.clone());
    let builder = Engine::builder().collection(users);
    let builder = builder.feed("users", |change| json!(change.record["first_name"]));
    let app = App::start(Server::Axum, On::Memory, builder).await;
    let mut socket = Socket::feed(&app).await;
    for name in ["Ada", "Grace"] {
        let create = Edit::create("users", json!({"first_name": name}));
        app.engine.transaction(vec![create]).await.unwrap();
    }
    slow.0.notify_one();
    assert_eq!(socket.next().await.unwrap(), "Ada");
    assert_eq!(socket.next().await.unwrap(), "Grace");
}

#[tokio::test]
async fn a_feed_whose_rule_can_not_be_evaluated_asks_the_client_to_come_back() {
    let users = Collection::of::<User>("users");
    let users =
        users.authorize_fn(|_, _| Err(Denied::unavailable("the database of roles is down")));
    let builder = Engine::builder().collection(users);
    let builder = builder.feed("users", |change| json!(change.record));
    let app = App::start(Server::Axum, On::Memory, builder).await;
    let mut socket = Socket::feed(&app).await;
    assert_eq!(socket.next().await, Err(1013));
}
