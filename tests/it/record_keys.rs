//! Ids of every kind: text, several columns, and integers that the creator gives.

use fieldsync::{Collection, Engine, EngineBuilder};
use serde_json::{Value, json};

use crate::app::{App, on_every_store};
use crate::socket::{Mirror, Socket};

fn collection(name: &str, properties: &Value) -> Collection {
    let schema = json!({"type": "object", "properties": properties});
    Collection::from_schema(name, &schema)
}

fn keyed() -> EngineBuilder {
    let title = json!({"title": {"type": "string", "default": ""}});
    let members = json!({
        "user_id": {"type": "integer"},
        "project": {"type": "string"},
        "role": {"type": "string", "default": "member"},
    });
    Engine::builder()
        .collection(collection("pages", &title).text_ids().open_to_everyone())
        .collection(
            collection("members", &members)
                .composite_key(["user_id", "project"])
                .open_to_everyone(),
        )
        .collection(
            collection("orders", &title)
                .ids_by_creator()
                .open_to_everyone(),
        )
}

on_every_store!(with keyed:
    text_ids_are_given_by_the_creator,
    several_columns_are_an_id,
    an_integer_that_json_readers_would_round_is_a_string,
    an_id_of_the_wrong_kind_is_refused,
    subscribers_of_every_kind_of_key_converge,
);

async fn text_ids_are_given_by_the_creator(app: App) {
    let slug = "a/b ü,c%2C";
    let body = json!({"id": slug, "title": "one"});
    let created = app
        .request("POST", "/api/pages/")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(created.status(), 201);
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(location, "/api/pages/a%2Fb%20%C3%BC,c%252C/");
    assert_eq!(app.get(&location).await, body);
    let (status, patched) = app.send("PATCH", &location, &json!({"title": "two"})).await;
    assert_eq!((status, &patched["title"]), (200, &json!("two")));
    // Two ids that are the same number are two ids.
    for id in ["7", "007"] {
        let (status, _) = app
            .send("POST", "/api/pages/", &json!({"id": id, "title": id}))
            .await;
        assert_eq!(status, 201);
    }
    assert_eq!(app.get("/api/pages/007/").await["title"], "007");
    assert_eq!(app.get("/api/pages/7/").await["title"], "7");
    let again = json!({"id": "7"});
    assert_eq!(app.send("POST", "/api/pages/", &again).await.0, 409);
    let (status, problem) = app
        .send("POST", "/api/pages/", &json!({"title": "x"}))
        .await;
    assert_eq!(
        (status, &problem["errors"]["id"]),
        (422, &json!(["is required"]))
    );
    assert_eq!(
        app.send("DELETE", "/api/pages/7/", &json!(null)).await.0,
        204
    );
    assert_eq!(
        app.request("GET", "/api/pages/7/")
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    // A page begins after any id.
    let first = app.get("/api/pages/?limit=1").await;
    let first = first[0]["id"].as_str().unwrap();
    let after =
        reqwest::Url::parse_with_params(&app.url("/api/pages/"), [("after", first)]).unwrap();
    let rest: Value = reqwest::get(after).await.unwrap().json().await.unwrap();
    assert_eq!(rest.as_array().unwrap().len(), 1);
}

async fn several_columns_are_an_id(app: App) {
    let member = |user: i64, project: &str| json!({"user_id": user, "project": project});
    let (status, created) = app.send("POST", "/api/members/", &member(7, "a,b")).await;
    let whole = json!({"id": "7,a%2Cb", "user_id": 7, "project": "a,b", "role": "member"});
    assert_eq!((status, &created), (201, &whole));
    assert_eq!(app.get("/api/members/7,a%252Cb/").await, whole);
    assert_eq!(
        app.send("POST", "/api/members/", &member(7, "a,b")).await.0,
        409
    );
    assert_eq!(
        app.send("POST", "/api/members/", &member(7, "a")).await.0,
        201
    );
    assert_eq!(
        app.send("POST", "/api/members/", &member(10, "a")).await.0,
        201
    );
    let (status, problem) = app
        .send("POST", "/api/members/", &json!({"user_id": 7}))
        .await;
    assert_eq!(
        (status, &problem["errors"]["project"]),
        (422, &json!(["is required"]))
    );
    let path = "/api/members/7,a%252Cb/";
    let (status, problem) = app.send("PATCH", path, &json!({"user_id": 8})).await;
    assert_eq!(
        (status, &problem["errors"]["user_id"]),
        (422, &json!(["can't be changed"]))
    );
    let (status, patched) = app
        .send("PATCH", path, &json!({"user_id": 7, "role": "owner"}))
        .await;
    assert_eq!((status, &patched["role"]), (200, &json!("owner")));
    let listed = app.get("/api/members/").await;
    let mut ids: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, ["10,a", "7,a", "7,a%2Cb"]);
    assert_eq!(
        app.send("DELETE", "/api/members/10,a/", &json!(null))
            .await
            .0,
        204
    );
    assert_eq!(
        app.request("GET", "/api/members/10,a/")
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    for path in [
        "/api/members/7/",
        "/api/members/7,a,b/",
        "/api/members/7,%25/",
    ] {
        assert_eq!(
            app.request("GET", path).send().await.unwrap().status(),
            404,
            "{path}"
        );
    }
}

async fn an_integer_that_json_readers_would_round_is_a_string(app: App) {
    let body = json!({"id": "115000000000000001", "title": "far"});
    let (status, created) = app.send("POST", "/api/orders/", &body).await;
    assert_eq!((status, &created), (201, &body));
    assert_eq!(
        app.get("/api/orders/115000000000000001/").await["id"],
        "115000000000000001"
    );
    let (status, created) = app.send("POST", "/api/orders/", &json!({"id": 7})).await;
    assert_eq!((status, &created["id"]), (201, &json!(7)));
}

async fn an_id_of_the_wrong_kind_is_refused(app: App) {
    for (path, id) in [
        ("/api/orders/", json!("seven")),
        ("/api/orders/", json!(1.5)),
        ("/api/pages/", json!(7)),
        ("/api/pages/", json!("")),
        ("/api/pages/", json!("a\u{0}")),
        ("/api/pages/", json!("x".repeat(2000))),
        ("/api/pages/", json!(null)),
    ] {
        let (status, problem) = app.send("POST", path, &json!({"id": id})).await;
        assert_eq!(status, 422, "{id}: {problem}");
        assert!(problem["errors"]["id"].is_array(), "{id}: {problem}");
    }
    let long = format!("/api/pages/{}/", "x".repeat(2000));
    assert_eq!(
        app.request("GET", &long).send().await.unwrap().status(),
        404
    );
}

async fn subscribers_of_every_kind_of_key_converge(app: App) {
    for number in 0..300 {
        let page = json!({"id": format!("page {}", number * 7919 % 1000), "title": "t"});
        assert_eq!(app.send("POST", "/api/pages/", &page).await.0, 201);
        let member = json!({"user_id": number % 17, "project": format!("{number},")});
        assert_eq!(app.send("POST", "/api/members/", &member).await.0, 201);
    }
    for topic in ["pages", "members"] {
        let path = format!("/api/{topic}/");
        let all = format!("{path}?limit=1000");
        let (mut socket, mut mirror) = (Socket::v1(&app).await, Mirror::default());
        socket.subscribe(topic, None).await;
        mirror.converge(&mut socket, &app, &all).await;
        let first = app.get(&format!("{path}?limit=1")).await[0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let record = reqwest::Url::parse(&app.url(&path)).unwrap();
        let mut record = record;
        record
            .path_segments_mut()
            .unwrap()
            .pop_if_empty()
            .push(&first)
            .push("");
        let deleted = reqwest::Client::new().delete(record).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
        mirror.converge(&mut socket, &app, &all).await;
        // One record is a topic, whatever its id.
        let one = app.get(&format!("{path}?limit=1")).await[0].clone();
        let topic = format!("{topic}/{}", one["id"].as_str().unwrap());
        let mut socket = Socket::v1(&app).await;
        socket.subscribe(&topic, None).await;
        assert_eq!(socket.expect("snapshot").await["records"], json!([one]));
    }
}
