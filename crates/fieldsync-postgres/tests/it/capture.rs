//! What others write with SQL, and what the database itself changes, reaches subscribers of PostgreSQL's store.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fieldsync::{
    Action, Collection, Cursor, Edit, Engine, Fields, Record, RecordId, ResetReason, Subscription,
    Update,
};
use fieldsync_postgres::PostgresStore;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::cluster::{connect, fresh_database};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn collection(name: &str, fields: &Value) -> Collection {
    let schema = json!({"type": "object", "properties": fields});
    Collection::from_schema(name, &schema)
        .table(name)
        .capture()
        .open_to_everyone()
}

/// A database with tables that this SQL creates, another program's connection to it, and an engine.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) sql: Client,
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) async fn new(tables: &str, collections: Vec<Collection>) -> Self {
        let url = fresh_database().await;
        let sql = connect(&url).await;
        sql.batch_execute(tables).await.unwrap();
        let engine = engine(&url, collections).await;
        Self { url, sql, engine }
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap();
    }

    /// A database with one author, whose only engine has stopped, and a cursor from before that.
    pub(crate) async fn stopped() -> (String, Client, Cursor) {
        let world = Self::new(LIBRARY, library()).await;
        world
            .run("insert into authors (id, name) values (1, 'a')")
            .await;
        let mut authors = world.window("authors").await;
        authors.shows(&[(1, json!({"name": "a"}))]).await;
        let mut again = world.engine.subscribe("authors", None).await.unwrap();
        let cursor = loop {
            if let Update::Live { cursor } = again.next().await.unwrap() {
                break cursor;
            }
        };
        drop((authors, again));
        let Self { url, sql, engine } = world;
        let _ = engine.drain(Duration::from_secs(1)).await;
        (url, sql, cursor)
    }

    pub(crate) async fn window(&self, name: &str) -> Window {
        let mut window = Window {
            updates: self.engine.subscribe(name, None).await.unwrap(),
            records: BTreeMap::new(),
            changes: Vec::new(),
            resets: Vec::new(),
        };
        while !matches!(window.next().await, Update::Live { .. }) {}
        window
    }
}

pub(crate) async fn engine(url: &str, collections: Vec<Collection>) -> Engine {
    let store = PostgresStore::connect(url).await.unwrap();
    let mut builder = Engine::builder().store(store);
    for collection in collections {
        builder = builder.collection(collection);
    }
    builder.start().await.unwrap()
}

/// Why an engine does not start with the table `items` of this SQL.
pub(crate) async fn refused_start(tables: &str) -> String {
    let url = fresh_database().await;
    connect(&url).await.batch_execute(tables).await.unwrap();
    let items = collection("items", &json!({"name": {"type": "string"}})).no_create();
    let store = PostgresStore::connect(&url).await.unwrap();
    let started = Engine::builder().store(store).collection(items);
    let error = started.start().await.unwrap_err();
    fieldsync_sql::text_of(&error)
}

/// A subscriber's copy of a collection.
pub(crate) struct Window {
    updates: Subscription,
    pub(crate) records: BTreeMap<RecordId, Fields>,
    /// The changes that it received one by one.
    pub(crate) changes: Vec<(RecordId, Action, Fields)>,
    pub(crate) resets: Vec<ResetReason>,
}

impl Window {
    pub(crate) async fn next(&mut self) -> Update {
        let update = timeout(TIMEOUT, self.updates.next()).await;
        let update = update.expect("an update in time").expect("the engine runs");
        match &update {
            Update::Snapshot { records, .. } => {
                for Record { id, fields } in records {
                    self.records.insert(id.clone(), fields.clone());
                }
            }
            Update::Changes { changes, .. } => changes.iter().for_each(|one| self.apply(one)),
            Update::Change { change, .. } => self.apply(change),
            Update::Reset(reason) => {
                self.records.clear();
                self.resets.push(*reason);
            }
            _ => {}
        }
        update
    }

    fn apply(&mut self, change: &fieldsync::FoldedChange) {
        self.changes
            .push((change.id.clone(), change.action, change.fields.clone()));
        match change.action {
            Action::Delete => {
                self.records.remove(&change.id);
            }
            _ => {
                let record = self.records.entry(change.id.clone()).or_default();
                record.extend(change.fields.clone());
            }
        }
    }

    /// Waits until the window shows these records.
    pub(crate) async fn shows(&mut self, expected: &[(i64, Value)]) {
        let expected: BTreeMap<RecordId, Fields> = expected
            .iter()
            .map(|(id, fields)| {
                let fields = serde_json::from_value(fields.clone()).unwrap();
                (RecordId::Integer(*id), fields)
            })
            .collect();
        let deadline = Instant::now() + TIMEOUT;
        while self.records != expected {
            assert!(Instant::now() < deadline, "{:?}", self.records);
            self.next().await;
        }
    }

    pub(crate) async fn is_reset(&mut self) {
        while self.resets.is_empty() {
            self.next().await;
        }
        while !matches!(self.next().await, Update::Live { .. }) {}
        assert_eq!(self.resets, [ResetReason::Capture]);
    }
}

pub(crate) const LIBRARY: &str = "create table authors (id bigint generated by default as identity primary key, name text not null default ''); \
     create table books (id bigint generated by default as identity primary key, title text not null default '', \
       author_id bigint references authors(id) on delete cascade)";

pub(crate) fn library() -> Vec<Collection> {
    let text = json!({"type": "string", "default": ""});
    let reference = json!({"type": ["integer", "null"], "default": null});
    vec![
        collection("authors", &json!({"name": text})),
        collection("books", &json!({"title": text, "author_id": reference})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cascade_deletes_the_records_in_every_window() {
    let world = World::new(LIBRARY, library()).await;
    world
        .run("insert into authors (id, name) values (1, 'Ada'), (2, 'Bob'); \
              insert into books (id, title, author_id) values (1, 'a', 1), (2, 'b', 1), (3, 'c', 2)")
        .await;
    let mut books = world.window("books").await;
    let delete = Edit::delete(("authors", 1));
    world.engine.transaction(vec![delete]).await.unwrap();
    books
        .shows(&[(3, json!({"title": "c", "author_id": 2}))])
        .await;
    let deleted = books
        .changes
        .iter()
        .filter(|(_, action, _)| *action == Action::Delete);
    assert_eq!(deleted.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_is_announced_at_once() {
    let world = World::new(LIBRARY, library()).await;
    let mut authors = world.window("authors").await;
    let mut delays = Vec::new();
    for number in 1..=8 {
        // Alternately while the engine sleeps and while it is awake.
        if number % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(1300)).await;
        }
        let begun = Instant::now();
        world
            .run(&format!(
                "insert into authors (id, name) values ({number}, 'x')"
            ))
            .await;
        while authors.records.len() < number {
            authors.next().await;
        }
        delays.push(begun.elapsed());
    }
    delays.sort();
    // Far less than the poll interval of a second.
    assert!(delays[4] < Duration::from_millis(300), "{delays:?}");
    world
        .run("update authors set name = 'y' where id = 3; delete from authors where id <> 3")
        .await;
    authors.shows(&[(3, json!({"name": "y"}))]).await;
    world.run("begin; insert into authors default values; savepoint s; delete from authors; rollback to s; rollback").await;
    world.run("update authors set id = 30 where id = 3").await;
    authors.shows(&[(30, json!({"name": "y"}))]).await;
    assert_eq!(authors.resets, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_captured_with_the_edit_that_set_them_off() {
    let tables = "create table tasks (id bigint primary key, title text not null, deleted boolean not null default false); \
         create table counts (id bigint primary key, tasks bigint not null); insert into counts values (1, 0); \
         create function count_tasks() returns trigger language plpgsql as $$ begin \
           update counts set tasks = tasks + 1; return null; end $$; \
         create trigger count_tasks after insert or update on tasks for each row execute function count_tasks(); \
         create function keep() returns trigger language plpgsql as $$ begin \
           update tasks set deleted = true where id = old.id; return null; end $$; \
         create trigger keep before delete on tasks for each row execute function keep(); \
         insert into tasks values (1, 'a')";
    let tasks =
        json!({"title": {"type": "string"}, "deleted": {"type": "boolean", "default": false}});
    let counts = json!({"tasks": {"type": "integer"}});
    let collections = vec![
        collection("tasks", &tasks).no_create(),
        collection("counts", &counts).no_create(),
    ];
    let world = World::new(tables, collections).await;
    let mut tasks = world.window("tasks").await;
    let mut counts = world.window("counts").await;
    let patch = Edit::patch(("tasks", 1), json!({"title": "b"}));
    world.engine.transaction(vec![patch]).await.unwrap();
    counts.shows(&[(1, json!({"tasks": 2}))]).await;
    let delete = Edit::delete(("tasks", 1));
    let outcome = world
        .engine
        .transaction(vec![delete])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(outcome.record().unwrap().fields["deleted"], true);
    tasks
        .shows(&[(1, json!({"title": "b", "deleted": true}))])
        .await;
    // A trigger that is created while the engine runs.
    world
        .run("create function loud() returns trigger language plpgsql as $$ begin \
                if new.title <> upper(new.title) then update tasks set title = upper(title) where id = new.id; end if; \
                return null; end $$; \
              create trigger loud after update on tasks for each row execute function loud()")
        .await;
    let patch = Edit::patch(("tasks", 1), json!({"title": "loud"}));
    let outcome = world
        .engine
        .transaction(vec![patch])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(outcome.record().unwrap().fields["title"], "LOUD");
    tasks
        .shows(&[(1, json!({"title": "LOUD", "deleted": true}))])
        .await;
    assert_eq!(tasks.resets, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_fire_no_trigger_are_a_reset() {
    for sql in [
        "truncate authors cascade",
        "alter table authors disable trigger all; update authors set name = 'b'; alter table authors enable trigger all",
        "alter table authors alter name type varchar(50) using 'b'",
        "drop trigger \"!fieldsync_row\" on authors; update authors set name = 'b'",
    ] {
        let world = World::new(LIBRARY, library()).await;
        world
            .run("insert into authors (id, name) values (1, 'a')")
            .await;
        let mut authors = world.window("authors").await;
        authors.shows(&[(1, json!({"name": "a"}))]).await;
        world.run(sql).await;
        authors.is_reset().await;
        let rows = world
            .sql
            .query("select name::text from authors", &[])
            .await
            .unwrap();
        let expected: Vec<_> = rows
            .iter()
            .map(|row| (1, json!({"name": row.get::<_, &str>(0)})))
            .collect();
        authors.shows(&expected).await;
        // Capture goes on.
        world
            .run("insert into authors (id, name) values (7, 'c')")
            .await;
        while !authors.records.contains_key(&RecordId::Integer(7)) {
            authors.next().await;
        }
        assert_eq!(authors.resets.len(), 1, "{sql}");
    }
    // `enable always` fires here.
    let world = World::new(LIBRARY, library()).await;
    let mut authors = world.window("authors").await;
    world.run("set session_replication_role = replica; insert into authors (id, name) values (1, 'a')").await;
    authors.shows(&[(1, json!({"name": "a"}))]).await;
    assert_eq!(authors.resets, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_finds_what_was_written_while_none_ran() {
    let (url, sql, cursor) = World::stopped().await;
    sql.batch_execute(
        "update authors set name = 'b'; insert into authors (id, name) values (2, 'c')",
    )
    .await
    .unwrap();
    let engine = engine(&url, library()).await;
    let mut updates = engine.subscribe("authors", Some(cursor)).await.unwrap();
    let mut found = BTreeMap::new();
    while found.len() < 2 {
        match timeout(TIMEOUT, updates.next()).await.unwrap().unwrap() {
            Update::Changes { changes, .. } => {
                found.extend(changes.into_iter().map(|one| (one.id, one.fields)));
            }
            Update::Change { change, .. } => {
                found.insert(change.id, change.fields);
            }
            Update::Live { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(found[&RecordId::Integer(1)]["name"], "b");
    assert_eq!(found[&RecordId::Integer(2)]["name"], "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_another_program_that_stays_open_holds_up_its_own_rows_alone() {
    let world = World::new(LIBRARY, library()).await;
    let insert = "insert into authors (id, name) values (1, 'a'), (2, 'b'), (3, 'c')";
    world.run(insert).await;
    let mut authors = world.window("authors").await;
    let mut open = connect(&world.url).await;
    let transaction = open.transaction().await.unwrap();
    let sql = "update authors set name = 'open' where id = 1; insert into authors (id, name) values (9, 'open')";
    transaction.batch_execute(sql).await.unwrap();
    let patch = |id: i64, name: &str| {
        let edit = Edit::patch(("authors", &id), json!({"name": name}));
        world.engine.transaction(vec![edit])
    };
    // It waits for the row until its deadline.
    let begun = Instant::now();
    let (waits, others) = tokio::join!(patch(1, "refused"), async {
        for round in 0..50 {
            patch(2, &format!("edit {round}")).await.unwrap();
            let sql = format!("update authors set name = 'sql {round}' where id = 3");
            world.run(&sql).await;
        }
        begun.elapsed()
    });
    assert!(waits.is_err(), "the row is locked");
    assert!(begun.elapsed() > Duration::from_secs(5), "it waited");
    assert!(others < Duration::from_secs(5), "{others:?}");
    transaction.commit().await.unwrap();
    authors
        .shows(&[
            (1, json!({"name": "open"})),
            (2, json!({"name": "edit 49"})),
            (3, json!({"name": "sql 49"})),
            (9, json!({"name": "open"})),
        ])
        .await;
    assert_eq!(authors.resets, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_changes_while_no_engine_ran_are_a_reset() {
    let (url, sql, cursor) = World::stopped().await;
    let insert = "insert into authors (id, name) select n, 'n' from generate_series(2, 100002) n";
    sql.batch_execute(insert).await.unwrap();
    let engine = engine(&url, library()).await;
    let mut updates = engine.subscribe("authors", Some(cursor)).await.unwrap();
    let (mut reset, mut records) = (None, 0);
    loop {
        match timeout(TIMEOUT, updates.next()).await.unwrap().unwrap() {
            Update::Reset(reason) => {
                reset = Some(reason);
                records = 0;
            }
            Update::Snapshot { records: piece, .. } => records += piece.len(),
            Update::Live { .. } if reset.is_some() => break,
            _ => {}
        }
    }
    assert_eq!((reset, records), (Some(ResetReason::Capture), 100_002));
    let waiting = "select count(*) from fieldsync_captured";
    let waiting: i64 = sql.query_one(waiting, &[]).await.unwrap().get(0);
    assert_eq!(waiting, 0);
}
