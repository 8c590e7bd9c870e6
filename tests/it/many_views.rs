//! Large changes that many subscribers see differently take a bounded part of the memory.

use fieldsync::{Access, Collection, Denied, Edit, Engine, EngineBuilder, Grant, View};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Map, json};

use crate::app::{App, Rule, on_every_store};
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_every_store!(with notes:
    m_frames_of_many_views_count_as_memory_of_the_recent_changes,
);

/// Each set of these fields is a view, with the text.
const FLAGS: [&str; 5] = ["a", "b", "c", "d", "e"];
const VIEWS: usize = 1 << FLAGS.len();

const TEXT_BYTES: usize = 1_000_000;
const CHANGES: usize = 12;

/// The limit on the changes and their frames, and on the frames of the newest change beside them.
const MAX_RING_BYTES: usize = 2 * 16 * 1024 * 1024;

/// The number of a user says which flags it sees.
fn notes() -> EngineBuilder {
    let flags = FLAGS.map(|name| (name.to_owned(), json!({"type": "boolean", "default": true})));
    let mut properties = Map::from_iter(flags);
    properties.insert("text".into(), json!({"type": "string", "default": ""}));
    let schema = json!({"type": "object", "properties": properties});
    let rule = |user: &str, _: Access| {
        let view: usize = user.parse().map_err(|_| Denied::Unauthenticated)?;
        let flags = (0..FLAGS.len()).filter(|flag| view & (1 << flag) > 0);
        let names = flags.map(|flag| FLAGS[flag]).chain(["text"]);
        Ok::<_, Denied>(Grant::full().with_view(View::only(names)))
    };
    Engine::builder().collection(Collection::from_schema("notes", &schema).authorize(Rule(rule)))
}

async fn live(app: &App, view: usize) -> Socket {
    let mut socket = Socket::v1_as(app, &view.to_string()).await;
    socket.subscribe("notes", None).await;
    Mirror::default().catch_up(&mut socket).await;
    socket
}

/// Reads until a message contains a large text. JSON is not parsed, which would take most of the time.
pub(crate) async fn read_change(socket: &mut Socket) {
    loop {
        let message = within_limit("a change", socket.stream.next()).await;
        let message = message.expect("the socket is open").unwrap();
        if message
            .as_text()
            .is_some_and(|text| text.len() > TEXT_BYTES)
        {
            return;
        }
    }
}

async fn m_frames_of_many_views_count_as_memory_of_the_recent_changes(app: App) {
    let create = Edit::create("notes", json!({}));
    app.engine.transaction(vec![create]).await.unwrap();
    let mut reading = join_all((0..VIEWS).map(|view| live(&app, view))).await;
    // These take nothing more.
    let stalled = join_all((0..VIEWS).step_by(4).map(|view| live(&app, view))).await;
    let ring_bytes = || app.engine.stats().collections["notes"].ring_bytes;
    let mut largest = 0;
    for number in 0..CHANGES {
        let text = format!("{number} {}", "x".repeat(TEXT_BYTES));
        let patch = Edit::patch(("notes", 1), json!({"text": text}));
        app.engine.transaction(vec![patch]).await.unwrap();
        join_all(reading.iter_mut().map(read_change)).await;
        largest = largest.max(ring_bytes());
        assert!(ring_bytes() <= MAX_RING_BYTES, "{} bytes", ring_bytes());
    }
    // The frames are counted: the changes alone are fewer.
    assert!(largest > MAX_RING_BYTES / 2, "{largest} bytes");
    drop((reading, stalled));
}
