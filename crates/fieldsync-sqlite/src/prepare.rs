//! Creates what is missing and checks what exists. If everything is in place, nothing is written.

use std::collections::HashSet;
use std::sync::Arc;

use fieldsync::Collection;
use fieldsync::backend::StoreError;
use fieldsync_sql::{Found, FoundTable, HAS_CURSOR_KEY, Preparation, SideSchema, script};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::capture_setup::{
    Moment, capture_statements, create_captured, ensure, is_set_up, remove,
};
use crate::catalog;
use crate::dialect::{Sqlite, Tables};
use crate::error::Failure;

/// Creates or checks everything in one transaction. Two nodes may do so at the same time.
pub(crate) fn prepare(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<Tables, Failure> {
    let look = look(connection, collections)?;
    if look.is_complete {
        return Ok(look.preparation.tables);
    }
    let created = create(connection, collections).and_then(|(transaction, tables, _)| {
        transaction.commit()?;
        Ok(tables)
    });
    match created {
        Err(Failure::Sqlite(error)) if is_not_allowed(&error) => {
            Err(Failure::Store(StoreError::NotPrepared {
                sql: script(&look.preparation.statements),
                source: error.into(),
            }))
        }
        other => other,
    }
}

/// The SQL that a start would run. It runs it, but for the journal mode, and rolls it back.
pub(crate) fn ddl(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<String, Failure> {
    let mode = connection.query_row("pragma journal_mode", [], |row| row.get::<_, String>(0))?;
    // A start switches to it outside of any transaction.
    let mut statements = match &*mode {
        "wal" => Vec::new(),
        _ => vec!["pragma journal_mode = wal".to_owned()],
    };
    let look = look(connection, collections)?;
    if !look.is_complete {
        statements.extend(match create(connection, collections) {
            Ok((_, _, statements)) => statements,
            // The triggers are left out of what a user who may not write sees.
            Err(Failure::Sqlite(error)) if is_not_allowed(&error) => look.preparation.statements,
            Err(failure) => return Err(failure),
        });
    }
    Ok(script(&statements))
}

struct Look {
    preparation: Preparation<Sqlite>,
    /// Whether nothing is missing, the triggers of capture included.
    is_complete: bool,
}

fn look(connection: &mut Connection, collections: &[Arc<Collection>]) -> Result<Look, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let preparation = look_in(&transaction, collections)?;
    let mut is_complete = preparation.statements.is_empty();
    if is_complete {
        check_foreign_keys(&transaction, collections)?;
        for collection in preparation.tables.collections() {
            let table = preparation.tables.of(collection)?;
            is_complete &= is_set_up(&transaction, table)?;
        }
    }
    Ok(Look {
        preparation,
        is_complete,
    })
}

/// Creates what is missing, in a transaction that is not committed yet. Returns the statements, too.
fn create<'a>(
    connection: &'a mut Connection,
    collections: &[Arc<Collection>],
) -> Result<(Transaction<'a>, Tables, Vec<String>), Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known_logs = logs(&transaction)?;
    // Another node may have created it meanwhile.
    let mut statements = look_in(&transaction, collections)?.statements;
    for sql in &statements {
        tracing::info!(sql, "changing the database");
        transaction.execute_batch(sql)?;
    }
    let created = look_in(&transaction, collections)?;
    if let Some(sql) = created.statements.first() {
        let error = format!("the database is as before after: {sql}");
        return Err(StoreError::Backend(error.into()).into());
    }
    check_foreign_keys(&transaction, collections)?;
    statements.extend(prepare_capture(&transaction, &created.tables, &known_logs)?);
    Ok((transaction, created.tables, statements))
}

/// The logs that exist.
fn logs(connection: &Connection) -> Result<HashSet<String>, Failure> {
    let mut side_tables = catalog::side_tables(connection)?.into_iter();
    if !side_tables.any(|table| table.name == "fieldsync_heads") {
        return Ok(HashSet::new());
    }
    let mut statement = connection.prepare("select log from fieldsync_heads")?;
    let logs = statement.query_map([], |row| row.get(0))?;
    Ok(logs.collect::<Result<_, _>>()?)
}

fn check_foreign_keys(
    connection: &Connection,
    collections: &[Arc<Collection>],
) -> Result<(), Failure> {
    let mut mismatches = Vec::new();
    for collection in collections {
        mismatches.extend(catalog::check_foreign_keys(connection, collection)?);
    }
    if mismatches.is_empty() {
        Ok(())
    } else {
        Err(StoreError::Schema(mismatches).into())
    }
}

fn is_not_allowed(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen)
    )
}

fn look_in(
    connection: &Connection,
    collections: &[Arc<Collection>],
) -> Result<Preparation<Sqlite>, Failure> {
    let side_tables = catalog::side_tables(connection)?;
    let has = |name: &str| side_tables.iter().any(|table| table.name == name);
    let (has_tables, has_heads) = (has("fieldsync_tables"), has("fieldsync_heads"));
    let mut tables = Vec::with_capacity(collections.len());
    for collection in collections {
        let mut table = catalog::find(connection, collection)?;
        if let Ok(table) = &mut table {
            table.capture = capture_statements(connection, collection, &table.name)?;
        }
        let log = match &table {
            Ok(table) => &table.log,
            Err(missing) => &missing.log,
        };
        let number = |sql: &str| {
            let number = connection.query_row(sql, [log], |row| row.get::<_, i64>(0));
            number.optional()
        };
        let is_ours = if has_tables {
            number("select is_ours from fieldsync_tables where log = ?1")?
        } else {
            None
        };
        let head = if has_heads {
            number("select 1 from fieldsync_heads where log = ?1")?
        } else {
            None
        };
        tables.push(FoundTable {
            is_ours: is_ours.map(|is_ours| is_ours == 1),
            has_head: head.is_some(),
            table,
        });
    }
    let has_cursor_key = has("fieldsync_secrets") && {
        let key = connection.query_row(HAS_CURSOR_KEY, [], |_| Ok(()));
        key.optional()?.is_some()
    };
    let found = Found {
        side_tables,
        has_cursor_key,
        tables,
    };
    let side = SideSchema::default();
    Ok(fieldsync_sql::prepare(collections, found, &side, |_| ())?)
}

/// Creates the triggers of the tables that have capture, and drops those of the others. Returns the statements that do the same.
fn prepare_capture(
    connection: &Connection,
    tables: &Tables,
    known_logs: &HashSet<String>,
) -> Result<Vec<String>, Failure> {
    let before = schema(connection)?;
    let had_captured = create_captured(connection)?;
    for collection in tables.collections() {
        let table = tables.of(collection)?;
        if table.has_capture {
            let is_new = !known_logs.contains(&*table.log);
            ensure(connection, table, Moment::Start { is_new }, had_captured)?;
        } else {
            remove(connection, table)?;
        }
    }
    let created = schema(connection)?.into_iter();
    let mut statements: Vec<String> = created.filter(|sql| !before.contains(sql)).collect();
    let sql = "select 'update fieldsync_tables set capture = ' || quote(capture) || ' where log = ' || quote(log) \
               from fieldsync_tables where capture is not null";
    let mut saved = connection.prepare(sql)?;
    let saved = saved.query_map([], |row| row.get(0))?;
    statements.extend(saved.collect::<Result<Vec<String>, _>>()?);
    Ok(statements)
}

/// The SQL of everything of ours in the schema.
fn schema(connection: &Connection) -> Result<Vec<String>, Failure> {
    let sql = "select sql from sqlite_schema where name like 'fieldsync\\_%' escape '\\' and sql is not null";
    let mut statement = connection.prepare(sql)?;
    let schema = statement.query_map([], |row| row.get(0))?;
    Ok(schema.collect::<Result<_, _>>()?)
}
