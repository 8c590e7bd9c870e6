//! What follows the writes of rows: the locks of the heads, and what the writes set off in the database.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::backend::{Captured, Plan, Write};
use fieldsync::{Record, RecordId, RecordKey};
use fieldsync_sql::LockTimeouts;

use crate::captured;
use crate::dialect::{Table, Tables, id_arrays};
use crate::error::{Failure, Stopped};
use crate::log::{self, LockedHeads};
use crate::pipeline::{Results, Step, in_order};
use crate::read_set::lock_timeout;
use crate::side_statements::BY_INDEX;
use crate::statement_groups::key_of;
use crate::value::{Parameter, PostgresRow};

/// The statements that follow the writes of a plan's rows.
pub(crate) struct Effects<'a> {
    tables: &'a Tables,
    /// The collections whose heads are locked, or only read.
    collections: BTreeMap<Arc<str>, bool>,
    /// What is set before the locks. Empty for nothing.
    settings: String,
    /// The records that the plan writes, as far as their ids are known.
    known: Vec<RecordKey>,
    /// The logs of captured tables to which it adds rows whose ids are not known before.
    added: Vec<String>,
    /// Those whose tables have no capture: only a read shows what triggers made of them.
    unobserved: RecordsByTable<'a>,
}

/// What became of the locks.
pub(crate) enum Locks {
    Acquired(LockedHeads),
    /// Another transaction holds the lock of a head.
    HeadLocked,
    /// A deferred constraint or trigger failed before.
    DeferredError(Failure),
}

impl<'a> Effects<'a> {
    pub(crate) fn new(
        tables: &'a Tables,
        plan: &Plan,
        timeouts: LockTimeouts,
    ) -> Result<Self, Failure> {
        let mut settings = String::new();
        if !tables.captured().is_empty() {
            // What deferred triggers do is captured before the heads are locked. Nothing of the app's runs after that.
            settings += "set constraints all immediate; ";
            settings += BY_INDEX;
            settings += "; ";
        }
        if timeouts.rows != timeouts.heads {
            settings += &lock_timeout(timeouts.heads);
        }
        let known: Vec<RecordKey> = plan.mutations().iter().filter_map(key_of).collect();
        let mut added = Vec::new();
        for mutation in plan.mutations() {
            let table = tables.of(mutation.collection.name())?;
            if table.has_capture && matches!(mutation.write, Write::Insert { id: None, .. }) {
                added.push(table.log.to_string());
            }
        }
        added.dedup();
        let unobserved = known.iter().cloned();
        let unobserved = RecordsByTable::new(tables, unobserved, |table| !table.has_capture)?;
        Ok(Self {
            tables,
            collections: plan.collections(),
            settings,
            known,
            added,
            unobserved,
        })
    }

    /// The statements up to the locks.
    pub(crate) async fn lock_steps<'s>(&self, client: &Object) -> Result<Vec<Step<'s>>, Failure> {
        let mut steps = Vec::new();
        if !self.settings.is_empty() {
            steps.push(Step::Simple(self.settings.clone()));
        }
        steps.extend(log::lock_heads(client, self.tables, &self.collections).await?);
        Ok(steps)
    }

    /// The statements that read what the writes set off.
    pub(crate) async fn capture_steps<'s>(
        &self,
        client: &Object,
    ) -> Result<Vec<Step<'s>>, Failure> {
        let mut steps = Vec::new();
        if !self.tables.captured().is_empty() {
            steps.push(captured::take(client, self.tables, &self.known).await?);
        }
        if !self.added.is_empty() {
            let logs = [Parameter::texts(self.added.clone())];
            let waiting = &self.tables.own.capture.waiting;
            steps.push(Step::query(client, waiting, logs).await?);
        }
        steps.extend(self.unobserved.steps(client).await?);
        Ok(steps)
    }

    /// Reads the results of [`lock_steps`](Self::lock_steps).
    pub(crate) fn read_locks(&self, results: &mut Results) -> Result<Locks, Failure> {
        if !self.settings.is_empty()
            && let Err(error) = results.next()
        {
            return Ok(Locks::DeferredError(error.into()));
        }
        let mut locked = LockedHeads::default();
        for is_written in [true, false] {
            if !self.collections.values().any(|one| *one == is_written) {
                continue;
            }
            match results.next() {
                Err(error) if Stopped::while_locking(&error) == Some(Stopped::Locked) => {
                    return Ok(Locks::HeadLocked);
                }
                rows => locked.add(&rows?, self.tables)?,
            }
        }
        Ok(Locks::Acquired(locked))
    }

    /// Reads the results of [`capture_steps`](Self::capture_steps), and then the rows that triggers have changed since they were
    /// written. `written`: the records of the mutations; `to_reread`: others whose rows are not known.
    pub(crate) async fn captured(
        self,
        client: &Object,
        results: &mut Results,
        written: Vec<RecordKey>,
        mut to_reread: Vec<RecordKey>,
    ) -> Result<Captured, Failure> {
        let mut captured = Captured {
            collections: Arc::clone(self.tables.captured()),
            ..Captured::default()
        };
        if !self.tables.captured().is_empty() {
            (captured.others, captured.own) = captured::writes(self.tables, &results.next()?)?;
        }
        let mut used_before = Vec::new();
        if !self.added.is_empty() {
            // Others may have had rows with the ids that the database gave, and deleted them.
            for row in results.next()? {
                let log: &str = row.try_get(0)?;
                let is_of_log = |key: &&RecordKey| {
                    self.tables
                        .of(&key.collection)
                        .is_ok_and(|table| *table.log == *log)
                };
                let added = written.iter().filter(|key| !self.known.contains(key));
                used_before.extend(added.filter(is_of_log).cloned());
            }
        }
        captured.rows = self.unobserved.rows(results)?;
        if !used_before.is_empty() {
            let taking = [captured::take(client, self.tables, &used_before).await?];
            let taken = in_order(client, &taking).await.next()?;
            let (others, own) = captured::writes(self.tables, &taken)?;
            captured.others.extend(others);
            captured.own.extend(own);
        }
        to_reread.extend(captured.own.iter().map(|write| write.key.clone()));
        for key in written {
            let table = self.tables.of(&key.collection)?;
            if !table.has_capture && !captured.rows.contains_key(&key) {
                to_reread.push(key);
            }
        }
        if !to_reread.is_empty() {
            let changed = RecordsByTable::new(self.tables, to_reread, |_| true)?;
            let mut results = in_order(client, &changed.steps(client).await?).await;
            captured.rows.extend(changed.rows(&mut results)?);
        }
        Ok(captured)
    }
}

/// Records to read as they are now, with a statement per table.
struct RecordsByTable<'a> {
    records: Vec<RecordKey>,
    tables: BTreeMap<Arc<str>, (&'a Table, Vec<RecordId>)>,
}

impl<'a> RecordsByTable<'a> {
    fn new(
        tables: &'a Tables,
        records: impl IntoIterator<Item = RecordKey>,
        is_wanted: impl Fn(&Table) -> bool,
    ) -> Result<Self, Failure> {
        let mut records: Vec<RecordKey> = records.into_iter().collect();
        records.sort();
        records.dedup();
        let mut by_table: BTreeMap<Arc<str>, (&Table, Vec<RecordId>)> = BTreeMap::new();
        let mut wanted = Vec::new();
        for key in records {
            let table = tables.of(&key.collection)?;
            if is_wanted(table) {
                let of_table = by_table.entry(Arc::clone(&key.collection));
                of_table
                    .or_insert((table, Vec::new()))
                    .1
                    .push(key.id.clone());
                wanted.push(key);
            }
        }
        Ok(Self {
            records: wanted,
            tables: by_table,
        })
    }

    async fn steps<'s>(&self, client: &Object) -> Result<Vec<Step<'s>>, Failure> {
        let mut steps = Vec::with_capacity(self.tables.len());
        for (table, ids) in self.tables.values() {
            let ids = id_arrays(table, ids);
            steps.push(Step::query(client, &table.own.select_all, ids).await?);
        }
        Ok(steps)
    }

    fn rows(self, results: &mut Results) -> Result<HashMap<RecordKey, Option<Record>>, Failure> {
        let mut rows: HashMap<_, _> = self.records.into_iter().map(|key| (key, None)).collect();
        for (name, (table, _)) in &self.tables {
            for row in results.next()? {
                if let Some(record) = table.readable(&PostgresRow(&row), 0) {
                    let key = RecordKey::new(Arc::clone(name), record.id.clone());
                    rows.insert(key, Some(record));
                }
            }
        }
        Ok(rows)
    }
}
