//! A random test of subscriptions: after any sequence of writes, lost connections, trimmed logs, restored backups and slow
//! readers, each subscriber holds what the table holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use fieldsync::backend::{Store, StoreError};
use fieldsync::{
    Action, Collection, Cursor, Edit, Engine, Fields, FoldedChange, Grant, MemoryStore, Outcome,
    Principal, RecordId, Retention, Subscription, Topic, Update, View,
};
use fieldsync_sqlite::SqliteStore;
use futures_util::StreamExt as _;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::Rule;
use crate::hooked_store::{Call, Hooked, Hooks};
use crate::random;
use crate::tasks::WAIT_TIMEOUT;

#[derive(Debug, Clone)]
enum Step {
    /// Edits in one transaction.
    Write {
        edits: usize,
        seed: u64,
    },
    /// A subscriber reads updates: this number, or fewer if there are no more.
    Read {
        reader: usize,
        updates: usize,
    },
    /// A subscriber loses its connection, and resumes from its cursor.
    Disconnect {
        reader: usize,
    },
    /// A subscriber begins again without a cursor.
    Restart {
        reader: usize,
    },
    /// The log is trimmed to this number of changes.
    Trim {
        keep: u64,
    },
    BackUp,
    Restore,
}

/// Three subscribers to the collection and one to a record. One of the three may read only some of the fields and records.
const READERS: usize = 4;

fn steps(restores: bool) -> impl Strategy<Value = Vec<Step>> {
    let reader = 0..READERS;
    let edits = prop_oneof![6 => 1..20_usize, 1 => 300..900_usize];
    let updates = prop_oneof![3 => 0..4_usize, 1 => Just(1000)];
    let both = prop_oneof![
        6 => (edits, any::<u64>()).prop_map(|(edits, seed)| Step::Write { edits, seed }),
        8 => (reader.clone(), updates).prop_map(|(reader, updates)| Step::Read { reader, updates }),
        3 => reader.clone().prop_map(|reader| Step::Disconnect { reader }),
        1 => reader.prop_map(|reader| Step::Restart { reader }),
        1 => prop_oneof![Just(0_u64), 1..500_u64].prop_map(|keep| Step::Trim { keep }),
    ];
    let step = if restores {
        prop_oneof![20 => both, 1 => Just(Step::BackUp), 1 => Just(Step::Restore)].boxed()
    } else {
        both.boxed()
    };
    prop::collection::vec(step, 1..60)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 30_000,
        rng_seed: RngSeed::Fixed(random::seed()),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn x_every_subscriber_holds_the_table_in_memory(steps in steps(false)) {
        run(async { World::new(MemoryStore::new(), None).await.play(&steps).await });
    }
}

proptest! {
    #![proptest_config(config(6))]

    #[test]
    fn h_every_subscriber_holds_the_table_in_sqlite_when_backups_are_restored(steps in steps(true)) {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("0.db");
            let database = Arc::new(Restorable::open(&file).await);
            let store = Hooked(Arc::<Restorable>::clone(&database));
            World::new(store, Some(database)).await.play(&steps).await;
        });
    }
}

fn run(play: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(play);
}

/// A store that can be replaced by a backup while it is used.
#[derive(Debug)]
struct Restorable {
    current: RwLock<(Arc<dyn Store>, PathBuf)>,
    collections: RwLock<Vec<Arc<Collection>>>,
}

impl Restorable {
    async fn open(file: &Path) -> Self {
        let store = Arc::new(SqliteStore::open(file).await.unwrap());
        Self {
            current: RwLock::new((store, file.to_owned())),
            collections: RwLock::default(),
        }
    }

    /// Copies the database to a new file, and returns its path.
    fn back_up(&self, number: usize) -> PathBuf {
        let file = self.current.read().unwrap().1.clone();
        let copy = file.with_file_name(format!("{number}.backup"));
        let connection = rusqlite::Connection::open(file).unwrap();
        connection
            .execute("vacuum into ?1", [copy.to_str().unwrap()])
            .unwrap();
        copy
    }

    async fn restore(&self, backup: &Path, number: usize) {
        let file = backup.with_file_name(format!("{number}.db"));
        std::fs::copy(backup, &file).unwrap();
        let store = SqliteStore::open(&file).await.unwrap();
        let collections = self.collections.read().unwrap().clone();
        store.prepare(&collections).await.unwrap();
        *self.current.write().unwrap() = (Arc::new(store), file);
    }
}

#[async_trait]
impl Hooks for Restorable {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.current.read().unwrap().0)
    }

    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        if let Call::Prepare(collections) = call {
            *self.collections.write().unwrap() = collections.to_vec();
        }
        Ok(())
    }
}

struct World {
    engine: Engine,
    store: Arc<dyn Store>,
    database: Option<Arc<Restorable>>,
    backup: Option<PathBuf>,
    files: usize,
    readers: Vec<Reader>,
}

impl World {
    async fn new(store: impl Store + Clone, database: Option<Arc<Restorable>>) -> Self {
        let schema = json!({"type": "object", "properties": {
            "count": {"type": "integer", "default": 0},
            "open": {"type": "boolean", "default": true},
            "note": {"type": "string", "default": ""},
        }});
        let rule = |user: &str, _| {
            Ok(match user {
                "part" => Grant::full()
                    .with_view(View::only(["open", "count"]))
                    .with_rows_fn("open", |record| record.fields["open"] == true),
                _ => Grant::full(),
            })
        };
        let things = Collection::from_schema("things", &schema).authorize(Rule(rule));
        let builder = Engine::builder().collection(things).store(store.clone());
        let engine = builder.start().await.unwrap();
        let mut readers = Vec::new();
        for who in 0..READERS {
            readers.push(Reader::new(&engine, who).await);
        }
        Self {
            engine,
            store: Arc::new(store),
            database,
            backup: None,
            files: 0,
            readers,
        }
    }

    async fn play(mut self, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Write { edits, seed } => self.write(edits, seed).await,
                Step::Read { reader, updates } => self.readers[reader].read(updates).await,
                Step::Disconnect { reader } => self.readers[reader].resume(&self.engine).await,
                Step::Restart { reader } => {
                    self.readers[reader] = Reader::new(&self.engine, reader).await;
                }
                Step::Trim { keep } => {
                    let mut retention = Retention::default();
                    retention.count = keep;
                    while self.store.trim(retention).await.unwrap() {}
                }
                Step::BackUp => {
                    self.files += 1;
                    self.backup = self.database.as_ref().map(|one| one.back_up(self.files));
                }
                Step::Restore => {
                    if let (Some(database), Some(backup)) = (&self.database, &self.backup) {
                        self.files += 1;
                        database.restore(backup, self.files).await;
                    }
                }
            }
        }
        for reader in &mut self.readers {
            reader.converge(&self.engine).await;
        }
    }

    async fn write(&mut self, edits: usize, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let things = self
            .engine
            .collection::<Fields>("things")
            .list(None, usize::MAX >> 1)
            .await
            .unwrap();
        let mut ids: Vec<RecordId> = things.into_iter().map(|thing| thing.id).collect();
        let edits: Vec<Edit> = (0..edits)
            .map(|_| {
                let choice = random.u8(..100);
                if ids.is_empty() || (choice < 25 && ids.len() < 900) {
                    return Edit::create(
                        "things",
                        json!({"open": choice.is_multiple_of(2), "note": "x".repeat(choice.into())}),
                    );
                }
                let at = random.usize(..ids.len());
                if choice < 35 {
                    return Edit::delete(("things", ids.swap_remove(at)));
                }
                let key = ("things", ids[at].clone());
                match choice {
                    35..40 => Edit::patch(key, json!({"open": choice.is_multiple_of(2)})),
                    40..45 => Edit::patch(key, json!({"note": "y".repeat(random.usize(..2000))})),
                    _ => Edit::update(key, |thing: &mut Fields| {
                        thing["count"] = (thing["count"].as_i64().unwrap() + 1).into();
                    }),
                }
            })
            .collect();
        let outcomes = self.engine.transaction(edits).await.unwrap();
        assert!(
            outcomes
                .iter()
                .all(|outcome| !matches!(outcome, Outcome::Replayed { .. }))
        );
    }
}

/// A subscriber, and the records that it built from its updates.
struct Reader {
    who: usize,
    updates: Subscription,
    records: BTreeMap<RecordId, Fields>,
    cursor: Option<Cursor>,
    /// The records of a snapshot that is not complete.
    pieces: Option<BTreeMap<RecordId, Fields>>,
}

impl Reader {
    async fn new(engine: &Engine, who: usize) -> Self {
        Self {
            who,
            updates: subscribe(engine, who, None).await,
            records: BTreeMap::new(),
            cursor: None,
            pieces: None,
        }
    }

    async fn resume(&mut self, engine: &Engine) {
        // An incomplete snapshot is discarded.
        self.pieces = None;
        self.updates = subscribe(engine, self.who, self.cursor).await;
    }

    async fn read(&mut self, updates: usize) {
        for _ in 0..updates {
            // Only a read of the store takes time.
            match timeout(Duration::from_millis(5), self.updates.next()).await {
                Ok(update) => self.apply(update.unwrap()),
                Err(_) => break,
            }
        }
    }

    async fn converge(&mut self, engine: &Engine) {
        loop {
            let expected = table(engine, self.who).await;
            if self.pieces.is_none() && self.records == expected {
                return;
            }
            match timeout(WAIT_TIMEOUT, self.updates.next()).await {
                Ok(update) => self.apply(update.unwrap()),
                Err(_) => panic!(
                    "reader {} holds {:?}, the table is {expected:?}",
                    self.who, self.records
                ),
            }
        }
    }

    fn apply(&mut self, update: Update) {
        match update {
            Update::Snapshot { records, cursor } => {
                let is_expected = self.pieces.is_some() || self.cursor.is_none();
                assert!(is_expected, "a snapshot without a reset");
                let pieces = self.pieces.get_or_insert_default();
                pieces.extend(records.into_iter().map(|record| (record.id, record.fields)));
                if cursor.is_some() {
                    self.records = self.pieces.take().unwrap();
                    self.cursor = cursor;
                }
            }
            Update::Change { change, cursor } => {
                self.check_step(&change);
                self.change(change);
                self.cursor = Some(cursor);
            }
            Update::Changes { changes, cursor } => {
                changes.into_iter().for_each(|change| self.change(change));
                self.cursor = cursor.or(self.cursor);
            }
            Update::Live { cursor } => self.cursor = Some(cursor),
            Update::Reset(_) => self.pieces = Some(BTreeMap::new()),
            other => panic!("{other:?}"),
        }
    }

    /// Each edit adds one to a counter, so a missed or repeated change is seen in it.
    fn check_step(&self, change: &FoldedChange) {
        let known = self.records.get(&change.id).map(|fields| &fields["count"]);
        if let (Action::Update, Some(Value::Number(before)), Some(Value::Number(after))) =
            (change.action, known, change.fields.get("count"))
        {
            assert_eq!(
                after.as_i64(),
                before.as_i64().map(|before| before + 1),
                "{change:?}"
            );
        }
    }

    fn change(&mut self, change: FoldedChange) {
        let records = self.pieces.as_mut().unwrap_or(&mut self.records);
        match change.action {
            Action::Create => {
                records.insert(change.id, change.fields);
            }
            Action::Update => records.entry(change.id).or_default().extend(change.fields),
            Action::Delete => {
                records.remove(&change.id);
            }
            other => panic!("unknown action {other}"),
        }
    }
}

/// The record that the last reader subscribes to.
const RECORD: i64 = 2;

fn principal(reader: usize) -> Principal {
    Principal::named(if reader == 2 { "part" } else { "all" })
}

async fn subscribe(engine: &Engine, reader: usize, since: Option<Cursor>) -> Subscription {
    let caller = engine.on_behalf_of(principal(reader));
    let topic: Topic = match reader {
        3 => ("things", RECORD).into(),
        _ => "things".into(),
    };
    caller.subscribe(topic, since).await.unwrap()
}

/// The part of the table that a reader may read.
async fn table(engine: &Engine, reader: usize) -> BTreeMap<RecordId, Fields> {
    let caller = engine.on_behalf_of(principal(reader));
    let page = caller.list("things", None, usize::MAX >> 1).await.unwrap();
    let records = page.records.into_iter().map(|mut fields| {
        let id = fields.remove("id").unwrap();
        (RecordId::from(id.as_i64().unwrap()), fields)
    });
    records
        .filter(|(id, _)| reader != 3 || *id == RecordId::from(RECORD))
        .collect()
}
