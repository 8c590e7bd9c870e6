//! What an in-memory database contains, and what each transaction does to it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::cursor_key::CursorKey;
use crate::model::outcome::{IdempotencyKey, IdempotencyRecord, Replay};
use crate::model::record::{Record, RecordId, RecordKey};
use crate::model::timestamp::Timestamp;
use crate::schema::collection::Collection;
use crate::store::error::SchemaMismatch;
use crate::store::memory_log::MemoryLog;
use crate::store::memory_table::MemoryTable;
use crate::store::page::PageLimit;
use crate::store::store::{IDEMPOTENCY_KEY_RETENTION, Retention};
use crate::write::batch::{Batch, MAX_REFERENCE_LOOKS, ReadSet};
use crate::write::mutation::{HeadUpdate, Mutation, Write};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tables: BTreeMap<String, MemoryTable>,
    /// By the names of their tables.
    pub(super) logs: BTreeMap<String, MemoryLog>,
    pub(super) keys: HashMap<IdempotencyKey, UsedKey>,
    /// The keys by the time of their use, oldest first.
    pub(super) key_ages: VecDeque<(Timestamp, IdempotencyKey)>,
    pub(super) cursor_key: Option<CursorKey>,
}

#[derive(Debug)]
pub(super) struct UsedKey {
    pub(super) at: Timestamp,
    /// The table whose log the edit extended.
    pub(super) table: String,
    pub(super) record: IdempotencyRecord,
}

/// The most changes, and the most idempotency keys, that one call of `trim` deletes.
pub(super) const TRIM_STEP: usize = 1000;

impl State {
    pub(super) fn prepare(
        &mut self,
        collections: &[Arc<Collection>],
    ) -> Result<(), SchemaMismatch> {
        for collection in collections {
            let table = self.tables.entry(collection.table_name().to_owned());
            table
                .or_insert_with(|| MemoryTable::new(collection))
                .add_columns(collection)?;
        }
        for collection in collections {
            self.table(collection).check_creatable(collection)?;
            self.logs
                .entry(collection.table_name().to_owned())
                .or_insert_with(MemoryLog::new);
        }
        self.cursor_key.get_or_insert_with(CursorKey::random);
        Ok(())
    }

    /// Reads what a batch asks for, except for reserved ids.
    pub(super) fn read_batch(
        &self,
        batch: &Batch,
        collections: &HashMap<Arc<str>, Arc<Collection>>,
    ) -> ReadSet {
        let oldest = ago(IDEMPOTENCY_KEY_RETENTION);
        let replay = |key| {
            let used = self.keys.get(&key).filter(|used| used.at > oldest)?;
            let mut collections = collections.values();
            let collection = collections.find(|one| one.table_name() == used.table);
            let mut edit = used.record.clone();
            edit.collection = match collection {
                Some(collection) => Arc::clone(collection.name()),
                None => NO_COLLECTION.into(),
            };
            let row = collection.and_then(|known| self.table(known).record(known, edit.id.clone()));
            let change = collection.and_then(|known| {
                let change = self.log(known).at(edit.position.offset)?;
                Some(Change::clone(change))
            });
            Some((key, Replay { edit, change, row }))
        };
        let record = |key: RecordKey| {
            let collection = &collections[&key.collection];
            let record = self.table(collection).record(collection, key.id.clone())?;
            Some((key, record))
        };
        let since = |(key, base): (RecordKey, Position)| {
            let changes = self.changes_of(&collections[&key.collection], &key.id, base);
            ((key, base), changes)
        };
        let mut read = ReadSet {
            referred: HashMap::new(),
            captured: Vec::new(),
            reserved_ids: HashMap::new(),
            replays: batch
                .idempotency_keys()
                .into_iter()
                .filter_map(replay)
                .collect(),
            records: batch.records().into_keys().filter_map(record).collect(),
            since: batch.bases().into_iter().map(since).collect(),
        };
        let relied_on = batch.relied_on(&read).into_iter();
        read.records.extend(relied_on.filter_map(record));
        for _ in 0..MAX_REFERENCE_LOOKS {
            let referred = batch.referred_to(&read).into_iter();
            let found = referred.map(|key| (key.clone(), record(key).map(|(_, record)| record)));
            read.referred.extend(found.collect::<Vec<_>>());
        }
        read
    }

    /// Executes a mutation, and returns the row after it.
    pub(super) fn mutate(
        &mut self,
        Mutation {
            collection, write, ..
        }: &Mutation,
    ) -> Option<Record> {
        let table = self.table_mut(collection);
        let id = match write {
            Write::Insert { id, fields } => table.insert(id.clone(), fields),
            Write::Update { id, fields } => {
                let row = table
                    .rows
                    .get_mut(id)
                    .expect("the plan was made for an existing row");
                row.extend(fields.clone());
                id.clone()
            }
            Write::Delete { id } => {
                table.rows.remove(id);
                id.clone()
            }
            Write::Refresh { id } => id.clone(),
        };
        table.record(collection, id)
    }

    pub(super) fn changes_after(
        &self,
        collection: &Collection,
        since: Position,
        limit: PageLimit,
    ) -> ChangesSince {
        named(self.log(collection).changes_after(since, limit), collection)
    }

    pub(super) fn changes_of(
        &self,
        collection: &Collection,
        id: &RecordId,
        since: Position,
    ) -> ChangesSince {
        named(self.log(collection).changes_of(id, since), collection)
    }

    pub(super) fn update_head(
        &mut self,
        collection: &Collection,
        update: &HeadUpdate,
    ) -> (Arc<str>, Position) {
        let log = self.log_mut(collection);
        if update.count > 0 {
            log.head.offset += update.count;
            log.head.tag = update.last_tag;
        }
        (Arc::clone(&update.collection), log.head)
    }

    pub(super) fn trim(&mut self, retention: Retention) -> bool {
        let (mut changes, mut keys) = (TRIM_STEP, TRIM_STEP);
        let (oldest, oldest_key) = (ago(retention.age), ago(IDEMPOTENCY_KEY_RETENTION));
        for log in self.logs.values_mut() {
            while log.exceeds(retention, oldest) {
                if changes == 0 {
                    return true;
                }
                changes -= 1;
                log.delete_first();
            }
        }
        while let Some((at, key)) = self.key_ages.front()
            && *at <= oldest_key
        {
            if keys == 0 {
                return true;
            }
            keys -= 1;
            // A key that was used again after 24 hours is as old as its last use.
            if self.keys.get(key).is_some_and(|used| used.at <= oldest_key) {
                self.keys.remove(key);
            }
            self.key_ages.pop_front();
        }
        false
    }

    pub(super) fn table(&self, collection: &Collection) -> &MemoryTable {
        self.tables.get(collection.table_name()).expect(PREPARED)
    }

    pub(super) fn table_mut(&mut self, collection: &Collection) -> &mut MemoryTable {
        self.tables
            .get_mut(collection.table_name())
            .expect(PREPARED)
    }

    pub(super) fn log(&self, collection: &Collection) -> &MemoryLog {
        self.logs.get(collection.table_name()).expect(PREPARED)
    }

    pub(super) fn log_mut(&mut self, collection: &Collection) -> &mut MemoryLog {
        self.logs.get_mut(collection.table_name()).expect(PREPARED)
    }
}

/// Changes with the name that this app has for the collection of their table.
fn named(mut since: ChangesSince, collection: &Collection) -> ChangesSince {
    if let ChangesSince::Changes { changes, .. } = &mut since {
        for change in changes {
            change.key.collection = Arc::clone(collection.name());
        }
    }
    since
}

/// No collection has this name.
const NO_COLLECTION: &str = "";

const PREPARED: &str = "the collection was prepared";

/// The time this long ago. 1970 if that is out of range.
fn ago(age: Duration) -> Timestamp {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(micros))
        .unwrap_or_else(|| Timestamp::from_micros(0).expect("1970 is within range"))
}
