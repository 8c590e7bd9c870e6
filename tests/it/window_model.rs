//! Random edits by two engines, and then by other programs as well: after every message with a cursor a window has the first records of
//! the table at that cursor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use fieldsync::{
    Action, Cursor, Edit, Engine, Filter, FoldedChange, Subscription, Topic, Update, asc, desc,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::captured_model::{self, POSTGRES, Records, SQLITE, collections, fold, log, write};
use crate::database::{Database, on_both_databases};
use crate::random;
use crate::tasks::within_limit;
use crate::windows::compare;

on_both_databases!(windows_equal_the_first_records_at_each_cursor,);

/// What a subscriber has of a window.
struct Window {
    topic: Topic,
    order: &'static str,
    limit: usize,
    matches: fn(&Value) -> bool,
    updates: Option<Subscription>,
    records: Records,
    pieces: Option<Records>,
    buffered: Vec<FoldedChange>,
    cursor: Option<Cursor>,
    /// The records at each cursor.
    states: Vec<(u64, Records)>,
}

impl Window {
    fn new(topic: Topic, order: &'static str, limit: usize, matches: fn(&Value) -> bool) -> Self {
        Self {
            topic: topic.window(limit),
            order,
            limit,
            matches,
            updates: None,
            records: Records::new(),
            pieces: None,
            buffered: Vec::new(),
            cursor: None,
            states: Vec::new(),
        }
    }

    fn all() -> Vec<Self> {
        let books = || Topic::of("books");
        let some_authors = Filter::is_in("author_id", [1, 2, 3]);
        vec![
            Self::new(books().order_by(desc("n")), "n.desc", 3, |_| true),
            Self::new(
                books()
                    .filter(some_authors)
                    .order_by(desc("author_id"))
                    .order_by(asc("title").nulls_first()),
                "author_id.desc,title.nullsfirst",
                4,
                |book| matches!(book["author_id"].as_i64(), Some(1..=3)),
            ),
            Self::new(books().order_by(asc("title")), "title", 5, |_| true),
            Self::new(books().order_by(desc("id")), "id.desc", 2, |_| true),
        ]
    }

    /// Reads one update, from time to time late or over a new subscription.
    async fn next(&mut self, engine: &Engine, random: &mut Rng) {
        let updates = match &mut self.updates {
            Some(updates) => updates,
            None => {
                self.pieces = None;
                self.buffered.clear();
                let opened = engine.subscribe(self.topic.clone(), self.cursor).await;
                self.updates.insert(opened.unwrap())
            }
        };
        let update = within_limit("an update", updates.next()).await;
        let cursor = match update.expect("the engine runs") {
            Update::Snapshot { records, cursor } => {
                let records = records.into_iter().map(|one| (one.id, one.fields));
                self.pieces.get_or_insert_default().extend(records);
                if cursor.is_some() {
                    self.records = self.pieces.take().unwrap();
                }
                cursor
            }
            Update::Changes { changes, cursor } => {
                self.buffered.extend(changes);
                cursor
            }
            Update::Change { change, cursor } => {
                self.buffered.push(change);
                Some(cursor)
            }
            Update::Live { cursor } => Some(cursor),
            other => panic!("{other:?}"),
        };
        if self.pieces.is_some() || cursor.is_some() {
            let records = self.pieces.as_mut().unwrap_or(&mut self.records);
            self.buffered
                .drain(..)
                .for_each(|change| apply(records, change));
        }
        if let Some(cursor) = cursor {
            self.cursor = Some(cursor);
            self.states
                .push((cursor.position().offset, self.records.clone()));
        }
        match random.u8(..30) {
            0 => self.updates = None,
            1 => tokio::time::sleep(Duration::from_millis(random.u64(..50))).await,
            _ => {}
        }
    }

    /// The first records of these.
    fn first_of(&self, table: &Records) -> Records {
        let shown = |(id, fields): (_, &fieldsync::Fields)| {
            let mut record = Value::Object(fields.clone());
            record["id"] = serde_json::to_value(id).unwrap();
            record
        };
        let mut sorted: Vec<_> = table.iter().collect();
        sorted.retain(|(_, fields)| (self.matches)(&Value::Object((*fields).clone())));
        sorted.sort_by(|one, other| compare(self.order, &shown(*one), &shown(*other)));
        let first = sorted.into_iter().take(self.limit);
        first
            .map(|(id, fields)| (id.clone(), fields.clone()))
            .collect()
    }
}

fn apply(records: &mut Records, change: FoldedChange) {
    match change.action {
        Action::Delete | Action::Leave => {
            records.remove(&change.id);
        }
        Action::Create | Action::Enter => {
            records.insert(change.id, change.fields);
        }
        _ => {
            let record = records.get_mut(&change.id);
            let record = record.expect("an update is of a record in the window");
            record.extend(change.fields);
        }
    }
}

/// Writes through an engine: books come, go, and move.
async fn edit(engine: &Engine, random: &mut Rng) {
    for _ in 0..200 {
        let mut edits = Vec::new();
        for _ in 0..random.usize(1..3) {
            let (author, book) = (random.i64(1..5), random.i64(1..30));
            let author = [json!(null), json!(author)][random.usize(..2)].clone();
            let title = format!("t{}", random.u16(0..500));
            let patch = |fields| Edit::patch(("books", book), fields);
            edits.push(match random.u8(0..8) {
                0 | 1 => Edit::create("books", json!({"author_id": author, "n": book})),
                2 => Edit::delete(("books", book)),
                3 => patch(json!({"author_id": author})),
                4 => patch(json!({"title": null, "n": random.i64(0..40)})),
                5 => patch(json!({"title": title})),
                _ => patch(json!({"n": random.i64(0..40)})),
            });
        }
        // Some are refused: the record does not exist, or the title is taken.
        let _ = engine.transaction(edits).await;
    }
}

async fn windows_equal_the_first_records_at_each_cursor(database: Database) {
    let mut random = random::generator();
    database.run_own(SQLITE, POSTGRES).await;
    let authors = "insert into authors (name) values ('a'), ('b'), ('c'), ('d'), ('e')";
    database.run(authors).await;
    let engines = [
        captured_model::engine(&database).await,
        captured_model::engine(&database).await,
    ];
    let mut windows: Vec<(usize, Window)> = Vec::new();
    for number in 0..2 {
        windows.extend(Window::all().into_iter().map(|window| (number, window)));
    }
    let read_all = async |windows: &mut Vec<(usize, Window)>, random: &mut Rng| {
        let reading = windows.iter_mut().map(|(number, window)| {
            let mut random = random.fork();
            let engine = &engines[*number];
            async move {
                loop {
                    window.next(engine, &mut random).await;
                }
            }
        });
        futures_util::future::join_all(reading).await;
    };
    let [mut one, mut two, three] = [random.fork(), random.fork(), random.fork()];
    tokio::select! {
        _ = async { tokio::join!(edit(&engines[0], &mut one), edit(&engines[1], &mut two)) } => {}
        () = read_all(&mut windows, &mut random) => {}
    }
    let store = database.second_store(&collections().map(Arc::new)).await;
    let states = fold(Records::new(), &log(&*store, "books").await);
    assert!(states.len() > 20, "little happened");
    for (_, window) in &windows {
        assert!(window.states.len() > 5, "{}: little happened", window.topic);
        for (offset, records) in &window.states {
            let expected = window.first_of(&states[offset]);
            assert_eq!(*records, expected, "{} at {offset}", window.topic);
        }
    }
    // Other programs write as well: a window may read rows before their changes are logged, and has them in the end.
    tokio::select! {
        _ = async { tokio::join!(edit(&engines[0], &mut one), write(&database, three)) } => {}
        () = read_all(&mut windows, &mut random) => {}
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    for (number, window) in &mut windows {
        loop {
            let mut table = BTreeMap::new();
            let engine = &engines[*number];
            for book in engine
                .collection::<Value>("books")
                .list(None, 1000)
                .await
                .unwrap()
            {
                let mut fields = book.fields;
                let fields = std::mem::take(fields.as_object_mut().unwrap());
                table.insert(book.id, fields);
            }
            if window.records == window.first_of(&table) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{}: {:#?}\nthe table: {table:#?}",
                window.topic,
                window.records
            );
            let mut random = Rng::with_seed(2);
            let next = window.next(engine, &mut random);
            let _ = tokio::time::timeout(Duration::from_millis(500), next).await;
        }
    }
}
