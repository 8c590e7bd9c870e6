//! Writes the rows, then moves the heads, whose locks make offset order equal commit order: the second round trip.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::backend::{Captured, Mutation, Plan, Position, Write};
use fieldsync::{Record, RecordKey};
use fieldsync_sql::LockTimeouts;

use crate::capture_ddl::plan_writes;
use crate::dialect::Tables;
use crate::effects::{Effects, Locks};
use crate::error::{Failure, is_about_edit};
use crate::pipeline::{Results, Step, in_order};
use crate::statement_groups::{assign, key_of, statement_groups, update_together};
use crate::value::PostgresRow;

/// The result of the mutations.
pub(crate) enum Written {
    All {
        rows: Vec<Option<Record>>,
        captured: Captured,
        heads: HashMap<Arc<str>, Position>,
        transaction_id: String,
    },
    /// The database refused one of these.
    Refused {
        mutations: Vec<usize>,
        reason: Reason,
    },
    /// A deferred constraint or trigger failed.
    DeferredError(Failure),
    /// Another transaction holds the lock of a head.
    HeadLocked,
}

/// Why a mutation was refused.
pub(crate) enum Reason {
    /// With this error.
    Error(tokio_postgres::Error),
    /// A trigger skipped it.
    Skipped,
    /// Row-level security lets this role read the row, but not write it.
    Hidden,
    /// A trigger gave the row another id.
    OtherId,
}

/// `locked`: the records that were read and locked.
pub(crate) async fn write(
    client: &Object,
    tables: &Tables,
    plan: &Plan,
    locked: &HashSet<RecordKey>,
    may_share_statements: bool,
    timeouts: LockTimeouts,
) -> Result<Written, Failure> {
    let groups = statement_groups(plan, may_share_statements);
    let RowSteps {
        mut steps,
        announced,
        late,
        late_mutations,
    } = row_steps(client, tables, plan, locked, &groups).await?;
    let effects = Effects::new(tables, plan, timeouts)?;
    steps.extend(effects.lock_steps(client).await?);
    steps.extend(late);
    steps.extend(effects.capture_steps(client).await?);
    let mut results = in_order(client, &steps).await;
    let mut rows = vec![None; plan.mutations().len()];
    let mut to_reread = Vec::new();
    if let Some(refused) = read_rows(
        tables,
        plan,
        locked,
        groups.iter().zip(announced),
        &mut results,
        &mut rows,
        &mut to_reread,
    )? {
        return Ok(refused);
    }
    let locked_heads = match effects.read_locks(&mut results)? {
        Locks::Acquired(heads) => heads,
        Locks::HeadLocked => return Ok(Written::HeadLocked),
        Locks::DeferredError(failure) => return Ok(Written::DeferredError(failure)),
    };
    for at in late_mutations {
        let table = tables.of(plan.mutations()[at].collection.name())?;
        if let Some(row) = results.next()?.first() {
            rows[at] = table.readable(&PostgresRow(row), 0);
        }
    }
    let written = plan.written_records(&rows);
    let captured = effects.captured(client, &mut results, written, to_reread);
    Ok(Written::All {
        captured: captured.await?,
        rows,
        heads: locked_heads.heads,
        transaction_id: locked_heads.transaction_id.unwrap_or_default(),
    })
}

struct RowSteps<'a> {
    steps: Vec<Step<'a>>,
    /// For each group, whether a step before its own says which table is written.
    announced: Vec<bool>,
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
        steps: Vec::with_capacity(groups.len() + 1),
        announced: Vec::with_capacity(groups.len()),
        late: Vec::new(),
        late_mutations: Vec::new(),
    };
    let mut planned_log = None;
    for group in groups {
        let mutation = &plan.mutations()[group[0]];
        let table = tables.of(mutation.collection.name())?;
        // The triggers leave out what a statement itself writes, but not what that sets off in other tables.
        let is_announced = table.has_capture && planned_log != Some(&table.log);
        if is_announced {
            row_steps.steps.push(Step::Simple(plan_writes(&table.log)));
            planned_log = Some(&table.log);
        }
        row_steps.announced.push(is_announced);
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
            if let Write::Delete { .. } = mutation.write {
                // Without RETURNING, which a rule may forbid.
                Step::execute(client, &statement.sql, statement.parameters).await?
            } else {
                Step::query(client, &statement.sql, statement.parameters).await?
            }
        };
        row_steps.steps.push(step);
    }
    Ok(row_steps)
}

/// Whether the mutation only announces a row, which did not exist to be locked.
fn is_missing(mutation: &Mutation, locked: &HashSet<RecordKey>) -> bool {
    matches!(mutation.write, Write::Refresh { .. }) && !is_locked(mutation, locked)
}

fn is_locked(mutation: &Mutation, locked: &HashSet<RecordKey>) -> bool {
    let (Write::Update { id, .. } | Write::Delete { id } | Write::Refresh { id }) =
        mutation.write.clone()
    else {
        return true;
    };
    locked.contains(&RecordKey::new(Arc::clone(mutation.collection.name()), id))
}

/// Reads the rows that the statements returned. Returns why the first that failed was refused. A delete that deleted nothing
/// is added to the records to read again.
fn read_rows<'a>(
    tables: &Tables,
    plan: &Plan,
    locked: &HashSet<RecordKey>,
    groups: impl Iterator<Item = (&'a Vec<usize>, bool)>,
    results: &mut Results,
    rows: &mut [Option<Record>],
    to_reread: &mut Vec<RecordKey>,
) -> Result<Option<Written>, Failure> {
    for (group, is_announced) in groups {
        if is_announced {
            results.next()?;
        }
        let mutation = &plan.mutations()[group[0]];
        let table = tables.of(mutation.collection.name())?;
        let is_hidden = table.own.has_row_security && !is_locked(mutation, locked);
        let result = match mutation.write {
            Write::Delete { .. } => match results.next_count() {
                Ok(0) if !is_hidden => {
                    to_reread.extend(key_of(mutation));
                    continue;
                }
                Ok(0) => Ok(Vec::new()),
                Ok(_) => continue,
                Err(error) => Err(error),
            },
            _ => results.next(),
        };
        let reason = match (result, &mutation.write) {
            (Ok(found), _) if found.len() == group.len() => {
                let found = found.iter().map(|row| table.record(&PostgresRow(row), 0));
                let found: Vec<Record> = found.collect::<Result<_, _>>()?;
                if found.iter().all(|row| mutation.is_for(row)) {
                    assign(plan, group, found, rows);
                    continue;
                }
                Reason::OtherId
            }
            (Ok(_), Write::Refresh { .. }) => continue,
            (Ok(_), Write::Update { .. } | Write::Delete { .. }) if is_hidden => Reason::Hidden,
            (Ok(_), _) => Reason::Skipped,
            (Err(error), _) if is_about_edit(&error) => Reason::Error(error),
            (Err(error), _) => return Err(error.into()),
        };
        return Ok(Some(Written::Refused {
            mutations: group.clone(),
            reason,
        }));
    }
    Ok(None)
}
