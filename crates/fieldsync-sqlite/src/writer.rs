//! The way of a write: [`transact`] is one transaction from its beginning to its COMMIT.

use std::collections::HashMap;

use fieldsync::{
    Batch, Found, GroupResult, Mutation, Plan, Refusal, RefusedEdit, StoreError, Write,
};
use rusqlite::{Connection, TransactionBehavior};

use crate::connection::{Session, is_busy};
use crate::error::{Constraint, Failure, blamed};
use crate::table::{Table, Tables, Written};
use crate::{keys, log};

/// Commits a batch: in one transaction, or group by group when a constraint stops that.
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

/// The answer when somebody else holds the lock: nothing of the group is stored.
fn busy() -> RefusedEdit {
    RefusedEdit {
        edit: 0,
        refusal: Refusal::Busy,
    }
}

/// What became of one transaction.
enum Attempt {
    Committed(Vec<GroupResult>),
    /// A constraint refused the only group. Rolled back.
    Refused(GroupResult),
    /// A constraint refused one of several groups. Rolled back.
    Stopped,
    /// Somebody else writes. Not begun.
    Locked,
}

/// One transaction. Whatever it does not commit is rolled back when `transaction` is dropped.
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
    let mut found = Found {
        remembered: keys::find(&transaction, batch.idempotency_keys())?,
        ..Found::default()
    };
    for (key, collection) in batch.records() {
        if let Some(record) = tables.of(collection.name())?.get(&transaction, key.id)? {
            found.records.insert(key, record);
        }
    }
    for (key, place) in batch.bases() {
        let changes = log::changes_of(&transaction, &key, place)?;
        found.since.insert((key, place), changes);
    }
    let plan = batch.plan(found);
    let mut rows = Vec::with_capacity(plan.mutations().len());
    for (at, mutation) in plan.mutations().iter().enumerate() {
        let table = tables.of(mutation.collection.name())?;
        let refusal = match table.write(&transaction, &mutation.write) {
            Ok(Written::Row(row)) => {
                rows.push(row);
                continue;
            }
            Ok(Written::Ignored) => Constraint::Check.refusal(written_fields(mutation)),
            Err(failure) => refusal(&transaction, table, mutation, failure)?,
        };
        return Ok(match batch.len() {
            1 => Attempt::Refused(plan.refused_by_database(at, refusal)),
            _ => Attempt::Stopped,
        });
    }
    // Known before the plan is used up: deferred foreign keys are checked by COMMIT.
    let dangling = (batch.len() == 1)
        .then(|| refused_by_deferred(&plan, tables))
        .flatten();
    let mut heads = HashMap::new();
    for advance in plan.advances() {
        let head = log::advance(&transaction, &advance)?;
        heads.insert(advance.collection, head);
    }
    let finished = plan.finish(rows, &heads);
    log::append(&transaction, &finished.changes)?;
    keys::remember(&transaction, &finished.remembered)?;
    #[cfg(fieldsync_fault_points)]
    fieldsync::fault::point("before-commit");
    match transaction.commit() {
        Ok(()) => {
            #[cfg(fieldsync_fault_points)]
            fieldsync::fault::point("after-commit");
            Ok(Attempt::Committed(finished.results))
        }
        Err(error) if Constraint::of(&error).is_some() => {
            Ok(dangling.map_or(Attempt::Stopped, Attempt::Refused))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a constraint refuses the mutation; or the failure, if it is none.
fn refusal(
    connection: &Connection,
    table: &Table,
    mutation: &Mutation,
    failure: Failure,
) -> Result<Refusal, Failure> {
    let Failure::Sqlite(error) = &failure else {
        return Err(failure);
    };
    let Some(constraint) = Constraint::of(error) else {
        return Err(failure);
    };
    let named = match (constraint, &mutation.write, error) {
        (Constraint::ForeignKey, ..) => dangling_fields(table, mutation),
        (_, _, rusqlite::Error::SqliteFailure(_, Some(message))) => {
            blamed(connection, table, message)
        }
        _ => Vec::new(),
    };
    let fields = if named.is_empty() {
        written_fields(mutation)
    } else {
        named
    };
    Ok(constraint.refusal(fields))
}

/// SQLite does not say which foreign key failed: those that the mutation sets; `id` where others refer to the record.
fn dangling_fields(table: &Table, mutation: &Mutation) -> Vec<String> {
    match &mutation.write {
        Write::Insert { fields, .. } | Write::Update { fields, .. } => table.references_in(fields),
        Write::Delete { .. } | Write::Touch { .. } => vec!["id".to_owned()],
    }
}

/// What to answer when COMMIT finds a foreign key that points nowhere. It does not say whose: the first edit that may
/// be guilty is blamed.
fn refused_by_deferred(plan: &Plan, tables: &Tables) -> Option<GroupResult> {
    let blamed = plan.mutations().iter().enumerate().map(|(at, mutation)| {
        let table = tables.of(mutation.collection.name());
        let fields = table.map_or_else(|_| Vec::new(), |table| dangling_fields(table, mutation));
        (at, fields)
    });
    let mut blamed: Vec<_> = blamed.collect();
    // An edit that sets a reference is likelier than one that deletes.
    blamed.sort_by_key(|(_, fields)| match fields.first().map(String::as_str) {
        Some("id") => 1,
        Some(_) => 0,
        None => 2,
    });
    let (at, mut fields) = blamed.into_iter().next()?;
    if fields.is_empty() {
        fields = written_fields(&plan.mutations()[at]);
    }
    Some(plan.refused_by_database(at, Constraint::ForeignKey.refusal(fields)))
}

/// The fields that somebody set; `id` of what was deleted.
fn written_fields(mutation: &Mutation) -> Vec<String> {
    match &mutation.write {
        Write::Insert { fields, .. } | Write::Update { fields, .. } => {
            let own = mutation
                .collection
                .fields()
                .iter()
                .filter(|field| !field.set_by_server);
            own.filter(|field| fields.contains_key(&field.name))
                .map(|field| field.name.clone())
                .collect()
        }
        Write::Delete { .. } | Write::Touch { .. } => vec!["id".to_owned()],
    }
}
