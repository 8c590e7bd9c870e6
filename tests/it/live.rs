//! The protocol `fieldsync.v1` on a WebSocket.

use serde_json::json;

use crate::app::{App, on_every_store};
use crate::socket::{Mirror, Socket};

on_every_store!(
    a_subscriber_receives_every_change,
    only_changed_fields_are_sent,
    a_topic_can_be_one_record,
    a_subscriber_resumes_from_its_cursor,
    missed_changes_are_folded_by_record,
    a_large_snapshot_comes_in_several_messages,
    a_cursor_of_another_collection_is_reset,
    an_error_names_its_topic_and_the_connection_stays_open,
    a_change_carries_the_idempotency_key_of_its_edit,
);

async fn a_subscriber_receives_every_change(app: App) {
    let id = app.create_user("John", "Doe").await;
    let mut socket = Socket::v1(&app).await;
    assert_eq!(socket.protocol.as_deref(), Some("fieldsync.v1"));
    socket.subscribe("users", None).await;
    let snapshot = socket.expect("snapshot").await;
    assert_eq!(snapshot["records"], app.get("/api/users/").await);
    assert_eq!(socket.expect("live").await["cursor"], snapshot["cursor"]);

    let reply = app
        .request("PATCH", &format!("/api/users/{id}/"))
        .json(&json!({"first_name": "Jack"}))
        .send()
        .await
        .unwrap();
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["sub"], &change["id"], &change["action"]),
        (&json!("users"), &json!(id), &json!("update"))
    );
    assert_eq!(
        change["cursor"],
        reply.headers()["fieldsync-cursor"].to_str().unwrap()
    );

    let (_, jane) = app
        .send("POST", "/api/users/", &json!({"first_name": "Jane"}))
        .await;
    let change = socket.expect("change").await;
    assert_eq!(change["action"], "create");
    let mut fields = jane.clone();
    fields.as_object_mut().unwrap().remove("id");
    assert_eq!(change["fields"], fields);

    app.request("DELETE", &format!("/api/users/{id}/"))
        .send()
        .await
        .unwrap();
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["action"], &change["id"], change.get("fields")),
        (&json!("delete"), &json!(id), None)
    );
}

async fn only_changed_fields_are_sent(app: App) {
    let path = format!("/api/users/{}/", app.create_user("John", "Doe").await);
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    Mirror::default().catch_up(&mut socket).await;
    // An edit that changes nothing is not sent: the next message is about the next edit.
    app.send("PATCH", &path, &json!({"first_name": "John"}))
        .await;
    let (_, user) = app
        .send(
            "PATCH",
            &path,
            &json!({"first_name": "John", "last_name": "Roe"}),
        )
        .await;
    let change = socket.expect("change").await;
    assert_eq!(
        change["fields"],
        json!({"last_name": "Roe", "updated_at": user["updated_at"]})
    );
}

async fn a_topic_can_be_one_record(app: App) {
    let (one, two) = (
        app.create_user("One", "").await,
        app.create_user("Two", "").await,
    );
    let mut socket = Socket::v1(&app).await;
    let topic = format!("users/{two}");
    socket.subscribe(&topic, None).await;
    assert_eq!(
        socket.expect("snapshot").await["records"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    socket.expect("live").await;
    app.send(
        "PATCH",
        &format!("/api/users/{one}/"),
        &json!({"first_name": "x"}),
    )
    .await;
    app.send(
        "PATCH",
        &format!("/api/users/{two}/"),
        &json!({"first_name": "y"}),
    )
    .await;
    let change = socket.expect("change").await;
    assert_eq!(
        (&change["sub"], &change["fields"]["first_name"]),
        (&json!(topic), &json!("y"))
    );
    // A record that does not exist has an empty snapshot. Its creation is sent later.
    let next = format!("users/{}", two + 1);
    socket.subscribe(&next, None).await;
    assert_eq!(socket.expect("snapshot").await["records"], json!([]));
    socket.expect("live").await;
    assert_eq!(app.create_user("Three", "").await, two + 1);
    assert_eq!(socket.expect("change").await["sub"], json!(next));
    // After an unsubscribe, no changes come.
    socket
        .send(&json!({"type": "unsubscribe", "sub": next}))
        .await;
    assert_eq!(socket.expect("unsubscribed").await["sub"], json!(next));
    socket.subscribe("users/x", None).await;
    socket.expect("error").await;
    app.send(
        "PATCH",
        &format!("/api/users/{}/", two + 1),
        &json!({"first_name": "z"}),
    )
    .await;
    app.send(
        "PATCH",
        &format!("/api/users/{two}/"),
        &json!({"first_name": "z"}),
    )
    .await;
    assert_eq!(socket.expect("change").await["sub"], json!(topic));
}

async fn a_subscriber_resumes_from_its_cursor(app: App) {
    let id = app.create_user("John", "Doe").await;
    let mut window = Mirror::default();
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    window.catch_up(&mut socket).await;
    drop(socket);
    for number in 0..12 {
        app.send(
            "PATCH",
            &format!("/api/users/{id}/"),
            &json!({"first_name": format!("n{number}")}),
        )
        .await;
        app.create_user("new", &number.to_string()).await;
    }
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", window.cursor.as_deref()).await;
    let page = socket.expect("changes").await;
    assert_eq!(page["folded"], true);
    window.apply(&page);
    window.catch_up(&mut socket).await;
    assert_eq!(window.list(), app.get("/api/users/").await);
    assert_eq!(window.resets, Vec::<String>::new());
}

async fn missed_changes_are_folded_by_record(app: App) {
    let id = app.create_user("John", "Doe").await;
    let cursor = app
        .request("GET", "/api/users/")
        .send()
        .await
        .unwrap()
        .headers()["fieldsync-cursor"]
        .clone();
    for number in 0..700 {
        let key = format!("k{number}");
        let patch = app
            .request("PATCH", &format!("/api/users/{id}/"))
            .header("idempotency-key", key);
        assert_eq!(
            patch
                .json(&json!({"first_name": number.to_string()}))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    let mut socket = Socket::v1(&app).await;
    socket
        .subscribe("users", Some(cursor.to_str().unwrap()))
        .await;
    socket.expect("subscribed").await;
    let mut entries = 0;
    let mut keys = 0;
    loop {
        let message = socket.next().await.unwrap();
        if message["type"] == "live" {
            break;
        }
        for change in message["changes"].as_array().unwrap() {
            entries += 1;
            keys += change["keys"].as_array().unwrap().len();
            assert_eq!(change["action"], "update");
        }
    }
    assert!(entries <= 4, "{entries} entries for one record");
    assert_eq!(keys, 700);
}

async fn a_large_snapshot_comes_in_several_messages(app: App) {
    let users = (0..600)
        .map(|number| fieldsync::Edit::create("users", json!({"first_name": number.to_string()})));
    app.engine.transaction(users.collect()).await.unwrap();
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    let mut window = Mirror::default();
    let first = socket.expect("snapshot").await;
    assert_eq!(first.get("cursor"), None);
    window.apply(&first);
    // Changes during the snapshot are in it, or come after it.
    app.send("PATCH", "/api/users/1/", &json!({"first_name": "changed"}))
        .await;
    app.send(
        "PATCH",
        "/api/users/600/",
        &json!({"first_name": "changed too"}),
    )
    .await;
    app.request("DELETE", "/api/users/2/").send().await.unwrap();
    window.catch_up(&mut socket).await;
    window.converge(&mut socket, &app, "/api/users/").await;
}

async fn a_cursor_of_another_collection_is_reset(app: App) {
    app.create_user("John", "Doe").await;
    let cursor_of = async |path: &str| {
        app.request("GET", path).send().await.unwrap().headers()["fieldsync-cursor"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let things = cursor_of("/api/things/").await;
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", Some(&things)).await;
    let reset = socket.expect("reset").await;
    assert_eq!(reset["reason"], "key");
    assert_eq!(
        socket.expect("snapshot").await["records"],
        app.get("/api/users/").await
    );
    socket.expect("live").await;
    socket
        .send(&json!({"type": "unsubscribe", "sub": "users"}))
        .await;
    socket.expect("unsubscribed").await;
    for malformed in ["x", "", &things[..20], &things.replace(|_| true, "~")] {
        socket.subscribe("users", Some(malformed)).await;
        assert_eq!(socket.expect("error").await["problem"]["status"], 400);
    }
}

async fn an_error_names_its_topic_and_the_connection_stays_open(app: App) {
    let mut socket = Socket::v1(&app).await;
    for (topic, status) in [
        ("nothing", 404),
        ("users/abc", 404),
        ("users/1/2", 404),
        ("", 404),
    ] {
        socket.subscribe(topic, None).await;
        let error = socket.expect("error").await;
        assert_eq!(
            (&error["sub"], &error["problem"]["status"]),
            (&json!(topic), &json!(status))
        );
    }
    socket.subscribe("users", None).await;
    socket.expect("snapshot").await;
    socket.expect("live").await;
    socket.subscribe("users", None).await;
    assert_eq!(socket.expect("error").await["problem"]["status"], 409);
    // The third malformed message closes the connection. Nothing was written.
    for _ in 0..3 {
        socket.send_text("nonsense").await;
        assert_eq!(
            socket.expect("error").await["problem"]["type"],
            "urn:fieldsync:bad-message"
        );
    }
    assert_eq!(socket.next().await, Err(1008));
    assert_eq!(app.get("/api/users/").await, json!([]));
}

async fn a_change_carries_the_idempotency_key_of_its_edit(app: App) {
    let id = app.create_user("John", "Doe").await;
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    Mirror::default().catch_up(&mut socket).await;
    let patch = app
        .request("PATCH", &format!("/api/users/{id}/"))
        .header("idempotency-key", "mine");
    patch
        .json(&json!({"first_name": "Jack"}))
        .send()
        .await
        .unwrap();
    assert_eq!(socket.expect("change").await["key"], "mine");
}
