//! A store and a broker within one process: real ones, for tests and toy apps. Nothing outlives the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::mem::discriminant;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::batch::{Advance, BASE_REACH, Batch, Found, GroupResult, Mutation, RefusedEdit, Write};
use crate::broker::{Broker, BrokerError, Notice};
use crate::change::Change;
use crate::collection::{Collection, Field, Ids};
use crate::cursor::{Position, ResetReason};
use crate::edit::{IdempotencyKey, Refusal, Remembered};
use crate::log_bounds::LogBounds;
use crate::record::{Fields, Record, RecordId, RecordKey};
use crate::store::{Backlog, IDEMPOTENCY_KEY_AGE, Retention, SchemaMismatch, Store, StoreError};
use crate::time::Timestamp;

/// Tables and change logs in memory, gone with the process.
///
/// A clone is another handle on the same data: give one to each of two engines and they are two nodes. Tables have
/// columns and types, but no constraints.
///
/// ```
/// use std::sync::Arc;
/// use fieldsync::{Collection, MemoryStore, Store};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schema = json!({"type": "object", "properties": {"first_name": {"type": "string", "default": ""}}});
/// let users = Arc::new(Collection::from_schema("users", &schema).open_to_everyone());
///
/// let store = MemoryStore::new();
/// store.prepare(&[users]).await?;
/// let (records, end) = store.list("users", None, 100).await?;
/// assert_eq!((records.len(), end.offset), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    data: Arc<Data>,
    /// What this handle was prepared for: two nodes may run two versions of an app.
    collections: RwLock<HashMap<Arc<str>, Arc<Collection>>>,
}

#[derive(Debug, Default)]
struct Data {
    /// Held by the one transaction that may write. Readers never wait for it, and so not for the app's code, which
    /// runs in the transaction.
    writer: Arc<tokio::sync::Mutex<()>>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, Table>,
    logs: BTreeMap<Arc<str>, Log>,
    keys: HashMap<IdempotencyKey, (Timestamp, Remembered)>,
    /// The keys by age, oldest first.
    key_ages: VecDeque<(Timestamp, IdempotencyKey)>,
}

#[derive(Debug)]
struct Table {
    key_column: String,
    ids: Ids,
    /// The last id given. Never goes back.
    last_id: i64,
    columns: BTreeMap<String, Field>,
    rows: BTreeMap<RecordId, Fields>,
}

/// The log of one collection: the changes after `trimmed`, up to `head`.
#[derive(Debug)]
struct Log {
    head: Position,
    trimmed: Position,
    changes: VecDeque<Arc<Change>>,
}

/// The most changes, and the most idempotency keys, that one call of `trim` forgets.
const TRIM_STEP: usize = 1000;

impl MemoryStore {
    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.data.state.read().expect(NO_PANIC)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.data.state.write().expect(NO_PANIC)
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>, StoreError> {
        let collections = self.collections.read().expect(NO_PANIC);
        let missing = || StoreError::Backend(format!("collection {name} was not prepared").into());
        collections.get(name).cloned().ok_or_else(missing)
    }
}

const NO_PANIC: &str = "nothing panics while it holds the lock";

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        let collections = self.collections.read().expect(NO_PANIC).clone();
        Self {
            data: Arc::clone(&self.data),
            collections: RwLock::new(collections),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError> {
        let _writer = self.data.writer.lock().await;
        self.write().prepare(collections)?;
        let mut known = self.collections.write().expect(NO_PANIC);
        for collection in collections {
            known.insert(Arc::clone(collection.name()), Arc::clone(collection));
        }
        Ok(())
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<GroupResult>, StoreError> {
        let Some(deadline) = batch.deadline() else {
            return Ok(Vec::new());
        };
        let Ok(_writer) = tokio::time::timeout_at(deadline.into(), self.data.writer.lock()).await
        else {
            let busy = RefusedEdit {
                edit: 0,
                refusal: Refusal::Busy,
            };
            return Ok(vec![Err(busy); batch.len()]);
        };
        // From here on nothing awaits: who drops the future drops it before or after the whole transaction.
        let found = self.read().find(&batch);
        let plan = batch.plan(found);
        let mut state = self.write();
        let rows = plan
            .mutations()
            .iter()
            .map(|mutation| state.mutate(mutation))
            .collect();
        let advances = plan.advances();
        let heads = advances
            .iter()
            .map(|advance| state.advance(advance))
            .collect();
        let finished = plan.finish(rows, &heads);
        for change in finished.changes {
            state
                .log_mut(&change.key.collection)
                .changes
                .push_back(change);
        }
        let now = Timestamp::now();
        for remembered in finished.remembered {
            state.key_ages.push_back((now, remembered.key.clone()));
            state.keys.insert(remembered.key.clone(), (now, remembered));
        }
        Ok(finished.results)
    }

    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError> {
        let collection = self.collection(&key.collection)?;
        let state = self.read();
        let record = state.table(&collection).record(&collection, key.id);
        Ok((record, state.log(&key.collection).head))
    }

    async fn list(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<(Vec<Record>, Position), StoreError> {
        let collection = self.collection(collection)?;
        let state = self.read();
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = state
            .table(&collection)
            .rows
            .range((after, Bound::Unbounded))
            .take(limit);
        let records = rows
            .map(|(id, row)| record(&collection, *id, row))
            .collect();
        Ok((records, state.log(collection.name()).head))
    }

    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: usize,
    ) -> Result<Backlog, StoreError> {
        let collection = self.collection(collection)?;
        Ok(self.read().log(collection.name()).after(since, limit))
    }

    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let state = self.read();
        Ok(state
            .logs
            .iter()
            .map(|(name, log)| (Arc::clone(name), log.head))
            .collect())
    }

    async fn trim(&self, retention: Retention) -> Result<bool, StoreError> {
        let _writer = self.data.writer.lock().await;
        Ok(self.write().trim(retention))
    }
}

impl State {
    fn prepare(&mut self, collections: &[Arc<Collection>]) -> Result<(), SchemaMismatch> {
        for collection in collections {
            let table = self.tables.entry(collection.table_name().to_owned());
            table
                .or_insert_with(|| Table::new(collection))
                .add(collection)?;
        }
        for collection in collections {
            self.table(collection).check_creatable(collection)?;
            self.logs
                .entry(Arc::clone(collection.name()))
                .or_insert_with(Log::new);
        }
        Ok(())
    }

    fn find(&self, batch: &Batch) -> Found {
        let oldest = ago(IDEMPOTENCY_KEY_AGE);
        let remembered = |key| {
            let (_, remembered) = self.keys.get(&key).filter(|(at, _)| *at > oldest)?;
            Some((key, remembered.clone()))
        };
        let record = |(key, collection): (RecordKey, Arc<Collection>)| {
            let record = self.table(&collection).record(&collection, key.id)?;
            Some((key, record))
        };
        let since = |(key, place): (RecordKey, Position)| {
            let reach = usize::try_from(BASE_REACH).unwrap_or(usize::MAX);
            let backlog = match self.log(&key.collection).after(place, reach) {
                Backlog::Changes { more: true, .. } => Backlog::Lost(ResetReason::Trimmed),
                Backlog::Changes { mut changes, more } => {
                    changes.retain(|change| change.key == key);
                    Backlog::Changes { changes, more }
                }
                lost @ Backlog::Lost(_) => lost,
            };
            ((key, place), backlog)
        };
        Found {
            remembered: batch
                .idempotency_keys()
                .into_iter()
                .filter_map(remembered)
                .collect(),
            records: batch.records().into_iter().filter_map(record).collect(),
            since: batch.bases().into_iter().map(since).collect(),
        }
    }

    /// Writes to a table, and gives the row as it is then.
    fn mutate(
        &mut self,
        Mutation {
            collection, write, ..
        }: &Mutation,
    ) -> Option<Record> {
        let table = self
            .tables
            .get_mut(collection.table_name())
            .expect(PREPARED);
        let id = match write {
            Write::Insert { id, fields } => table.insert(*id, fields),
            Write::Update { id, fields } => {
                let row = table
                    .rows
                    .get_mut(id)
                    .expect("the plan was made on this row");
                row.extend(fields.clone());
                *id
            }
            Write::Delete { id } => {
                table.rows.remove(id);
                *id
            }
            Write::Touch { id } => *id,
        };
        table.record(collection, id)
    }

    fn advance(&mut self, advance: &Advance) -> (Arc<str>, Position) {
        let log = self.log_mut(&advance.collection);
        if advance.count > 0 {
            log.head.offset += advance.count;
            log.head.tag = advance.last_tag;
        }
        (Arc::clone(&advance.collection), log.head)
    }

    fn trim(&mut self, retention: Retention) -> bool {
        let (mut changes, mut keys) = (TRIM_STEP, TRIM_STEP);
        let (oldest, oldest_key) = (ago(retention.age), ago(IDEMPOTENCY_KEY_AGE));
        for log in self.logs.values_mut() {
            while log.is_beyond(retention.count, oldest) {
                if changes == 0 {
                    return true;
                }
                changes -= 1;
                let forgotten = log.changes.pop_front().expect("there is one beyond");
                log.trimmed = forgotten.position;
            }
        }
        while let Some((at, key)) = self.key_ages.front()
            && *at <= oldest_key
        {
            if keys == 0 {
                return true;
            }
            keys -= 1;
            // A key that was used anew after 24 hours is younger than its first use.
            if self.keys.get(key).is_some_and(|(at, _)| *at <= oldest_key) {
                self.keys.remove(key);
            }
            self.key_ages.pop_front();
        }
        false
    }

    fn table(&self, collection: &Collection) -> &Table {
        self.tables.get(collection.table_name()).expect(PREPARED)
    }

    fn log(&self, collection: &str) -> &Log {
        self.logs.get(collection).expect(PREPARED)
    }

    fn log_mut(&mut self, collection: &str) -> &mut Log {
        self.logs.get_mut(collection).expect(PREPARED)
    }
}

const PREPARED: &str = "the collection was prepared";

/// The time that long ago; the earliest there is where that is too long ago.
fn ago(age: std::time::Duration) -> Timestamp {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(micros))
        .unwrap_or_else(|| Timestamp::from_micros(0).expect("1970 is within range"))
}

fn record(collection: &Collection, id: RecordId, row: &Fields) -> Record {
    let fields = collection.fields().iter().map(|field| {
        let value = row.get(&field.name).cloned().unwrap_or(Value::Null);
        (field.name.clone(), value)
    });
    Record {
        id,
        fields: fields.collect(),
    }
}

impl Table {
    fn new(collection: &Collection) -> Self {
        Self {
            key_column: collection.key_column().to_owned(),
            ids: collection.ids(),
            last_id: 0,
            columns: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Adds the columns that are missing, after a check of all.
    fn add(&mut self, collection: &Collection) -> Result<(), SchemaMismatch> {
        let mismatch = |column: &str, found: String, expected: String| SchemaMismatch {
            table: collection.table_name().to_owned(),
            column: column.to_owned(),
            found,
            expected,
        };
        let (key, ids) = (collection.key_column(), collection.ids());
        if (self.key_column.as_str(), self.ids) != (key, ids) {
            let found = format!("the key {} of {:?}", self.key_column, self.ids);
            return Err(mismatch(key, found, format!("a key of {ids:?}")));
        }
        for field in collection.fields() {
            let (wanted, found) = match self.columns.get(&field.name) {
                None if self.rows.is_empty() || default(field).is_some() => continue,
                None => (
                    "a default, or null allowed",
                    "records that have no such field".to_owned(),
                ),
                Some(column)
                    if discriminant(&column.schema.kind) != discriminant(&field.schema.kind) =>
                {
                    ("the same type", format!("{:?}", column.schema.kind))
                }
                Some(column) if field.schema.nullable && !column.schema.nullable => {
                    ("null allowed", "not null".to_owned())
                }
                Some(_) => continue,
            };
            return Err(mismatch(&field.name, found, wanted.to_owned()));
        }
        for field in collection.fields() {
            if !self.columns.contains_key(&field.name) {
                for row in self.rows.values_mut() {
                    row.insert(field.name.clone(), default(field).unwrap_or(Value::Null));
                }
                self.columns.insert(field.name.clone(), field.clone());
            }
        }
        Ok(())
    }

    /// A column that the collection does not name must do without it when a record is made.
    fn check_creatable(&self, collection: &Collection) -> Result<(), SchemaMismatch> {
        let needed = self
            .columns
            .values()
            .find(|column| default(column).is_none() && collection.field(&column.name).is_none());
        match needed {
            Some(column) if collection.is_creatable() => Err(SchemaMismatch {
                table: collection.table_name().to_owned(),
                column: column.name.clone(),
                found: "a column that is not null and has no default".to_owned(),
                expected: format!("a default, or .no_create() for {}", collection.name()),
            }),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, id: Option<RecordId>, fields: &Fields) -> RecordId {
        let id = id.unwrap_or(RecordId::Integer(self.last_id + 1));
        if let RecordId::Integer(number) = id {
            self.last_id = self.last_id.max(number);
        }
        let columns = self.columns.values();
        let mut row: Fields = columns
            .map(|column| (column.name.clone(), default(column).unwrap_or(Value::Null)))
            .collect();
        row.extend(fields.clone());
        self.rows.insert(id, row);
        id
    }

    fn record(&self, collection: &Collection, id: RecordId) -> Option<Record> {
        self.rows.get(&id).map(|row| record(collection, id, row))
    }
}

/// What a column holds when nothing is said; `None` where something must be.
fn default(field: &Field) -> Option<Value> {
    field
        .default
        .clone()
        .or(field.schema.nullable.then_some(Value::Null))
}

impl Log {
    fn new() -> Self {
        let start = Position {
            epoch: fastrand::u64(..),
            offset: 0,
            tag: 0,
        };
        Self {
            head: start,
            trimmed: start,
            changes: VecDeque::new(),
        }
    }

    fn after(&self, since: Position, limit: usize) -> Backlog {
        let bounds = LogBounds {
            head: self.head,
            trimmed: self.trimmed,
        };
        let passed = || {
            let passed = since.offset - self.trimmed.offset;
            usize::try_from(passed).expect("the log is in memory")
        };
        let tag_at = || Ok::<_, Infallible>(Some(self.changes[passed() - 1].position.tag));
        let Ok(out_of_range) = bounds.locate(since, tag_at);
        if let Some(reason) = out_of_range {
            return Backlog::Lost(reason);
        }
        let passed = passed();
        let changes: Vec<Change> = self
            .changes
            .range(passed..)
            .take(limit.max(1))
            .map(|change| Change::clone(change))
            .collect();
        let more = passed + changes.len() < self.changes.len();
        Backlog::Changes { changes, more }
    }

    fn is_beyond(&self, count: u64, oldest: Timestamp) -> bool {
        let first = self.changes.front();
        first.is_some_and(|first| first.at <= oldest || self.changes.len() as u64 > count)
    }
}

/// Carries notices between the engines of one process: a bounded queue that each subscriber reads at its own pace.
///
/// A subscriber that falls behind by more than the queue holds misses notices, as with any broker.
///
/// ```
/// use fieldsync::{Broker, LocalBroker, Notice};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = LocalBroker::new();
/// let mut notices = broker.subscribe().await?;
/// let notice = Notice { collection: "users".into(), epoch: 1, offset: 7 };
/// broker.publish(notice.clone()).await?;
/// assert_eq!(notices.next().await, Some(notice));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LocalBroker {
    notices: broadcast::Sender<Notice>,
}

impl LocalBroker {
    /// A broker without subscribers. Clones are the same broker.
    #[must_use]
    pub fn new() -> Self {
        Self {
            notices: broadcast::Sender::new(1024),
        }
    }
}

impl Default for LocalBroker {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn publish(&self, notice: Notice) -> Result<(), BrokerError> {
        // An error means that nobody listens, which is fine.
        let _ = self.notices.send(notice);
        Ok(())
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Notice>, BrokerError> {
        let notices = stream::unfold(self.notices.subscribe(), async |mut notices| {
            loop {
                match notices.recv().await {
                    Ok(notice) => return Some((notice, notices)),
                    // Lost notices are allowed; what they told is found in the heads.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(notices.boxed())
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::time::Duration;

    use super::*;
    use crate::conformance::{BrokerFixture, Column, ColumnKind, Constraints, Fixture};
    use crate::schema::{FieldType, Schema};

    struct InMemory(MemoryStore);

    #[async_trait]
    impl Fixture for InMemory {
        const CONSTRAINTS: Constraints = Constraints::Absent;
        const TRIM_STEP: usize = TRIM_STEP;

        async fn fresh() -> Self {
            Self(MemoryStore::new())
        }

        async fn open(&self) -> Arc<dyn Store> {
            Arc::new(self.0.clone())
        }

        async fn create_table(&self, table: crate::conformance::Table) {
            let columns = table
                .columns
                .into_iter()
                .map(|column| (column.name.clone(), field(column)));
            let made = Table {
                key_column: table.key,
                ids: Ids::Integer,
                last_id: 0,
                columns: columns.collect(),
                rows: BTreeMap::new(),
            };
            self.0.write().tables.insert(table.name, made);
        }

        async fn write_past(&self, table: &str, id: RecordId, row: Option<Fields>) {
            let mut state = self.0.write();
            let table = state.tables.get_mut(table).expect("the table is there");
            match (row, table.rows.get_mut(&id)) {
                (Some(row), Some(stored)) => stored.extend(row),
                (Some(row), None) => {
                    table.insert(Some(id), &row);
                }
                (None, _) => {
                    table.rows.remove(&id);
                }
            }
        }

        async fn hold_write_lock(&self, _table: &str, _id: RecordId) -> Box<dyn Any + Send> {
            Box::new(Arc::clone(&self.0.data.writer).lock_owned().await)
        }

        async fn grow_older(&self, by: Duration) {
            let earlier = |at: &mut Timestamp| {
                let micros = at.as_micros() - i64::try_from(by.as_micros()).unwrap();
                *at = Timestamp::from_micros(micros).unwrap();
            };
            let mut state = self.0.write();
            for change in state.logs.values_mut().flat_map(|log| &mut log.changes) {
                earlier(&mut Arc::make_mut(change).at);
            }
            state.keys.values_mut().for_each(|(at, _)| earlier(at));
            state.key_ages.iter_mut().for_each(|(at, _)| earlier(at));
        }
    }

    fn field(column: Column) -> Field {
        let kind = match column.kind {
            ColumnKind::Text => FieldType::Text {
                max_length: None,
                one_of: None,
            },
            ColumnKind::Integer => FieldType::Integer {
                min: i64::MIN,
                max: i64::MAX,
            },
        };
        let nullable = column.nullable;
        Field {
            name: column.name,
            schema: Schema { kind, nullable },
            default: column.default,
            set_by_server: false,
        }
    }

    struct InProcess(LocalBroker);

    #[async_trait]
    impl BrokerFixture for InProcess {
        async fn fresh() -> Self {
            Self(LocalBroker::new())
        }

        async fn connect(&self) -> Arc<dyn Broker> {
            Arc::new(self.0.clone())
        }
    }

    mod store {
        crate::store_tests!(super::InMemory);
    }

    mod broker {
        crate::broker_tests!(super::InProcess);
    }

    #[tokio::test]
    async fn a_subscriber_that_falls_behind_misses_notices_and_hears_the_latest() {
        let broker = LocalBroker::new();
        let notices = broker.subscribe().await.unwrap();
        for offset in 1..=5000 {
            let notice = Notice {
                collection: "notes".into(),
                epoch: 1,
                offset,
            };
            broker.publish(notice).await.unwrap();
        }
        drop(broker);
        let heard: Vec<u64> = notices.map(|notice| notice.offset).collect().await;
        assert!(heard.len() < 5000 && heard.last() == Some(&5000));
    }
}
