//! Many topics on one socket: they share a position in the log, and each has just what it asks for.

use std::collections::BTreeMap;

use fastrand::Rng;
use fieldsync::{Collection, Edit, Engine, EngineBuilder};
use serde_json::{Value, json};

use crate::app::{App, on_every_store};
use crate::random;
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

on_every_store!(with tasks:
    x_hundreds_of_topics_on_a_socket_have_everything_when_it_is_synced,
    x_quiet_topics_stay_live_whatever_happens_beside_them,
);

const RECORDS: i64 = 150;
const PROJECTS: i64 = 60;
const STATUSES: [&str; 3] = ["open", "late", "done"];

fn tasks() -> EngineBuilder {
    let tasks = json!({"type": "object", "properties": {
        "project_id": {"type": "integer"},
        "status": {"type": "string", "enum": STATUSES},
        "rank": {"type": "integer"},
    }});
    Engine::builder().collection(Collection::from_schema("tasks", &tasks).open_to_everyone())
}

fn random_task(random: &mut Rng) -> Value {
    json!({
        "project_id": random.i64(0..PROJECTS),
        "status": STATUSES[random.usize(..STATUSES.len())],
        "rank": random.i64(0..20),
    })
}

/// Some edits in one transaction. Returns the cursor after them.
async fn edit(app: &App, random: &mut Rng) {
    let mut edits = Vec::new();
    for _ in 0..random.usize(1..20) {
        let id = random.i64(1..=RECORDS + 20);
        let task = random_task(random);
        edits.push(match random.u8(..10) {
            0 => Edit::create("tasks", task),
            1 => Edit::delete(("tasks", id)),
            2..=4 => Edit::patch(("tasks", id), json!({"rank": task["rank"]})),
            _ => Edit::patch(("tasks", id), task),
        });
    }
    for edit in edits {
        // Those of records that do not exist are refused.
        let _ = app.engine.transaction(vec![edit]).await;
    }
}

/// A topic, and which tasks it has.
#[derive(Debug, Clone, Copy)]
enum Topic {
    All,
    Record(i64),
    Project(i64),
    /// One that no value finds.
    NotDoneAfter(i64),
    TwoProjects(i64, i64),
    /// The first three of a project.
    Window(i64),
}

impl Topic {
    fn text(self) -> String {
        match self {
            Self::All => "tasks".into(),
            Self::Record(id) => format!("tasks/{id}"),
            Self::Project(id) => format!("tasks?project_id=eq.{id}"),
            Self::NotDoneAfter(id) => format!("tasks?project_id=gt.{id}&status=neq.done"),
            Self::TwoProjects(one, two) => format!("tasks?project_id=in.({one},{two})"),
            Self::Window(id) => format!("tasks?project_id=eq.{id}&order=rank&limit=3"),
        }
    }

    fn any(random: &mut Rng) -> Self {
        let project = random.i64(0..PROJECTS);
        match random.u8(..12) {
            0 => Self::All,
            1..=3 => Self::Record(random.i64(1..=RECORDS)),
            4 => Self::NotDoneAfter(project),
            5 => Self::TwoProjects(project, random.i64(0..PROJECTS)),
            6 | 7 => Self::Window(project),
            _ => Self::Project(project),
        }
    }

    /// Its part of all tasks, by id.
    fn of(self, all: &Value) -> Value {
        let mut all = all.as_array().unwrap().clone();
        let number = |task: &Value, field: &str| task[field].as_i64().unwrap();
        all.retain(|task| {
            let project = number(task, "project_id");
            match self {
                Self::All => true,
                Self::Record(id) => number(task, "id") == id,
                Self::Project(id) | Self::Window(id) => project == id,
                Self::NotDoneAfter(id) => project > id && task["status"] != "done",
                Self::TwoProjects(one, two) => project == one || project == two,
            }
        });
        if matches!(self, Self::Window(_)) {
            all.sort_by_key(|task| (number(task, "rank"), number(task, "id")));
            all.truncate(3);
        }
        all.sort_by_key(|task| number(task, "id"));
        all.into()
    }
}

/// The topics of a socket, by the names of their subscriptions.
#[derive(Default)]
struct Topics {
    topics: BTreeMap<String, (Topic, Mirror)>,
    made: usize,
}

impl Topics {
    async fn add(&mut self, socket: &mut Socket, topic: Topic) {
        let sub = self.made.to_string();
        self.made += 1;
        let mut mirror = Mirror::default();
        mirror.go_on_as(socket, &sub, &topic.text()).await.unwrap();
        self.topics.insert(sub, (topic, mirror));
    }

    async fn remove(&mut self, socket: &mut Socket, random: &mut Rng) {
        let index = random.usize(..self.topics.len());
        let sub = self.topics.keys().nth(index).unwrap().clone();
        socket
            .send(&json!({"type": "unsubscribe", "sub": sub}))
            .await;
        self.topics.remove(&sub);
    }

    /// Applies a message, and returns its type. What still comes for a topic that was removed is ignored.
    fn apply(&mut self, message: &Value) -> String {
        if let Some(sub) = message["sub"].as_str()
            && let Some((_, mirror)) = self.topics.get_mut(sub)
        {
            mirror.apply(message);
        }
        message["type"].as_str().unwrap().to_owned()
    }

    /// Reads until everything up to now was sent, and compares each topic with the table.
    async fn check(&mut self, app: &App, socket: &mut Socket) {
        let list = app.request("GET", "/api/tasks/").send().await.unwrap();
        let cursor = list.headers()["fieldsync-cursor"].to_str().unwrap();
        socket
            .send(&json!({"type": "sync", "cursor": cursor}))
            .await;
        let all: Value = list.json().await.unwrap();
        while self.apply(&socket.next().await.unwrap()) != "synced" {}
        for (sub, (topic, mirror)) in &self.topics {
            assert_eq!(mirror.list(), topic.of(&all), "{sub}: {topic:?}");
            assert_eq!(mirror.resets, [""; 0], "{sub}: {topic:?}");
        }
    }
}

async fn x_hundreds_of_topics_on_a_socket_have_everything_when_it_is_synced(app: App) {
    let mut random = random::generator();
    let create = (0..RECORDS).map(|_| Edit::create("tasks", random_task(&mut random)));
    let create: Vec<_> = create.collect();
    app.engine.transaction(create).await.unwrap();
    let (mut socket, mut topics) = (Socket::v1(&app).await, Topics::default());
    for _ in 0..300 {
        let topic = Topic::any(&mut random);
        topics.add(&mut socket, topic).await;
    }
    for _ in 0..12 {
        for _ in 0..random.usize(..5) {
            edit(&app, &mut random).await;
        }
        for _ in 0..random.usize(..20) {
            let topic = Topic::any(&mut random);
            topics.add(&mut socket, topic).await;
            topics.remove(&mut socket, &mut random).await;
        }
        edit(&app, &mut random).await;
        topics.check(&app, &mut socket).await;
    }
}

async fn x_quiet_topics_stay_live_whatever_happens_beside_them(app: App) {
    let mut random = random::generator();
    let quiet = json!({"project_id": 1, "status": "open", "rank": 1});
    let busy = json!({"project_id": 2, "status": "open", "rank": 1});
    for task in [quiet, busy] {
        let created = app.send("POST", "/api/tasks/", &task).await;
        assert_eq!(created.0, 201);
    }
    let (mut socket, mut topics) = (Socket::v1(&app).await, Topics::default());
    for number in 0..200 {
        let topics_of_one = [Topic::Record(1), Topic::Project(1), Topic::Window(1)];
        let topic = topics_of_one[number % topics_of_one.len()];
        topics.add(&mut socket, topic).await;
    }
    topics.check(&app, &mut socket).await;
    let reads = app.engine.stats().subscriber_reads;
    // More than a hub keeps of the log.
    for _ in 0..30 {
        let ranks = (0..100).map(|_| json!({"rank": random.i64(0..1000)}));
        let edits = ranks.map(|rank| Edit::patch(("tasks", 2), rank)).collect();
        app.engine.transaction(edits).await.unwrap();
    }
    let path = "/api/tasks/1/";
    for rank in 0..3 {
        app.send("PATCH", path, &json!({"rank": rank})).await;
        topics.check(&app, &mut socket).await;
    }
    assert_eq!(app.engine.stats().subscriber_reads, reads);
    // One of them begins to follow the busy record as well.
    let all = Topics::add(&mut topics, &mut socket, Topic::All);
    within_limit("a subscription", all).await;
    app.send("PATCH", path, &json!({"project_id": 2})).await;
    topics.check(&app, &mut socket).await;
}
