//! The in-memory store, for tests and small demos. Its tables and logs are in `memory_table` and `memory_log`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;

use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::cursor_key::CursorKey;
use crate::model::record::{Fields, Record, RecordId, RecordKey, size_of_fields};
use crate::model::refusal::Refusal;
use crate::model::timestamp::Timestamp;
use crate::schema::collection::Collection;
use crate::schema::sorting::{SortKey, Sorting};
use crate::schema::table_description::TableDescription;
use crate::schema::values::Values;
use crate::store::error::StoreError;
use crate::store::listing::Listing;
use crate::store::memory_state::{State, UsedKey};
use crate::store::memory_table::record;
use crate::store::page::{PageLimit, PageMeter, RecordPage};
use crate::store::store::{Committed, LoggedCaptures, Retention, Store};
use crate::write::batch::{Batch, RefusedEdit};
use crate::write::captured::Captured;

/// Tables and change logs in memory. They are lost when the process ends.
///
/// A clone shares the data: two engines with a clone each are two nodes on one database. Tables have columns and types,
/// but no constraints.
///
/// ```
/// use std::sync::Arc;
/// use fieldsync::backend::{Listing, PageLimit, Store};
/// use fieldsync::{Collection, MemoryStore};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schema = json!({"type": "object", "properties": {"first_name": {"type": "string", "default": ""}}});
/// let users = Arc::new(Collection::from_schema("users", &schema).open_to_everyone());
///
/// let store = MemoryStore::new();
/// store.prepare(&[users]).await?;
/// let listing = Listing::by_id(None, PageLimit { rows: 100, bytes: 10_000 });
/// let page = store.list("users", &listing).await?;
/// assert_eq!((page.records.len(), page.head.offset), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    data: Arc<Data>,
    /// The collections that this handle was prepared for. Two nodes may run two versions of an app.
    collections: RwLock<HashMap<Arc<str>, Arc<Collection>>>,
}

#[derive(Debug, Default)]
struct Data {
    /// Locked by the one transaction that may write. Readers never wait for it, so that they don't wait for the app's
    /// code, which runs inside the transaction.
    writer: Arc<tokio::sync::Mutex<()>>,
    state: RwLock<State>,
}

impl MemoryStore {
    /// Creates an empty database.
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

/// The rows in an order, after a place.
fn sorted<'a>(
    rows: &'a BTreeMap<RecordId, Fields>,
    sorting: &Sorting,
    after: Option<&SortKey>,
) -> Vec<(&'a RecordId, &'a Fields)> {
    let keyed = rows.iter().map(|(id, row)| {
        let key = sorting.key_of(&Values::new(id, row));
        (key, (id, row))
    });
    let follows = |(key, _): &(SortKey, _)| {
        after.is_none_or(|after| sorting.compare(key, after) == Ordering::Greater)
    };
    let mut keyed: Vec<_> = keyed.filter(follows).collect();
    keyed.sort_by(|(one, _), (other, _)| sorting.compare(one, other));
    keyed.into_iter().map(|(_, row)| row).collect()
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

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let Some(deadline) = batch.deadline() else {
            return Ok(Committed::default());
        };
        let Ok(_writer) = tokio::time::timeout_at(deadline.into(), self.data.writer.lock()).await
        else {
            let busy = RefusedEdit {
                edit: 0,
                refusal: Refusal::Busy,
            };
            return Ok(Committed::nothing(vec![Err(busy); batch.len()]));
        };
        // No await from here on: the future can be dropped before or after the transaction, but not inside it.
        let collections = self.collections.read().expect(NO_PANIC).clone();
        let mut read = self.read().read_batch(&batch, &collections);
        for (name, count) in batch.ids_to_reserve() {
            let collection = self.collection(&name)?;
            let ids = self.write().table_mut(&collection).reserve_ids(count);
            read.reserved_ids.insert(name, ids);
        }
        let plan = batch.plan(read);
        let mut state = self.write();
        let rows = plan
            .mutations()
            .iter()
            .map(|mutation| state.mutate(mutation))
            .collect();
        // Only engines write to it: there is nothing to capture.
        let settled = plan.settle(rows, &Captured::default());
        let head_updates = settled.head_updates();
        let heads = head_updates
            .iter()
            .map(|update| state.update_head(&collections[&update.collection], update))
            .collect();
        let output = settled.finish(&heads);
        for change in &output.logged {
            let log = state.log_mut(&collections[&change.key.collection]);
            log.push(Arc::clone(change));
        }
        let now = Timestamp::now();
        for record in output.idempotency_records {
            state.key_ages.push_back((now, record.key.clone()));
            let table = collections[&record.collection].table_name().to_owned();
            let (at, key) = (now, record.key.clone());
            state.keys.insert(key, UsedKey { at, table, record });
        }
        Ok(Committed {
            results: output.results,
            changes: output.changes,
        })
    }

    async fn log_captured(&self, _: Retention) -> Result<LoggedCaptures, StoreError> {
        Ok(LoggedCaptures::default())
    }

    async fn captured(&self) {
        std::future::pending::<()>().await;
    }

    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError> {
        let collection = self.collection(&key.collection)?;
        let state = self.read();
        let record = state.table(&collection).record(&collection, key.id.clone());
        Ok((record, state.log(&collection).head))
    }

    async fn get_many(
        &self,
        collection: &str,
        ids: &[RecordId],
        limit: PageLimit,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let collection = self.collection(collection)?;
        let state = self.read();
        let (table, mut meter) = (state.table(&collection), PageMeter::new(limit));
        let rows = ids.iter().map(|id| (id, table.rows.get(id)));
        Ok(rows
            .take_while(|(_, row)| meter.take(row.map_or(0, size_of_fields)))
            .map(|(id, row)| row.map(|row| record(&collection, id.clone(), row)))
            .collect())
    }

    async fn list(&self, collection: &str, listing: &Listing) -> Result<RecordPage, StoreError> {
        let collection = self.collection(collection)?;
        let state = self.read();
        let rows = &state.table(&collection).rows;
        let rows: Vec<_> = match (&listing.sorting, &listing.after) {
            (Some(sorting), after) => sorted(rows, sorting, after.as_ref()),
            (None, None) => rows.iter().collect(),
            (None, Some(after)) => {
                let range = (Bound::Excluded(after.id.clone()), Bound::Unbounded);
                rows.range(range).collect()
            }
        };
        let mut meter = PageMeter::new(listing.limit);
        let records = rows
            .into_iter()
            .take_while(|(_, row)| meter.take(size_of_fields(row)))
            .map(|(id, row)| record(&collection, id.clone(), row))
            .collect();
        Ok(RecordPage {
            records,
            more: meter.is_full(),
            head: state.log(&collection).head,
        })
    }

    async fn explain(&self, _: &str, _: &Listing) -> Result<String, StoreError> {
        Ok("all records of the table, in memory".to_owned())
    }

    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: PageLimit,
    ) -> Result<ChangesSince, StoreError> {
        let collection = self.collection(collection)?;
        Ok(self.read().changes_after(&collection, since, limit))
    }

    async fn changes_of(
        &self,
        key: &RecordKey,
        since: Position,
    ) -> Result<ChangesSince, StoreError> {
        let collection = self.collection(&key.collection)?;
        Ok(self.read().changes_of(&collection, &key.id, since))
    }

    async fn tables(&self) -> Result<Vec<TableDescription>, StoreError> {
        Ok(Vec::new())
    }

    fn max_subscriber_reads(&self) -> usize {
        2
    }

    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let (state, collections) = (self.read(), self.collections.read().expect(NO_PANIC));
        let heads = collections.iter();
        let heads = heads.map(|(name, collection)| (Arc::clone(name), state.log(collection).head));
        Ok(heads.collect())
    }

    async fn cursor_key(&self) -> Result<CursorKey, StoreError> {
        let missing = || StoreError::Backend("the store was not prepared".into());
        self.read().cursor_key.clone().ok_or_else(missing)
    }

    async fn trim(&self, retention: Retention) -> Result<bool, StoreError> {
        let _writer = self.data.writer.lock().await;
        Ok(self.write().trim(retention))
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::conformance::{Column, ColumnKind, Constraints, Fixture};
    use crate::model::record::Fields;
    use crate::schema::field::{Field, Ids};
    use crate::schema::field_type::{FieldType, Schema};
    use crate::store::memory_state::TRIM_STEP as STEP;
    use crate::store::memory_table::MemoryTable;

    struct InMemory(MemoryStore);

    #[async_trait]
    impl Fixture for InMemory {
        const CONSTRAINTS: Constraints = Constraints::Absent;
        const CAPTURES: bool = false;
        const TRIM_STEP: usize = STEP;

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
            let created = MemoryTable {
                key_columns: vec![table.key],
                ids: Ids::Integer,
                last_id: 0,
                columns: columns.collect(),
                rows: BTreeMap::new(),
            };
            self.0.write().tables.insert(table.name, created);
        }

        async fn write_externally(&self, table: &str, id: RecordId, row: Option<Fields>) {
            let mut state = self.0.write();
            let table = state
                .tables
                .get_mut(table)
                .expect("the test has created the table");
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
            let used = state.keys.values_mut();
            used.for_each(|used| earlier(&mut used.at));
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
            default: column.default,
            ..Field::new(&column.name, Schema::new(kind, nullable))
        }
    }

    mod store {
        crate::backend::store_tests!(super::InMemory);
    }
}
