//! The write path: [`transact`] is one transaction from its beginning to its COMMIT.

use std::collections::HashMap;

use fieldsync::{
    Batch, Found, GroupResult, Record, RecordId, Refusal, RefusedEdit, StoreError, Write,
};
use fieldsync_sql::{Constraint, SqlValue, deferred_refusal};
use rusqlite::{Connection, TransactionBehavior};

use crate::blame;
use crate::connection::Session;
use crate::dialect::{Table, Tables};
use crate::error::{Failure, constraint_of, is_busy};
use crate::log;
use crate::query::{execute, first_of};

/// Commits a batch: in one transaction, or group by group if a constraint refuses one of several groups.
pub(crate) fn commit(
    session: &mut Session,
    tables: &Tables,
    batch: &Batch,
) -> Result<Vec<GroupResult>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut attempt = |batch: &Batch| {
        session.with(batch.deadline(), |open| {
            transact(&mut open.connection, tables, batch)
        })
    };
    match attempt(batch)? {
        Attempt::Committed(results) => return Ok(results),
        Attempt::Refused(result) => return Ok(vec![result]),
        Attempt::Locked => return Ok(vec![Err(busy()); batch.len()]),
        Attempt::Stopped => {}
    }
    let mut results = Vec::with_capacity(batch.len());
    for single in batch.singles() {
        match attempt(&single)? {
            Attempt::Committed(committed) => results.extend(committed),
            Attempt::Refused(result) => results.push(result),
            Attempt::Locked | Attempt::Stopped => results.push(Err(busy())),
        }
    }
    Ok(results)
}

/// The answer if another process holds the lock: nothing of the group is stored.
fn busy() -> RefusedEdit {
    RefusedEdit {
        edit: 0,
        refusal: Refusal::Busy,
    }
}

/// The result of one transaction.
enum Attempt {
    Committed(Vec<GroupResult>),
    /// A constraint refused the only group. Rolled back.
    Refused(GroupResult),
    /// A constraint refused one of several groups. Rolled back.
    Stopped,
    /// Another process is writing. Not begun.
    Locked,
}

/// One transaction. It is rolled back when `transaction` is dropped without COMMIT.
fn transact(
    connection: &mut Connection,
    tables: &Tables,
    batch: &Batch,
) -> Result<Attempt, Failure> {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) if is_busy(&error) => return Ok(Attempt::Locked),
        Err(error) => return Err(error.into()),
    };
    let plan = batch.plan(find(&transaction, tables, batch)?);
    let mut rows = Vec::with_capacity(plan.mutations().len());
    for (at, mutation) in plan.mutations().iter().enumerate() {
        let table = tables.of(mutation.collection.name())?;
        let refusal = match write(&transaction, table, &mutation.write) {
            Ok(Written::Row(row)) => {
                rows.push(row);
                continue;
            }
            Ok(Written::Ignored) => Constraint::Check.refuse(mutation, Vec::new()),
            Err(failure) => blame::refusal(&transaction, table, mutation, failure)?,
        };
        return Ok(match batch.len() {
            1 => Attempt::Refused(plan.refused_by_database(at, refusal)),
            _ => Attempt::Stopped,
        });
    }
    // COMMIT checks deferred foreign keys. The refusal is made now, since `finish` takes the plan.
    let deferred = (batch.len() == 1)
        .then(|| deferred_refusal(&plan, tables))
        .flatten();
    let mut heads = HashMap::new();
    for advance in plan.advances() {
        let head = log::advance(&transaction, tables, &advance)?;
        heads.insert(advance.collection, head);
    }
    let finished = plan.finish(rows, &heads);
    log::append(&transaction, tables, &finished.changes)?;
    log::remember(&transaction, tables, &finished.remembered)?;
    #[cfg(fieldsync_fault_points)]
    fieldsync::fault::point("before-commit");
    match transaction.commit() {
        Ok(()) => {
            #[cfg(fieldsync_fault_points)]
            fieldsync::fault::point("after-commit");
            Ok(Attempt::Committed(finished.results))
        }
        Err(error) if constraint_of(&error).is_some() => {
            Ok(deferred.map_or(Attempt::Stopped, Attempt::Refused))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads what the edits depend on.
fn find(connection: &Connection, tables: &Tables, batch: &Batch) -> Result<Found, Failure> {
    let mut found = Found {
        remembered: log::find_keys(connection, tables, batch.idempotency_keys())?,
        ..Found::default()
    };
    for (key, collection) in batch.records() {
        if let Some(record) = get(connection, tables.of(collection.name())?, key.id)? {
            found.records.insert(key, record);
        }
    }
    for (key, position) in batch.bases() {
        let changes = log::changes_of(connection, tables, &key, position)?;
        found.since.insert((key, position), changes);
    }
    Ok(found)
}

/// Reads one record.
pub(crate) fn get(
    connection: &Connection,
    table: &Table,
    id: RecordId,
) -> Result<Option<Record>, Failure> {
    let statement = table.with_id(&table.select, id);
    first_of(connection, &statement, |row| table.record(row, 0))
}

/// What a write did.
enum Written {
    /// The row afterwards; `None` after a delete.
    Row(Option<Record>),
    /// A trigger or an `on conflict ignore` of the table skipped it.
    Ignored,
}

fn write(connection: &Connection, table: &Table, write: &Write) -> Result<Written, Failure> {
    let statement = table.write(write);
    match write {
        Write::Delete { id } => {
            execute(connection, &statement.sql, &statement.parameters)?;
            keep_id(connection, table, *id)?;
            Ok(Written::Row(None))
        }
        Write::Touch { id } => Ok(Written::Row(get(connection, table, *id)?)),
        Write::Insert { .. } | Write::Update { .. } => {
            let row = if table.has_triggers {
                // They may have changed the row since it was returned.
                let id = first_of(connection, &statement, |row| table.id(row, 0))?;
                id.map(|id| get(connection, table, id))
                    .transpose()?
                    .flatten()
            } else {
                first_of(connection, &statement, |row| table.record(row, 0))?
            };
            Ok(row.map_or(Written::Ignored, |row| Written::Row(Some(row))))
        }
    }
}

/// Stores the id of a deleted row, if SQLite would give it again.
fn keep_id(connection: &Connection, table: &Table, id: RecordId) -> Result<(), Failure> {
    if let (Some(_), RecordId::Integer(id)) = (&table.next_id, id) {
        let sql = "update fieldsync_heads set last_id = ?2 where collection = ?1 and last_id < ?2";
        let parameters = [SqlValue::text(&*table.collection), SqlValue::Integer(id)];
        execute(connection, sql, &parameters)?;
    }
    Ok(())
}
