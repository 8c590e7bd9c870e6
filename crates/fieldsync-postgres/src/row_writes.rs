//! Writes the rows, then moves the heads, whose locks make offset order equal commit order: the second round trip.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::backend::{HeadUpdate, Mutation, Plan, Position, Write};
use fieldsync::{Record, RecordKey};
use fieldsync_sql::{Dialect as _, LockTimeouts};

use crate::dialect::{Postgres, Tables};
use crate::error::{Failure, Stopped, is_about_edit};
use crate::log;
use crate::pipeline::{Results, Step, in_order, run};
use crate::read_set::lock_timeout;
use crate::statement_groups::{assign, statement_groups, update_together};
use crate::value::{Parameter, PostgresRow};

/// The result of the mutations.
pub(crate) enum Written {
    All {
        rows: Vec<Option<Record>>,
        heads: HashMap<Arc<str>, Position>,
        transaction_id: String,
    },
    /// The database refused one of these.
    Refused {
        mutations: Vec<usize>,
        reason: Reason,
    },
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
    let groups = statement_groups(plan, tables, may_share_statements)?;
    let RowSteps {
        mut steps,
        late,
        late_mutations,
    } = row_steps(client, tables, plan, locked, &groups).await?;
    let has_other_timeout = timeouts.rows != timeouts.heads;
    if has_other_timeout {
        steps.push(Step::Simple(lock_timeout(timeouts.heads)));
    }
    let advances = plan.head_updates();
    for advance in &advances {
        steps.push(log::advance(client, advance).await?);
    }
    steps.extend(late);
    let mut results = in_order(client, &steps).await;
    let mut rows = vec![None; plan.mutations().len()];
    if let Some(refused) = read_rows(tables, plan, locked, &groups, &mut results, &mut rows)? {
        return Ok(refused);
    }
    if has_other_timeout {
        results.next()?;
    }
    let Some((heads, transaction_id)) = read_heads(&advances, &mut results)? else {
        return Ok(Written::HeadLocked);
    };
    for at in late_mutations {
        let table = tables.of(plan.mutations()[at].collection.name())?;
        if let Some(row) = results.next()?.first() {
            rows[at] = Some(table.record(&PostgresRow(row), 0)?);
        }
    }
    reread(client, tables, plan, &mut rows).await?;
    Ok(Written::All {
        rows,
        heads,
        transaction_id,
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
            let mut statement = table.write(&mutation.write);
            if matches!(mutation.write, Write::Delete { .. }) && !is_locked(mutation, locked) {
                statement.sql += " returning true";
            }
            Step::query(client, &statement.sql, statement.parameters).await?
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
    let (Write::Update { id, .. } | Write::Delete { id } | Write::Refresh { id }) = mutation.write
    else {
        return true;
    };
    locked.contains(&RecordKey::new(Arc::clone(mutation.collection.name()), id))
}

/// Reads the rows that the statements returned. Returns why the first that failed was refused.
fn read_rows(
    tables: &Tables,
    plan: &Plan,
    locked: &HashSet<RecordKey>,
    groups: &[Vec<usize>],
    results: &mut Results,
    rows: &mut [Option<Record>],
) -> Result<Option<Written>, Failure> {
    for group in groups {
        let mutation = &plan.mutations()[group[0]];
        let table = tables.of(mutation.collection.name())?;
        let is_hidden = table.own.has_row_security && !is_locked(mutation, locked);
        let reason = match (results.next(), &mutation.write) {
            (Ok(found), Write::Delete { .. }) if found.is_empty() && is_hidden => Reason::Hidden,
            (Ok(_), Write::Delete { .. }) => continue,
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
            (Ok(_), Write::Update { .. }) if is_hidden => Reason::Hidden,
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

type Heads = (HashMap<Arc<str>, Position>, String);

/// Reads the heads and the transaction's id. `None` if another transaction holds the lock of a head.
fn read_heads(advances: &[HeadUpdate], results: &mut Results) -> Result<Option<Heads>, Failure> {
    let (mut heads, mut transaction_id) = (HashMap::new(), None);
    for advance in advances {
        let rows = match results.next() {
            Err(error) if Stopped::while_locking(&error) == Some(Stopped::Locked) => {
                return Ok(None);
            }
            rows => rows?,
        };
        let (head, id) = log::advanced(&rows, advance)?;
        heads.insert(Arc::clone(&advance.collection), head);
        transaction_id = transaction_id.or(id);
    }
    Ok(Some((heads, transaction_id.unwrap_or_default())))
}

/// Reads what triggers made of the rows after they were written, in tables that have such triggers.
async fn reread(
    client: &Object,
    tables: &Tables,
    plan: &Plan,
    rows: &mut [Option<Record>],
) -> Result<(), Failure> {
    let mut changed: HashMap<&Arc<str>, Vec<usize>> = HashMap::new();
    for (at, mutation) in plan.mutations().iter().enumerate() {
        let name = mutation.collection.name();
        if rows[at].is_some() && tables.of(name)?.has_triggers {
            changed.entry(name).or_default().push(at);
        }
    }
    for (name, mutations) in changed {
        let table = tables.of(name)?;
        let written = mutations.iter().filter_map(|at| rows[*at].as_ref());
        let ids = Parameter::column(written.map(|row| Postgres::encode_id(row.id)));
        let mut found = HashMap::new();
        for row in run(client, &table.own.select_all, [ids]).await? {
            let record = table.record(&PostgresRow(&row), 0)?;
            found.insert(record.id, record);
        }
        for at in mutations {
            let id = rows[at].as_ref().map(|row| row.id);
            if let Some(record) = id.and_then(|id| found.get(&id)) {
                rows[at] = Some(record.clone());
            }
        }
    }
    Ok(())
}
