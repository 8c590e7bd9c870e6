//! The commit: one transaction, from the idempotency keys to the log. The core decides what to write.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::{
    Batch, FieldErrors, Found, GroupResult, Mutation, Plan, Position, Record, Refusal, StoreError,
    Write,
};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

use crate::error::sort;
use crate::store::Tables;
use crate::table::Table;
use crate::{log, rows};

/// Commits a batch; when a constraint stops the whole, one group at a time, so that the guilty one is refused alone.
pub(crate) fn commit(
    connection: &mut Connection,
    tables: &Tables,
    batch: &Batch,
) -> Result<Vec<GroupResult>, StoreError> {
    match attempt(connection, tables, batch)? {
        Attempt::Committed(results) => Ok(results),
        Attempt::Stopped {
            plan,
            mutation,
            refusal,
        } if batch.len() == 1 => Ok(vec![plan.refused_by_database(mutation, refusal)]),
        Attempt::Stopped { .. } => {
            let mut results = Vec::with_capacity(batch.len());
            for single in batch.singles() {
                results.extend(commit(connection, tables, &single)?);
            }
            Ok(results)
        }
    }
}

enum Attempt {
    Committed(Vec<GroupResult>),
    /// A constraint stopped this mutation. Nothing is written.
    Stopped {
        plan: Plan,
        mutation: usize,
        refusal: Refusal,
    },
}

fn attempt(
    connection: &mut Connection,
    tables: &Tables,
    batch: &Batch,
) -> Result<Attempt, StoreError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sort)?;
    let found = find(&transaction, tables, batch)?;
    let plan = batch.plan(found);
    let mut written = Vec::with_capacity(plan.mutations().len());
    for (number, mutation) in plan.mutations().iter().enumerate() {
        let table = table_of(tables, mutation)?;
        match write(&transaction, table, &mutation.write) {
            Ok(row) => written.push(row),
            Err(error) => match refusal(&transaction, table, mutation, &error) {
                Some(refusal) => {
                    return Ok(Attempt::Stopped {
                        plan,
                        mutation: number,
                        refusal,
                    });
                }
                None => return Err(sort(error)),
            },
        }
    }
    // A deferred foreign key would fail at the commit, with no mutation to blame; so it is asked for before.
    if let Some((mutation, refusal)) =
        dangling_reference(&transaction, tables, &plan).map_err(sort)?
    {
        return Ok(Attempt::Stopped {
            plan,
            mutation,
            refusal,
        });
    }
    let mut heads: HashMap<Arc<str>, Position> = HashMap::new();
    for advance in plan.advances() {
        let head = log::advance(&transaction, &advance).map_err(sort)?;
        heads.insert(advance.collection, head);
    }
    let finished = plan.finish(written, &heads);
    log::append(&transaction, &finished.changes).map_err(sort)?;
    log::remember(&transaction, &finished.remembered).map_err(sort)?;
    transaction.commit().map_err(sort)?;
    Ok(Attempt::Committed(finished.results))
}

fn find(
    transaction: &Transaction<'_>,
    tables: &Tables,
    batch: &Batch,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    for key in batch.idempotency_keys() {
        if let Some(remembered) = log::remembered(transaction, &key).map_err(sort)? {
            found.remembered.insert(key, remembered);
        }
    }
    for (key, _) in batch.records() {
        let table = tables.get(&key.collection);
        let table = table.ok_or_else(|| {
            StoreError::Backend(format!("collection {} was not prepared", key.collection).into())
        })?;
        if let Some(record) = rows::get(transaction, table, key.id).map_err(sort)? {
            found.records.insert(key, record);
        }
    }
    Ok(found)
}

fn table_of<'a>(tables: &'a Tables, mutation: &Mutation) -> Result<&'a Table, StoreError> {
    let name = mutation.collection.name();
    let table = tables
        .get(name)
        .ok_or_else(|| StoreError::Backend(format!("collection {name} was not prepared").into()));
    table.map(|table| &**table)
}

fn write(
    transaction: &Transaction<'_>,
    table: &Table,
    write: &Write,
) -> rusqlite::Result<Option<Record>> {
    match write {
        Write::Insert { id, fields } => rows::insert(transaction, table, *id, fields).map(Some),
        Write::Update { id, fields } => rows::update(transaction, table, *id, fields),
        Write::Delete { id } => rows::delete(transaction, table, *id).map(|()| None),
        Write::Touch { id } => rows::get(transaction, table, *id),
        // A write that this version does not know can't be planned by the core that it is built with.
        #[allow(unreachable_patterns)]
        _ => unreachable!("a write that this store does not know"),
    }
}

/// What a constraint's violation is to the one who made the edit; `None` for other errors. Names fields, never SQL.
fn refusal(
    transaction: &Transaction<'_>,
    table: &Table,
    mutation: &Mutation,
    error: &rusqlite::Error,
) -> Option<Refusal> {
    if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) {
        return None;
    }
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    let columns = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => columns_of(message, table),
        _ => Vec::new(),
    };
    let blame = |columns: Vec<String>, message: &str| {
        let columns = if columns.is_empty() {
            vec!["id".to_owned()]
        } else {
            columns
        };
        columns
            .into_iter()
            .map(|column| (column, vec![message.to_owned()]))
            .collect::<FieldErrors>()
    };
    Some(match extended {
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY | ffi::SQLITE_CONSTRAINT_TRIGGER
            if is_delete(mutation) =>
        {
            Refusal::Conflict(blame(Vec::new(), "other records refer to this one"))
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Refusal::Conflict(blame(
            referring(transaction, table, mutation),
            "refers to a record that is not there",
        )),
        ffi::SQLITE_CONSTRAINT_UNIQUE
        | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        | ffi::SQLITE_CONSTRAINT_ROWID => Refusal::Conflict(blame(columns, "is taken already")),
        ffi::SQLITE_CONSTRAINT_NOTNULL => Refusal::Invalid(blame(columns, "must not be null")),
        // SQLite names a check by its text; the columns in it that the edit sets are to blame.
        _ => Refusal::Invalid(blame(
            set_columns_in(error, mutation),
            "is not allowed by the database",
        )),
    })
}

fn is_delete(mutation: &Mutation) -> bool {
    matches!(mutation.write, Write::Delete { .. })
}

/// The fields in `UNIQUE constraint failed: users.first_name, users.last_name`.
fn columns_of(message: &str, table: &Table) -> Vec<String> {
    let named = message
        .split_once(": ")
        .map_or("", |(_, named)| named)
        .split(", ");
    let columns = named.filter_map(|one| one.rsplit_once('.').map(|(_, column)| column));
    columns
        .filter_map(|column| table.field_of_column(column))
        .collect()
}

/// The fields that the mutation sets.
fn set_fields(mutation: &Mutation) -> Vec<String> {
    match &mutation.write {
        Write::Insert { fields, .. } | Write::Update { fields, .. } => {
            fields.keys().cloned().collect()
        }
        _ => Vec::new(),
    }
}

fn set_columns_in(error: &rusqlite::Error, mutation: &Mutation) -> Vec<String> {
    let text = error.to_string();
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    let set = set_fields(mutation);
    let named: Vec<String> = set
        .iter()
        .filter(|name| words.contains(&name.as_str()))
        .cloned()
        .collect();
    if named.is_empty() {
        set.into_iter()
            .filter(|name| name != "created_at" && name != "updated_at")
            .collect()
    } else {
        named
    }
}

/// The fields of the mutation that are foreign keys.
fn referring(transaction: &Transaction<'_>, table: &Table, mutation: &Mutation) -> Vec<String> {
    let set = set_fields(mutation);
    let keys = table.foreign_keys(transaction).unwrap_or_default();
    keys.into_iter()
        .filter(|column| set.contains(column))
        .collect()
}

/// Which mutation left a foreign key dangling that is checked at the commit only.
fn dangling_reference(
    transaction: &Transaction<'_>,
    tables: &Tables,
    plan: &Plan,
) -> rusqlite::Result<Option<(usize, Refusal)>> {
    for (number, mutation) in plan.mutations().iter().enumerate() {
        let Some(table) = tables
            .get(mutation.collection.name())
            .filter(|table| table.has_deferred_keys)
        else {
            continue;
        };
        let dangling: i64 =
            transaction.query_row("select count(*) from pragma_foreign_key_check", [], |row| {
                row.get(0)
            })?;
        if dangling > 0 {
            let (columns, message) = match is_delete(mutation) {
                true => (vec!["id".to_owned()], "other records refer to this one"),
                false => (
                    referring(transaction, table, mutation),
                    "refers to a record that is not there",
                ),
            };
            let errors = columns
                .into_iter()
                .map(|column| (column, vec![message.to_owned()]))
                .collect();
            return Ok(Some((number, Refusal::Conflict(errors))));
        }
    }
    Ok(None)
}
