//! A rule that reads who is a member is asked again when that changes, for the streams that are open: on this node and on others, by
//! edits and by SQL.

mod as_data;
mod asks;
mod mirrored;
mod nodes;
mod one_node;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fieldsync::{
    Access, Authorizer, Collection, Denied, Edit, Engine, EngineBuilder, Filter, Grant,
    MemoryStore, Principal, Reads, Subscription, Update, async_trait, reads,
};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

use crate::app::{App, On, Server};
use crate::events::Events;
use crate::socket::{Mirror, Socket};
use crate::tasks::within_limit;

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Member {
    #[schemars(length(max = 100))]
    user_id: String,
    project: i64,
    #[schemars(length(max = 100))]
    role: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Task {
    project: i64,
    title: String,
}

/// Members of a project see its tasks.
#[derive(Debug, Default)]
struct OfMembers {
    engine: OnceLock<Engine>,
    /// Whom it was asked about.
    asked: Mutex<Vec<String>>,
    mood: Mutex<Mood>,
    was_asked: Notify,
    may_answer: Notify,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Mood {
    #[default]
    Answers,
    Fails,
    Panics,
    /// It has read who is a member, and waits before it answers.
    Waits,
}

/// The rule, as collections of several apps have it.
#[derive(Debug)]
struct Shared(Arc<OfMembers>);

#[async_trait]
impl Authorizer for Shared {
    async fn authorize(&self, who: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
        let rule = &self.0;
        let name = who.name().ok_or(Denied::Unauthenticated)?;
        rule.asked.lock().unwrap().push(name.to_owned());
        let mood = *rule.mood.lock().unwrap();
        match mood {
            Mood::Fails => return Err(Denied::unavailable("on purpose")),
            Mood::Panics => panic!("on purpose"),
            Mood::Answers | Mood::Waits => {}
        }
        let engine = rule.engine.get().expect("the engine has started");
        let members = engine.collection::<Member>("members").query();
        let members = members.filter(Filter::eq("user_id", name));
        let members = members.list(None, 100).await.map_err(Denied::unavailable)?;
        let mut projects: Vec<_> = members.iter().map(|one| one.fields.project).collect();
        projects.sort_unstable();
        if mood == Mood::Waits {
            rule.was_asked.notify_one();
            rule.may_answer.notified().await;
        }
        if projects.is_empty() {
            return Err(Denied::Forbidden);
        }
        Ok(Grant::full().with_rows(Filter::is_in("project", projects)))
    }

    fn reads(&self) -> Vec<Reads> {
        vec![reads("members").principal_by("user_id")]
    }
}

impl OfMembers {
    fn builder(self: &Arc<Self>) -> EngineBuilder {
        let members = Collection::of::<Member>("members");
        let tasks = Collection::of::<Task>("tasks");
        Engine::builder()
            .collection(members.capture().open_to_everyone())
            .collection(tasks.capture().authorize(Shared(Arc::clone(self))))
            .feed("tasks", |change| json!({"task": change.record}))
    }

    /// Whom it was asked about since this was last called.
    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// The database of some nodes.
enum Database {
    Memory(MemoryStore),
    Sqlite(tempfile::TempDir),
    #[cfg(feature = "services")]
    Postgres(String),
}

impl Database {
    async fn fresh(on: On) -> Self {
        match on {
            On::Memory => Self::Memory(MemoryStore::new()),
            On::Sqlite => Self::Sqlite(tempfile::tempdir().unwrap()),
            #[cfg(feature = "services")]
            On::Postgres => Self::Postgres(crate::cluster::fresh_database().await),
        }
    }

    /// Runs SQL as another program. Returns whether there is SQL.
    async fn run(&self, sql: &str) -> bool {
        match self {
            Self::Memory(_) => return false,
            Self::Sqlite(folder) => {
                let database = rusqlite::Connection::open(folder.path().join("app.db")).unwrap();
                database.busy_timeout(Duration::from_secs(20)).unwrap();
                tokio::task::block_in_place(|| database.execute_batch(sql)).unwrap();
            }
            #[cfg(feature = "services")]
            Self::Postgres(url) => {
                let client = crate::cluster::connect(url).await;
                client.batch_execute(sql).await.unwrap();
            }
        }
        true
    }

    /// Adds a store.
    async fn store(&self, builder: EngineBuilder) -> EngineBuilder {
        match self {
            Self::Memory(store) => builder.store(store.clone()),
            Self::Sqlite(folder) => {
                let store = SqliteStore::open(folder.path().join("app.db")).await;
                builder.store(store.unwrap())
            }
            #[cfg(feature = "services")]
            Self::Postgres(url) => {
                let store = fieldsync_postgres::PostgresStore::connect(url).await;
                builder.store(store.unwrap())
            }
        }
    }

    /// A node with this rule.
    async fn node(&self, server: Server, rule: &Arc<OfMembers>, builder: EngineBuilder) -> App {
        let builder = self.store(builder).await;
        let app = App::with(server, builder, tempfile::tempdir().unwrap()).await;
        let _ = rule.engine.set(app.engine.clone());
        app
    }
}

impl App {
    async fn add(&self, user: &str, project: i64) {
        let edit = Edit::create("members", json!({"user_id": user, "project": project}));
        self.engine.transaction(vec![edit]).await.unwrap();
    }

    async fn member_ids(&self, user: &str) -> Vec<fieldsync::RecordId> {
        let members = self.engine.collection::<Member>("members").query();
        let members = members.filter(Filter::eq("user_id", user));
        let members = members.list(None, 100).await.unwrap();
        members.into_iter().map(|member| member.id).collect()
    }

    /// Removes a user from all projects.
    async fn remove(&self, user: &str) {
        let ids = self.member_ids(user).await.into_iter();
        let edits = ids.map(|id| Edit::delete(("members", id)));
        self.engine.transaction(edits.collect()).await.unwrap();
    }

    /// Changes something of a member that does not change what it may read.
    async fn touch(&self, user: &str) {
        let ids = self.member_ids(user).await.into_iter();
        let role = format!("role {}", fastrand::u64(..));
        let edits = ids.map(|id| Edit::patch(("members", id), json!({"role": role})));
        self.engine.transaction(edits.collect()).await.unwrap();
    }

    async fn task(&self, project: i64, title: &str) {
        let edit = Edit::create("tasks", json!({"project": project, "title": title}));
        self.engine.transaction(vec![edit]).await.unwrap();
    }
}

/// A live socket, with what it shows.
struct Window {
    socket: Socket,
    mirror: Mirror,
}

impl Window {
    async fn open(app: &App, user: &str) -> Self {
        Self::open_on(app, user, "tasks").await
    }

    async fn open_on(app: &App, user: &str, topic: &str) -> Self {
        let mut socket = Socket::v1_as(app, user).await;
        socket.subscribe(topic, None).await;
        let mut mirror = Mirror::default();
        mirror.catch_up(&mut socket).await;
        Self { socket, mirror }
    }

    fn titles(&self) -> Vec<&str> {
        let records = self.mirror.records.values();
        let mut titles: Vec<_> = records
            .map(|task| task["title"].as_str().unwrap())
            .collect();
        titles.sort_unstable();
        titles
    }

    /// Reads until a task with this title comes.
    async fn until(&mut self, title: &str) {
        while !self.titles().contains(&title) {
            self.mirror.apply(&self.socket.next().await.unwrap());
        }
    }

    /// The next message that is no heartbeat is an error of this status.
    async fn denied(&mut self, status: u16) {
        let error = self.socket.expect("error").await;
        assert_eq!(error["sub"], "tasks");
        assert_eq!(error["problem"]["status"], status, "{error}");
    }
}

/// A live event stream.
async fn events(app: &App, user: &str) -> Events {
    let request = app.request("GET", "/api/tasks/").header("x-user", user);
    let mut events = Events::of(request).await;
    while events.next().await.unwrap().data["type"] != "live" {}
    events
}

/// A live subscription of the Rust API.
async fn subscription(app: &App, user: &str) -> Subscription {
    let caller = app.engine.on_behalf_of(Principal::named(user));
    let mut subscription = caller.subscribe("tasks", None).await.unwrap();
    while !matches!(subscription.next().await, Some(Update::Live { .. })) {}
    subscription
}

/// Waits until this is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while !is_so() {
            ticks.tick().await;
        }
    };
    within_limit(what, waiting).await;
}
