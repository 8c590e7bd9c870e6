//! Snapshots whose connection breaks before their end.

use fieldsync::{Collection, Edit, Engine, EngineBuilder};
use serde_json::{Value, json};

use crate::app::{App, on_every_store};
use crate::events::Events;
use crate::random;
use crate::socket::{Mirror, Socket};

on_every_store!(with notes:
    x_a_snapshot_that_is_cut_again_and_again_goes_on_after_its_last_piece,
    x_an_event_stream_that_is_cut_goes_on_after_its_last_event,
    h_a_place_in_a_snapshot_is_one_of_its_collection_and_its_fields,
    m_a_message_has_at_most_64_kib_whatever_the_ids,
);

/// How many records there are: several pieces.
const RECORDS: usize = 300;

/// Collections whose ids are integers, UUIDs, and text.
fn notes() -> EngineBuilder {
    let schema = json!({"type": "object", "properties": {
        "text": {"type": "string", "default": ""},
        "number": {"type": "integer", "default": 0},
    }});
    let notes = |name: &str| Collection::from_schema(name, &schema).open_to_everyone();
    Engine::builder()
        .collection(notes("by_number"))
        .collection(notes("by_uuid").uuid_ids())
        .collection(notes("by_text").text_ids())
}

/// A new note of this collection.
fn note(collection: &str) -> Value {
    let mut note = json!({"text": "x".repeat(1000)});
    if collection == "by_text" {
        let id: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(8)
            .collect();
        note["id"] = format!("é {id}").into();
    }
    note
}

async fn fill(app: &App, collection: &str) {
    let create = |_| Edit::create(collection, note(collection));
    let edits = (0..RECORDS).map(create).collect();
    app.engine.transaction(edits).await.unwrap();
}

/// Changes some records, and returns how many it has created.
async fn edit(app: &App, collection: &str, random: &mut fastrand::Rng) -> usize {
    let list = app.get(&format!("/api/{collection}/")).await;
    let ids: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|note| &note["id"])
        .collect();
    let mut created = 0;
    for _ in 0..random.usize(..6) {
        let id = ids[random.usize(..ids.len())];
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let path = format!("/api/{collection}/{}/", id.replace(' ', "%20"));
        match random.u8(..4) {
            0 => drop(app.request("DELETE", &path).send().await.unwrap()),
            1 => {
                created += 1;
                app.send("POST", &format!("/api/{collection}/"), &note(collection))
                    .await;
            }
            _ => drop(
                app.send("PATCH", &path, &json!({"number": random.i32(..)}))
                    .await,
            ),
        }
    }
    created
}

async fn x_a_snapshot_that_is_cut_again_and_again_goes_on_after_its_last_piece(app: App) {
    let mut random = random::generator();
    for collection in ["by_number", "by_uuid", "by_text"] {
        fill(&app, collection).await;
        let (mut window, mut received, mut possible) = (Mirror::default(), 0, RECORDS);
        let mut connections = 0;
        let mut live = 'live: loop {
            connections += 1;
            let mut socket = Socket::v1(&app).await;
            window.go_on(&mut socket, collection).await.unwrap();
            for _ in 0..1 + random.usize(..3) {
                let message = socket.next().await.unwrap();
                received += message["records"].as_array().map_or(0, Vec::len);
                if window.apply(&message) {
                    break 'live socket;
                }
            }
            drop(socket);
            possible += edit(&app, collection, &mut random).await;
        };
        // The last edit may come after `live`: a write is answered before it is announced.
        let path = format!("/api/{collection}/");
        window.converge(&mut live, &app, &path).await;
        assert_eq!(window.resets, [""; 0], "{collection}");
        assert!(connections > 2, "{collection}: {connections} connections");
        assert!(
            received <= possible,
            "{collection}: {received} records of {possible}"
        );
    }
}

async fn x_an_event_stream_that_is_cut_goes_on_after_its_last_event(app: App) {
    fill(&app, "by_number").await;
    let (mut window, mut last_id, mut received) = (Mirror::default(), None, 0);
    let mut live = 'live: loop {
        let mut events = Events::open(&app, "/api/by_number/", last_id.as_deref()).await;
        for _ in 0..2 {
            let event = events.next().await.unwrap();
            received += event.data["records"].as_array().map_or(0, Vec::len);
            last_id = event.id.clone().or(last_id);
            if window.apply(&event.data) {
                break 'live events;
            }
        }
        let patch = json!({"number": received});
        app.send("PATCH", "/api/by_number/1/", &patch).await;
    };
    live.converge(&mut window, &app, "/api/by_number/").await;
    assert_eq!((window.resets, received), (vec![], RECORDS));
}

async fn h_a_place_in_a_snapshot_is_one_of_its_collection_and_its_fields(app: App) {
    fill(&app, "by_number").await;
    fill(&app, "by_uuid").await;
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("by_number", None).await;
    let piece = socket.expect("snapshot").await;
    let resume = piece["resume"].as_str().unwrap();
    let mut socket = Socket::v1(&app).await;
    let mut ask = async |message: Value| {
        socket.send(&message).await;
        socket.expect("error").await["problem"].clone()
    };
    let subscribe =
        |topic: &str, resume: &str| json!({"type": "subscribe", "topic": topic, "resume": resume});
    for text in ["nonsense", "", "_"] {
        let problem = ask(subscribe("by_number", text)).await;
        assert_eq!(problem["type"], "urn:fieldsync:malformed-cursor", "{text}");
    }
    let mut both = subscribe("by_number", resume);
    both["since"] = "x".into();
    assert_eq!(ask(both).await["type"], "urn:fieldsync:invalid-message");
    // A place in a snapshot is not a cursor.
    let since = json!({"type": "subscribe", "topic": "by_number", "since": resume});
    assert_eq!(ask(since).await["type"], "urn:fieldsync:malformed-cursor");
    for topic in ["by_uuid", "by_text"] {
        let mut socket = Socket::v1(&app).await;
        socket.send(&subscribe(topic, resume)).await;
        assert_eq!(socket.expect("reset").await["reason"], "key");
        socket.expect("snapshot").await;
    }
}

async fn m_a_message_has_at_most_64_kib_whatever_the_ids(app: App) {
    // As JSON they are twice as long.
    let id = |number: usize| format!("{number:04}{}", "\"".repeat(1000));
    let create = |number| Edit::create("by_text", json!({"id": id(number), "text": "x"}));
    let edits = (0..RECORDS).map(create).collect();
    app.engine.transaction(edits).await.unwrap();
    let mut socket = Socket::v1(&app).await;
    socket.subscribe("by_text", None).await;
    let (mut largest, mut cursor) = (0, None);
    let mut read = async |socket: &mut Socket| {
        loop {
            let message = socket.next().await.unwrap();
            largest = largest.max(message.to_string().len());
            if message["type"] == "live" {
                return message["cursor"].as_str().map(str::to_owned);
            }
            cursor = message["cursor"]
                .as_str()
                .map(str::to_owned)
                .or(cursor.take());
        }
    };
    let cursor = read(&mut socket).await;
    let patch = |number| Edit::patch(("by_text", id(number).as_str()), json!({"number": 1}));
    let edits = (0..RECORDS).map(patch).collect();
    app.engine.transaction(edits).await.unwrap();
    let mut later = Socket::v1(&app).await;
    later.subscribe("by_text", cursor.as_deref()).await;
    read(&mut later).await;
    assert!((40_000..=64 * 1024).contains(&largest), "{largest} bytes");
}
