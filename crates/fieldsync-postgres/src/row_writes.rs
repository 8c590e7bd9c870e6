//! Writes the rows, then moves the heads, whose locks make offset order equal commit order: the second round trip.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::backend::{Captured, Mutation, Plan, Position, Write};
use fieldsync::{Record, RecordId, RecordKey, Refusal};
use fieldsync_sql::{Constraint, Dialect as _, LockTimeouts};

use crate::dialect::{Postgres, Tables};
use crate::error::{Failure, Stopped, constraint_of};
use crate::log::{self, LockedHeads};
use crate::pipeline::{Results, Step, in_order};
use crate::read_set::lock_timeout;
use crate::statement_groups::{assign, statement_groups, update_together};
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
    let has_other_timeout = timeouts.rows != timeouts.heads;
    if has_other_timeout {
        steps.push(Step::Simple(lock_timeout(timeouts.heads)));
    }
    let collections = plan.collections();
    let locks = log::lock_heads(client, tables, &collections).await?;
    let lock_count = locks.len();
    steps.extend(locks);
    steps.extend(late);
    let mut results = in_order(client, &steps).await;
    let mut rows = vec![None; plan.mutations().len()];
    if let Some(refused) = read_rows(tables, plan, &groups, &mut results, &mut rows)? {
        return Ok(refused);
    }
    if has_other_timeout {
        results.next()?;
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
    let captured = Captured {
        collections: Arc::clone(tables.captured()),
        rows: reread(client, tables, plan.written_records(&rows)).await?,
        ..Captured::default()
    };
    Ok(Written::All {
        rows,
        captured,
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
            Step::query(client, &statement.sql, statement.parameters).await?
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

/// Reads the rows that the statements returned. Returns the refusal of the first that failed.
fn read_rows(
    tables: &Tables,
    plan: &Plan,
    groups: &[Vec<usize>],
    results: &mut Results,
    rows: &mut [Option<Record>],
) -> Result<Option<Written>, Failure> {
    for group in groups {
        let mutation = &plan.mutations()[group[0]];
        let table = tables.of(mutation.collection.name())?;
        let refusal = match (results.next(), &mutation.write) {
            (Ok(_), Write::Delete { .. }) => continue,
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

/// Reads rows as they are now. Triggers may have changed them since they were written.
async fn reread(
    client: &Object,
    tables: &Tables,
    records: Vec<RecordKey>,
) -> Result<HashMap<RecordKey, Option<Record>>, Failure> {
    let mut ids: BTreeMap<Arc<str>, Vec<RecordId>> = BTreeMap::new();
    for key in &records {
        let of_collection = ids.entry(Arc::clone(&key.collection)).or_default();
        of_collection.push(key.id);
    }
    let mut steps = Vec::with_capacity(ids.len());
    for (name, ids) in &ids {
        let ids = Parameter::column(ids.iter().map(|id| Postgres::encode_id(*id)));
        steps.push(Step::query(client, &tables.of(name)?.own.select_all, [ids]).await?);
    }
    let mut results = in_order(client, &steps).await;
    let mut rows: HashMap<_, _> = records.into_iter().map(|key| (key, None)).collect();
    for name in ids.keys() {
        let table = tables.of(name)?;
        for row in results.next()? {
            let record = table.record(&PostgresRow(&row), 0)?;
            let key = RecordKey::new(Arc::clone(name), record.id);
            rows.insert(key, Some(record));
        }
    }
    Ok(rows)
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
