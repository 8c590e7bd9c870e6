//! `fieldsync.v1` on the WebSocket.

use serde_json::json;

use crate::app::{App, on_every_store};
use crate::socket::{Mirror, Socket};

on_every_store!(
    a_subscriber_hears_of_every_change,
    only_changed_fields_are_sent,
    one_record_can_be_subscribed_to,
    a_lost_connection_resumes_where_it_was,
    many_missed_changes_fold_into_one_each,
    a_big_snapshot_comes_in_pieces,
    a_cursor_that_does_not_fit_is_reset,
    errors_name_the_topic_and_the_connection_stays,
    the_writer_knows_its_own_change_by_its_key,
);

async fn a_subscriber_hears_of_every_change(app: App) {
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
        (&change["topic"], &change["id"], &change["action"]),
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
    // An edit that changes nothing is not announced; the next one is the next message.
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

async fn one_record_can_be_subscribed_to(app: App) {
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
        (&change["topic"], &change["fields"]["first_name"]),
        (&json!(topic), &json!("y"))
    );
    // A record that does not exist is an empty snapshot; a later create arrives.
    let next = format!("users/{}", two + 1);
    socket.subscribe(&next, None).await;
    assert_eq!(socket.expect("snapshot").await["records"], json!([]));
    socket.expect("live").await;
    assert_eq!(app.create_user("Three", "").await, two + 1);
    assert_eq!(socket.expect("change").await["topic"], json!(next));
    // One that unsubscribed hears no more.
    socket
        .send(&json!({"type": "unsubscribe", "topic": next}))
        .await;
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
    assert_eq!(socket.expect("change").await["topic"], json!(topic));
}

async fn a_lost_connection_resumes_where_it_was(app: App) {
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

async fn many_missed_changes_fold_into_one_each(app: App) {
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

async fn a_big_snapshot_comes_in_pieces(app: App) {
    let users = (0..600)
        .map(|number| fieldsync::Edit::create("users", json!({"first_name": number.to_string()})));
    app.engine.transaction(users.collect()).await.unwrap();
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("users", None).await;
    let mut window = Mirror::default();
    let first = socket.expect("snapshot").await;
    assert_eq!(first.get("cursor"), None);
    window.apply(&first);
    // What changes while the snapshot is on its way is in it, or comes after it.
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

async fn a_cursor_that_does_not_fit_is_reset(app: App) {
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
    assert!(
        ["epoch", "schema"].contains(&reset["reason"].as_str().unwrap()),
        "{reset}"
    );
    assert_eq!(
        socket.expect("snapshot").await["records"],
        app.get("/api/users/").await
    );
    socket.expect("live").await;
    socket
        .send(&json!({"type": "unsubscribe", "topic": "users"}))
        .await;
    for malformed in ["x", "", &things[1..]] {
        socket.subscribe("users", Some(malformed)).await;
        assert_eq!(socket.expect("error").await["problem"]["status"], 400);
    }
}

async fn errors_name_the_topic_and_the_connection_stays(app: App) {
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
            (&error["topic"], &error["problem"]["status"]),
            (&json!(topic), &json!(status))
        );
    }
    socket.subscribe("users", None).await;
    socket.expect("snapshot").await;
    socket.expect("live").await;
    socket.subscribe("users", None).await;
    assert_eq!(socket.expect("error").await["problem"]["status"], 409);
    // Nothing that a client sends becomes a change, and nonsense ends the connection the third time.
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

async fn the_writer_knows_its_own_change_by_its_key(app: App) {
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
