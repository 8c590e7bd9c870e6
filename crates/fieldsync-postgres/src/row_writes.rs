//! Writes the rows, then moves the heads, whose locks make offset order equal commit order: the second round trip.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::backend::{Captured, Mutation, Plan, Position, Write};
use fieldsync::{Record, RecordId, RecordKey, Refusal};
use fieldsync_sql::{Constraint, Dialect as _, LockTimeouts};

use crate::captured;
use crate::dialect::{Postgres, Table, Tables};
use crate::error::{Failure, Stopped, constraint_of};
use crate::log::{self, LockedHeads};
use crate::pipeline::{Results, Step, in_order};
use crate::read_set::lock_timeout;
use crate::statement_groups::{assign, id_of, statement_groups, update_together};
use crate::value::{Parameter, PostgresRow};

/// The result of the mutations.
pub(crate) enum Written {
    All {
        rows: Vec<Option<Record>>,
        captured: Captured,
        heads: HashMap<Arc<str>, Position>,
        transaction_id: String,
    },
    /// The database refused one.
    Refused { mutation: usize, refusal: Refusal },
    /// A deferred constraint or trigger failed.
    DeferredError(Failure),
    /// Another transaction holds the lock of a head.
    HeadLocked,
}

/// `locked`: the records that were read and locked. `is_alone`: whether the batch has only one group.
pub(crate) async fn write(
    client: &Object,
    tables: &Tables,
    plan: &Plan,
    locked: &HashSet<RecordKey>,
    is_alone: bool,
    timeouts: LockTimeouts,
) -> Result<Written, Failure> {
    let groups = statement_groups(plan, is_alone);
    let RowSteps {
        mut steps,
        late,
        late_mutations,
    } = row_steps(client, tables, plan, locked, &groups).await?;
    let has_capture = !tables.captured().is_empty();
    // What deferred triggers do is captured before the heads are locked.
    let mut before_locks = String::new();
    if has_capture {
        before_locks += "set constraints all immediate; ";
    }
    if timeouts.rows != timeouts.heads {
        before_locks += &lock_timeout(timeouts.heads);
    }
    if !before_locks.is_empty() {
        steps.push(Step::Simple(before_locks.clone()));
    }
    let collections = plan.collections();
    let locks = log::lock_heads(client, tables, &collections).await?;
    let lock_count = locks.len();
    steps.extend(locks);
    steps.extend(late);
    let known: Vec<RecordKey> = plan.mutations().iter().filter_map(key_of).collect();
    if has_capture {
        steps.push(captured::take(client, tables, &known).await?);
    }
    let unobserved = RecordsByTable::new(tables, known, |table| !table.has_capture)?;
    steps.extend(unobserved.steps(client).await?);
    let mut results = in_order(client, &steps).await;
    let mut rows = vec![None; plan.mutations().len()];
    let mut to_reread = Vec::new();
    if let Some(refused) = read_rows(
        tables,
        plan,
        &groups,
        &mut results,
        &mut rows,
        &mut to_reread,
    )? {
        return Ok(refused);
    }
    if !before_locks.is_empty()
        && let Err(error) = results.next()
    {
        return Ok(Written::DeferredError(error.into()));
    }
    let mut locked_heads = LockedHeads::default();
    for _ in 0..lock_count {
        match results.next() {
            Err(error) if Stopped::of(&error) == Some(Stopped::Locked) => {
                return Ok(Written::HeadLocked);
            }
            rows => locked_heads.add(&rows?, tables)?,
        }
    }
    for at in late_mutations {
        let table = tables.of(plan.mutations()[at].collection.name())?;
        if let Some(row) = results.next()?.first() {
            rows[at] = Some(table.record(&PostgresRow(row), 0)?);
        }
    }
    let (others, own) = if has_capture {
        captured::writes(tables, &results.next()?)?
    } else {
        (Vec::new(), Vec::new())
    };
    let mut now = unobserved.rows(&mut results)?;
    // Triggers have changed these since they were written, or what they did to them is not observed.
    to_reread.extend(own.iter().map(|write| write.key.clone()));
    for key in plan.written_records(&rows) {
        if !now.contains_key(&key) && !tables.of(&key.collection)?.has_capture {
            to_reread.push(key);
        }
    }
    if !to_reread.is_empty() {
        let changed = RecordsByTable::new(tables, to_reread, |_| true)?;
        let mut results = in_order(client, &changed.steps(client).await?).await;
        now.extend(changed.rows(&mut results)?);
    }
    Ok(Written::All {
        rows,
        captured: Captured {
            collections: Arc::clone(tables.captured()),
            others,
            own,
            rows: now,
        },
        heads: locked_heads.heads,
        transaction_id: locked_heads.transaction_id.unwrap_or_default(),
    })
}

struct RowSteps<'a> {
    steps: Vec<Step<'a>>,
    /// Reads of rows that did not exist to be locked. They run behind the heads' locks: until then another transaction may
    /// commit such a row, with an earlier position in the log.
    late: Vec<Step<'a>>,
    /// The mutations of `late`.
    late_mutations: Vec<usize>,
}

async fn row_steps<'a>(
    client: &Object,
    tables: &'a Tables,
    plan: &'a Plan,
    locked: &HashSet<RecordKey>,
    groups: &[Vec<usize>],
) -> Result<RowSteps<'a>, Failure> {
    let mut row_steps = RowSteps {
        steps: Vec::with_capacity(groups.len()),
        late: Vec::new(),
        late_mutations: Vec::new(),
    };
    for group in groups {
        let mutation = &plan.mutations()[group[0]];
        let table = tables.of(mutation.collection.name())?;
        let step = if group.len() > 1 {
            let (sql, parameters) = update_together(table, plan, group);
            Step::query(client, &sql, parameters).await?
        } else if is_missing(mutation, locked) {
            // What this transaction itself inserted is read in its turn; what others did, late.
            let statement = table.write(&mutation.write);
            let own = format!("{}.xmin = pg_current_xact_id()::xid", table.sql_name);
            let late = format!("{} and not {own}", statement.sql);
            let late = Step::query(client, &late, statement.parameters.clone()).await?;
            row_steps.late.push(late);
            row_steps.late_mutations.push(group[0]);
            let sql = format!("{} and {own}", statement.sql);
            Step::query(client, &sql, statement.parameters).await?
        } else {
            let statement = table.write(&mutation.write);
            let mut sql = statement.sql;
            if let Write::Delete { .. } = mutation.write {
                sql += " returning true";
            }
            Step::query(client, &sql, statement.parameters).await?
        };
        row_steps.steps.push(step);
    }
    Ok(row_steps)
}

/// Whether the mutation only announces a row, which did not exist to be locked.
fn is_missing(mutation: &Mutation, locked: &HashSet<RecordKey>) -> bool {
    let Write::Refresh { id } = mutation.write else {
        return false;
    };
    !locked.contains(&RecordKey::new(Arc::clone(mutation.collection.name()), id))
}

/// Reads the rows that the statements returned. Returns the refusal of the first that failed. A delete that deleted nothing is
/// added to the records to read again.
fn read_rows(
    tables: &Tables,
    plan: &Plan,
    groups: &[Vec<usize>],
    results: &mut Results,
    rows: &mut [Option<Record>],
    to_reread: &mut Vec<RecordKey>,
) -> Result<Option<Written>, Failure> {
    for group in groups {
        let mutation = &plan.mutations()[group[0]];
        let table = tables.of(mutation.collection.name())?;
        let refusal = match (results.next(), &mutation.write) {
            (Ok(deleted), Write::Delete { .. }) => {
                if deleted.is_empty() {
                    to_reread.extend(key_of(mutation));
                }
                continue;
            }
            (Ok(found), _) if found.len() == group.len() => {
                let found = found.iter().map(|row| table.record(&PostgresRow(row), 0));
                let found: Vec<Record> = found.collect::<Result<_, _>>()?;
                if found.iter().all(|row| mutation.is_for(row)) {
                    assign(plan, group, found, rows);
                    continue;
                }
                Constraint::Check.refuse(mutation, vec!["id".to_owned()])
            }
            (Ok(_), Write::Refresh { .. }) => continue,
            // A trigger skipped it.
            (Ok(_), _) => Constraint::Check.refuse(mutation, Vec::new()),
            (Err(error), _) => refusal(tables, mutation, error)?,
        };
        return Ok(Some(Written::Refused {
            mutation: group[0],
            refusal,
        }));
    }
    Ok(None)
}

/// The record that a mutation writes. `None` if the database gives its id.
fn key_of(mutation: &Mutation) -> Option<RecordKey> {
    let id = id_of(mutation)?;
    Some(RecordKey::new(Arc::clone(mutation.collection.name()), id))
}

/// Records to read as they are now, with a statement per table.
struct RecordsByTable<'a> {
    records: Vec<RecordKey>,
    tables: BTreeMap<Arc<str>, (&'a Table, Vec<RecordId>)>,
}

impl<'a> RecordsByTable<'a> {
    fn new(
        tables: &'a Tables,
        mut records: Vec<RecordKey>,
        is_wanted: impl Fn(&Table) -> bool,
    ) -> Result<Self, Failure> {
        records.sort();
        records.dedup();
        let mut by_table: BTreeMap<Arc<str>, (&Table, Vec<RecordId>)> = BTreeMap::new();
        let mut wanted = Vec::new();
        for key in records {
            let table = tables.of(&key.collection)?;
            if is_wanted(table) {
                let of_table = by_table.entry(Arc::clone(&key.collection));
                of_table.or_insert((table, Vec::new())).1.push(key.id);
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
            let ids = Parameter::column(ids.iter().map(|id| Postgres::encode_id(*id)));
            steps.push(Step::query(client, &table.own.select_all, [ids]).await?);
        }
        Ok(steps)
    }

    fn rows(self, results: &mut Results) -> Result<HashMap<RecordKey, Option<Record>>, Failure> {
        let mut rows: HashMap<_, _> = self.records.into_iter().map(|key| (key, None)).collect();
        for (name, (table, _)) in &self.tables {
            for row in results.next()? {
                let record = table.record(&PostgresRow(&row), 0)?;
                let key = RecordKey::new(Arc::clone(name), record.id);
                rows.insert(key, Some(record));
            }
        }
        Ok(rows)
    }
}

/// The refusal for a mutation that violates a constraint, or the failure if the error is something else.
fn refusal(
    tables: &Tables,
    mutation: &Mutation,
    error: tokio_postgres::Error,
) -> Result<Refusal, Failure> {
    let constraint = error.as_db_error().and_then(constraint_of);
    let (Some(constraint), Some(refused)) = (constraint, error.as_db_error()) else {
        return Err(error.into());
    };
    let table = tables.of(mutation.collection.name())?;
    let fields = match (constraint, &mutation.write) {
        (Constraint::ForeignKey, Write::Delete { .. }) => vec!["id".to_owned()],
        _ => {
            let mut fields = table.fields_of_constraint(refused.constraint().unwrap_or_default());
            fields.extend(table.fields_among(refused.column().as_slice()));
            fields
        }
    };
    Ok(constraint.refuse(mutation, fields))
}
