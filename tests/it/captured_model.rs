//! Random writes by engines and by other programs, with cascades, triggers and replaced rows, committed or rolled back. After
//! every message with a cursor a subscriber equals the fold of the log at that cursor, and when the writes stop, the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use fieldsync::backend::{Change, ChangesSince, Listing, PageLimit, Position, Store};
use fieldsync::{
    Action, Collection, Edit, Engine, Fields, FoldedChange, RecordId, Subscription, Update,
};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::database::{Database, on_both_databases};
use crate::random;
use crate::tasks::within_limit;

on_both_databases!(subscribers_equal_the_log_and_the_table_whoever_writes,);

const TABLES: [&str; 3] = ["authors", "books", "counts"];
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How many transactions each writer makes.
const TRANSACTIONS: usize = 150;

pub(crate) const SQLITE: &str = "
    create table authors ($key, name text not null default '', n integer not null default 0);
    create table books ($key, title text unique, n integer not null default 0,
        author_id integer references authors (id) on delete cascade);
    create table counts ($key, total integer not null default 0);
    insert into counts (id) values (1);
    create trigger count_insert after insert on books begin update counts set total = total + 1; end;
    create trigger count_delete after delete on books begin update counts set total = total - 1; end;
    create trigger note_rename after update of title on books when new.title is not old.title begin
        update authors set n = n + 1 where id = new.author_id;
        update books set n = n + 1 where id = new.id;
    end;";

pub(crate) const POSTGRES: &str = "
    create table authors ($key, name text not null default '', n bigint not null default 0);
    create table books ($key, title text unique, n bigint not null default 0,
        author_id bigint references authors (id) on delete cascade);
    create table counts ($key, total bigint not null default 0);
    insert into counts (id) values (1);
    create function count_books() returns trigger language plpgsql as $$ begin
        update counts set total = total + case tg_op when 'INSERT' then 1 else -1 end; return null; end $$;
    create constraint trigger count_books after insert or delete on books deferrable initially deferred
        for each row execute function count_books();
    create function note_rename() returns trigger language plpgsql as $$ begin
        update authors set n = n + 1 where id = new.author_id;
        update books set n = n + 1 where id = new.id; return null; end $$;
    create trigger note_rename after update on books for each row when (new.title is distinct from old.title)
        execute function note_rename();";

pub(crate) fn collections() -> [Collection; 3] {
    let integer = json!({"type": "integer", "default": 0});
    let collection = |name: &str, fields: serde_json::Value| {
        let schema = json!({"type": "object", "properties": fields});
        Collection::from_schema(name, &schema)
            .table(name)
            .capture()
            .open_to_everyone()
    };
    [
        collection(
            "authors",
            json!({"name": {"type": "string", "default": ""}, "n": integer}),
        ),
        collection(
            "books",
            json!({"title": {"type": ["string", "null"], "default": null}, "n": integer,
                   "author_id": {"type": ["integer", "null"], "default": null}}),
        )
        .orderable(["title"]),
        collection("counts", json!({"total": integer})),
    ]
}

pub(crate) async fn engine(database: &Database) -> Engine {
    let mut builder = Engine::builder().poll_interval(POLL_INTERVAL);
    for collection in collections() {
        builder = builder.collection(collection);
    }
    database
        .store(builder, "postgres", "")
        .await
        .start()
        .await
        .unwrap()
}

pub(crate) type Records = BTreeMap<RecordId, Fields>;

/// A subscriber's copy of a collection, and what it was after each message with a cursor.
struct Mirror {
    updates: Subscription,
    records: Records,
    states: Vec<(u64, Records)>,
}

impl Mirror {
    /// Opens a subscription, and reads its snapshot: while others write, one may be ahead of the log.
    async fn open(engine: &Engine, name: &str) -> Self {
        let mut mirror = Self {
            updates: engine.subscribe(name, None).await.unwrap(),
            records: Records::new(),
            states: Vec::new(),
        };
        while mirror.states.is_empty() {
            mirror.next().await;
        }
        mirror
    }

    async fn next(&mut self) {
        let update = within_limit("an update", self.updates.next()).await;
        let cursor = match update.expect("the engine runs") {
            Update::Snapshot { records, cursor } => {
                let records = records.into_iter();
                self.records.extend(records.map(|one| (one.id, one.fields)));
                cursor
            }
            Update::Changes { changes, cursor } => {
                changes.iter().for_each(|change| self.apply(change));
                cursor
            }
            Update::Change { change, cursor } => {
                self.apply(&change);
                Some(cursor)
            }
            Update::Live { cursor } => Some(cursor),
            other => panic!("{other:?}"),
        };
        if let Some(cursor) = cursor {
            self.states
                .push((cursor.position().offset, self.records.clone()));
        }
    }

    fn apply(&mut self, change: &FoldedChange) {
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

    /// Reads on until it shows these records.
    async fn until(&mut self, expected: &Records, name: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.records != *expected {
            assert!(
                Instant::now() < deadline,
                "{name}: {:#?}\nthe table: {expected:#?}",
                self.records
            );
            let next = tokio::time::timeout(Duration::from_secs(1), self.next());
            let _ = next.await;
        }
    }
}

/// Folds a log from its beginning, and checks each change against the one before it.
pub(crate) fn fold(mut records: Records, changes: &[Change]) -> BTreeMap<u64, Records> {
    let mut states = BTreeMap::from([(0, records.clone())]);
    for change in changes {
        let id = change.key.id.clone();
        let before = records.get(&id);
        let shown = || format!("{change:#?}\non {before:#?}");
        match change.action {
            Action::Create => assert!(before.is_none(), "{}", shown()),
            Action::Update => {
                let before = before.unwrap_or_else(|| panic!("{}", shown()));
                assert!(!change.previous.is_empty(), "{}", shown());
                for (name, value) in before {
                    let previous = change.previous.get(name).unwrap_or(&change.after[name]);
                    assert_eq!(previous, value, "{name}: {}", shown());
                }
            }
            _ => assert_eq!(Some(&change.previous), before, "{}", shown()),
        }
        if change.action == Action::Delete {
            records.remove(&id);
        } else {
            records.insert(id, change.after.clone());
        }
        states.insert(change.position.offset, records.clone());
    }
    states
}

const ALL: PageLimit = PageLimit {
    rows: 1000,
    bytes: 1 << 20,
};

pub(crate) async fn log(store: &dyn Store, name: &str) -> Vec<Change> {
    let heads = store.heads().await.unwrap();
    let (_, head) = heads.iter().find(|(log, _)| &**log == name).unwrap();
    let mut since = Position {
        offset: 0,
        tag: 0,
        ..*head
    };
    let mut log = Vec::new();
    loop {
        let ChangesSince::Changes { changes, more } =
            store.changes(name, since, ALL).await.unwrap()
        else {
            panic!("the whole log is kept");
        };
        if let Some(last) = changes.last() {
            since = last.position;
        }
        log.extend(changes);
        if !more {
            return log;
        }
    }
}

/// A writer through an engine.
async fn edit(engine: &Engine, random: &mut Rng) {
    for number in 0..TRANSACTIONS {
        let mut edits = Vec::new();
        for _ in 0..random.usize(1..4) {
            let (author, book) = (random.i64(1..8), random.i64(1..20));
            edits.push(match random.u8(0..8) {
                0 => Edit::create("authors", json!({"name": format!("e{number}")})),
                1 => Edit::create("books", json!({"author_id": author})),
                2 => Edit::delete(("authors", author)),
                3 => Edit::delete(("books", book)),
                4 => Edit::patch(("authors", author), json!({"name": format!("e{number}")})),
                5 => Edit::patch(("books", book), json!({"author_id": author})),
                _ => Edit::patch(
                    ("books", book),
                    json!({"title": format!("t{}", random.u8(0..9))}),
                ),
            });
        }
        // Many are refused: the record does not exist, or the title is taken.
        let _ = engine.transaction(edits).await;
    }
}

/// A transaction of another program.
fn sql(random: &mut Rng, is_postgres: bool) -> String {
    let mut sql = "begin; ".to_owned();
    for _ in 0..random.usize(1..5) {
        let (author, book, title) = (random.i64(1..8), random.i64(1..20), random.u8(0..9));
        let replace = if is_postgres {
            format!(
                "delete from books where title = 't{title}' or id = {book}; \
                 insert into books (id, title) values ({book}, 't{title}')"
            )
        } else {
            format!("insert or replace into books (id, title) values ({book}, 't{title}')")
        };
        sql += &match random.u8(0..12) {
            0 => format!("insert into authors (name) values ('s{title}')"),
            1 => {
                format!("insert into books (author_id) select id from authors where id = {author}")
            }
            2 => format!("delete from authors where id = {author}"),
            3 => format!("delete from books where id = {book}"),
            4 => format!("update authors set name = 's{title}' where id >= {author}"),
            5 => format!("update books set n = n + 1 where author_id = {author}"),
            6 => format!(
                "update authors set id = 100 + {author} where id = {author} and not exists \
                          (select 1 from books where author_id = {author}) and not exists \
                          (select 1 from authors where id = 100 + {author})"
            ),
            7 => format!(
                "savepoint s; update books set n = -1; delete from authors where id = {author}; rollback to s"
            ),
            8 => format!(
                "update authors set name = 'x' where id = {author}; update authors set name = name || 'y' where id = {author}"
            ),
            9 => format!("update books set title = null where id = {book}"),
            _ => replace,
        };
        sql += "; ";
    }
    sql + if random.u8(0..4) == 0 {
        "rollback"
    } else {
        "commit"
    }
}

pub(crate) async fn write(database: &Database, mut random: Rng) {
    let mut program = database.program().await;
    for _ in 0..TRANSACTIONS {
        let sql = sql(&mut random, database.is_postgres());
        // Deadlocks, and what the constraints refuse, are rolled back.
        program.try_run(&sql).await;
        if random.u8(0..10) == 0 {
            tokio::time::sleep(Duration::from_millis(random.u64(1..30))).await;
        }
    }
}

async fn subscribers_equal_the_log_and_the_table_whoever_writes(database: Database) {
    let mut random = random::generator();
    database.run_own(SQLITE, POSTGRES).await;
    let engines = [engine(&database).await, engine(&database).await];
    let mut mirrors = Vec::new();
    for name in TABLES {
        for engine in &engines {
            mirrors.push((name, Mirror::open(engine, name).await));
        }
    }
    let mut writers = [random.fork(), random.fork(), random.fork(), random.fork()];
    let [one, two, three, four] = &mut writers;
    let writing = async {
        tokio::join!(
            edit(&engines[0], one),
            edit(&engines[1], two),
            write(&database, three.clone()),
            write(&database, four.clone()),
        );
    };
    let reading = async {
        futures_util::future::join_all(mirrors.iter_mut().map(|(_, mirror)| async {
            loop {
                mirror.next().await;
            }
        }))
        .await;
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
    // One that begins in the middle.
    for name in TABLES {
        mirrors.push((name, Mirror::open(&engines[0], name).await));
    }
    let store = database.second_store(&collections().map(Arc::new)).await;
    for (name, mirror) in &mut mirrors {
        let page = store.list(name, &Listing::by_id(None, ALL)).await.unwrap();
        let table = page
            .records
            .into_iter()
            .map(|one| (one.id, one.fields))
            .collect();
        mirror.until(&table, name).await;
    }
    for (at, name) in TABLES.iter().enumerate() {
        let mut before = Records::new();
        if *name == "counts" {
            let total = [("total".to_owned(), json!(0))];
            before.insert(1.into(), total.into_iter().collect());
        }
        let states = fold(before, &log(&*store, name).await);
        assert!(states.len() > 5, "{name}: little happened");
        for (_, mirror) in &mirrors[2 * at..2 * at + 2] {
            for (offset, records) in &mirror.states {
                assert_eq!(records, &states[offset], "{name} at {offset}");
            }
        }
    }
}
