//! What a principal could learn from answers about what it may not read.

use std::time::{Duration, Instant};

use fieldsync::{
    Access, Collection, Denied, Edit, Engine, EngineBuilder, FieldErrors, Fields, Filter, Grant,
    View,
};
use serde_json::{Map, Value, json};

use crate::app::{App, Rule, limits, on_every_store};
use crate::socket::{Mirror, Socket};

on_every_store!(with notes:
    a_names_of_fields_that_one_does_not_know_of_are_unknown,
    a_a_check_runs_whether_or_not_a_guess_of_a_hidden_value_is_right,
    a_a_malformed_cursor_does_not_tell_a_hidden_collection_from_none,
    a_an_edit_of_hidden_fields_shows_by_the_time_of_the_last_edit_alone,
    a_a_large_hidden_record_is_not_found_as_fast_as_none,
    s_a_request_with_many_unknown_fields_has_a_short_answer,
    s_each_subscription_beyond_the_limit_is_refused_and_the_socket_goes_on,
    x_an_unsubscribe_is_confirmed_so_that_a_new_subscription_begins_after_it,
);

/// Everybody sees and sets the text of a note. `clerk` may set the salary as well, without seeing it. `grade` is required, and only the
/// boss knows of it.
fn notes() -> EngineBuilder {
    let schema = json!({"type": "object", "required": ["grade"], "properties": {
        "text": {"type": "string", "default": ""},
        "salary": {"type": "integer", "default": 0},
        "grade": {"type": "integer"},
        "locked": {"type": "boolean", "default": false},
    }});
    let text = json!({"type": "string", "default": ""});
    let owned = json!({"type": "object", "properties": {"text": text, "secret": text}});
    let rule = |user: &str, _: Access| {
        let only = |fields: &[&str]| View::only(fields.iter().copied());
        Ok::<_, Denied>(match user {
            "boss" => Grant::full(),
            "clerk" => Grant::full()
                .with_view(only(&["text"]))
                .with_writable(only(&["text", "salary"])),
            _ => Grant::full()
                .with_view(only(&["text"]))
                .with_writable(only(&["text"])),
        })
    };
    let check = |before: Option<&Fields>, _: &Fields| match before {
        Some(before) if before["locked"] == true => Err(FieldErrors::one("", "the note is locked")),
        _ => Ok(()),
    };
    let diary = |user: &str, _: Access| {
        let only = |fields: &[&str]| Grant::full().with_view(View::only(fields.iter().copied()));
        Ok::<_, Denied>(match user {
            "boss" => Grant::full(),
            "clerk" => only(&["text", "updated_at"]),
            _ => only(&["text"]),
        })
    };
    let own = |user: &str, _: Access| match user {
        "boss" => Ok(Grant::full()),
        _ => Ok(Grant::full().with_rows(Filter::eq("text", user))),
    };
    let secret = |_: &str, _: Access| Err(Denied::Hidden);
    Engine::builder()
        .limits(limits(|limits| {
            limits.subscriptions = 20;
            // A window that is unmounted and mounted again sends many while its writer waits for a busy disk.
            limits.messages_per_second = 100_000;
            limits.record_bytes = 10_000_000;
        }))
        .collection(
            Collection::from_schema("notes", &schema)
                .validate(check)
                .authorize(Rule(rule)),
        )
        .collection(Collection::from_schema("secrets", &schema).authorize(Rule(secret)))
        .collection(Collection::from_schema("owned", &owned).authorize(Rule(own)))
        .collection(
            Collection::from_schema("diaries", &owned)
                .timestamps()
                .authorize(Rule(diary)),
        )
}

async fn ask(app: &App, user: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = app.request(method, path).header("x-user", user).json(body);
    let reply = request.send().await.unwrap();
    (reply.status().as_u16(), reply.json().await.unwrap())
}

async fn note(app: &App, fields: Value) -> String {
    let (status, note) = ask(app, "boss", "POST", "/api/notes/", &fields).await;
    assert_eq!(status, 201, "{note}");
    format!("/api/notes/{}/", note["id"])
}

async fn a_names_of_fields_that_one_does_not_know_of_are_unknown(app: App) {
    let path = note(&app, json!({"grade": 1})).await;
    for (method, path) in [("PATCH", &*path), ("POST", "/api/notes/")] {
        let (status, problem) = ask(
            &app,
            "eve",
            method,
            path,
            &json!({"grade": 7, "zzz": 7, "salary": 1}),
        )
        .await;
        assert_eq!(status, 422);
        let errors = problem["errors"].as_object().unwrap();
        assert_eq!(errors.len(), 3, "{method}: {problem}");
        assert!(
            errors
                .values()
                .all(|messages| *messages == json!(["is not a known field"])),
            "{method}: {problem}"
        );
    }
    // A field that one may set, but not see, is known.
    let (status, _) = ask(&app, "clerk", "PATCH", &path, &json!({"salary": 5})).await;
    assert_eq!(status, 200);
    // A required field that one does not know of is not named.
    let (status, problem) = ask(&app, "eve", "POST", "/api/notes/", &json!({})).await;
    assert_eq!((status, problem.get("errors")), (403, None));
    let (status, problem) = ask(&app, "boss", "POST", "/api/notes/", &json!({})).await;
    assert_eq!(
        (status, &problem["errors"]),
        (422, &json!({"grade": ["is required"]}))
    );
}

async fn a_a_check_runs_whether_or_not_a_guess_of_a_hidden_value_is_right(app: App) {
    let path = note(&app, json!({"grade": 1, "salary": 4000, "locked": true})).await;
    let mut answers = Vec::new();
    for guess in [3999, 4000, 4001] {
        answers.push(ask(&app, "clerk", "PATCH", &path, &json!({"salary": guess})).await);
    }
    assert_eq!(answers[0].0, 422);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    // What one sees is still compared: nothing is to be done.
    let (status, _) = ask(&app, "clerk", "PATCH", &path, &json!({"text": ""})).await;
    assert_eq!(status, 200);
}

async fn a_a_malformed_cursor_does_not_tell_a_hidden_collection_from_none(app: App) {
    let mut socket = Socket::v1_as(&app, "eve").await;
    let mut problems = Vec::new();
    for collection in ["secrets", "nothing"] {
        for id in ["", "/1", "/x"] {
            for place in [json!({"since": "x"}), json!({"resume": "x"}), json!({})] {
                let mut message: Map<String, Value> = place.as_object().unwrap().clone();
                message.insert("type".into(), "subscribe".into());
                message.insert("topic".into(), format!("{collection}{id}").into());
                socket.send(&Value::Object(message)).await;
                problems.push(socket.expect("error").await["problem"].clone());
            }
        }
    }
    assert_eq!(problems[0]["status"], 404);
    problems.dedup();
    assert_eq!(problems.len(), 1, "{problems:?}");
}

async fn a_an_edit_of_hidden_fields_shows_by_the_time_of_the_last_edit_alone(app: App) {
    let created = ask(&app, "boss", "POST", "/api/diaries/", &json!({})).await;
    let path = format!("/api/diaries/{}/", created.1["id"]);
    let mut sockets = [
        Socket::v1_as(&app, "eve").await,
        Socket::v1_as(&app, "clerk").await,
    ];
    for socket in &mut sockets {
        socket.subscribe("diaries", None).await;
        while socket.next().await.unwrap()["type"] != "live" {}
    }
    for patch in [json!({"secret": "canary"}), json!({"text": "seen"})] {
        let (status, _) = ask(&app, "boss", "PATCH", &path, &patch).await;
        assert_eq!(status, 200);
    }
    let [eve, clerk] = &mut sockets;
    // Whoever does not see when a record was last edited does not learn of edits of hidden fields.
    assert_eq!(
        eve.expect("change").await["fields"],
        json!({"text": "seen"})
    );
    let fields = clerk.expect("change").await["fields"].clone();
    let names = fields.as_object().unwrap().keys().collect::<Vec<_>>();
    assert_eq!(names, ["updated_at"]);
    let fields = clerk.expect("change").await["fields"].clone();
    assert_eq!(fields["text"], "seen");
}

async fn a_a_large_hidden_record_is_not_found_as_fast_as_none(app: App) {
    let large = json!({"text": "boss", "secret": "x".repeat(8_000_000)});
    let create = Edit::create("owned", large);
    let created = app.engine.transaction(vec![create]).await.unwrap();
    let hidden = format!("/api/owned/{}/", created[0].id());
    let (_, own) = ask(&app, "boss", "POST", "/api/owned/", &json!({"text": "eve"})).await;
    let own = format!("/api/owned/{}/", own["id"]);
    assert_eq!(ask(&app, "eve", "GET", &own, &json!({})).await.0, 200);
    let mut times: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
    let mut answers = Vec::new();
    for _ in 0..9 {
        for (path, times) in [&*hidden, "/api/owned/99/"].into_iter().zip(&mut times) {
            let begun = Instant::now();
            answers.push(ask(&app, "eve", "GET", path, &json!({})).await);
            times.push(begun.elapsed());
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, 404);
    // The shortest: others may use the machine.
    let [hidden, none] = times.map(|times| times.into_iter().min().unwrap());
    eprintln!("hidden {hidden:?}, none {none:?}");
    assert!(
        hidden < none * 3 + Duration::from_millis(5),
        "{hidden:?}, {none:?}"
    );
}

async fn s_a_request_with_many_unknown_fields_has_a_short_answer(app: App) {
    let many: Map<String, Value> = (0..20_000)
        .map(|number| (format!("field {number}"), json!(1)))
        .collect();
    let path = note(&app, json!({"grade": 1})).await;
    for (method, path) in [("PATCH", &*path), ("POST", "/api/notes/")] {
        let (status, problem) = ask(&app, "boss", method, path, &Value::Object(many.clone())).await;
        assert_eq!(status, 422);
        assert_eq!(problem["errors"].as_object().unwrap().len(), 20);
    }
}

async fn s_each_subscription_beyond_the_limit_is_refused_and_the_socket_goes_on(app: App) {
    let mut socket = Socket::v1_as(&app, "boss").await;
    for id in 1..=20 {
        socket.subscribe(&format!("notes/{id}"), None).await;
    }
    for id in 21..=30 {
        socket.subscribe(&format!("notes/{id}"), None).await;
    }
    let (mut refused, mut live) = (0, 0);
    while refused < 10 || live < 20 {
        let message = socket.next().await.unwrap();
        match message["type"].as_str().unwrap() {
            "error" => {
                assert_eq!(message["problem"]["status"], 429);
                refused += 1;
            }
            "snapshot" => live += 1,
            _ => {}
        }
    }
    // The end of one makes room for another.
    socket
        .send(&json!({"type": "unsubscribe", "sub": "notes/1"}))
        .await;
    socket.expect("unsubscribed").await;
    socket.subscribe("notes/21", None).await;
    socket.expect("snapshot").await;
}

async fn x_an_unsubscribe_is_confirmed_so_that_a_new_subscription_begins_after_it(app: App) {
    let path = note(&app, json!({"grade": 0})).await;
    let mut window = Mirror::default();
    let mut socket = Socket::v1_as(&app, "boss").await;
    socket.subscribe("notes", None).await;
    window.catch_up(&mut socket).await;
    let writer = async {
        for grade in 1..=200 {
            ask(&app, "boss", "PATCH", &path, &json!({"grade": grade})).await;
        }
    };
    let mut applied = Vec::new();
    let reader = async {
        let mut grade = 0;
        for round in 0.. {
            // As a component that is unmounted and mounted again: both at once.
            socket
                .send(&json!({"type": "unsubscribe", "sub": "notes"}))
                .await;
            socket.subscribe("notes", window.cursor.as_deref()).await;
            // What comes before the confirmation is of the former subscription.
            while socket.next().await.unwrap()["type"] != "unsubscribed" {}
            socket.expect("subscribed").await;
            let mut is_live = false;
            while !is_live || round % 3 == 0 && grade < 200 {
                let message = socket.next().await.unwrap();
                let changes = match message["type"].as_str().unwrap() {
                    "change" => vec![message.clone()],
                    "changes" => message["changes"].as_array().unwrap().clone(),
                    _ => vec![],
                };
                for change in changes {
                    grade = change["fields"]["grade"].as_i64().unwrap();
                    applied.push(grade);
                }
                is_live |= window.apply(&message);
                if applied.len() % 7 == 6 {
                    break;
                }
            }
            if grade == 200 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(writer, reader)
    })
    .await
    .unwrap();
    // Each state at most once, in order.
    assert!(applied.is_sorted_by(|one, next| one < next), "{applied:?}");
    assert_eq!(applied.last(), Some(&200));
}
