//! Creates what is missing and checks what exists.

use std::collections::HashSet;
use std::sync::Arc;

use fieldsync::Collection;
use fieldsync::backend::StoreError;
use fieldsync_sql::{check, create_table, missing_columns, new_epoch, side_tables};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use crate::capture_setup::{Moment, create_captured, ensure, remove};
use crate::catalog;
use crate::dialect::{Sqlite, Tables};
use crate::error::Failure;

/// Creates or checks everything in one transaction. Two nodes may do so at the same time.
pub(crate) fn prepare(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<Tables, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&side_tables::<Sqlite>())?;
    let mut created = Vec::new();
    for collection in collections {
        let statements = match catalog::read(&transaction, collection)? {
            None => {
                created.push(collection.name());
                vec![create_table::<Sqlite>(collection)?]
            }
            Some(table) if collection.adds_missing_columns() => {
                missing_columns::<Sqlite>(collection, &table)?
            }
            Some(_) => Vec::new(),
        };
        for sql in statements {
            transaction.execute_batch(&sql)?;
        }
    }
    let (mut tables, mut mismatches) = (Tables::default(), Vec::new());
    let mut new_logs = HashSet::new();
    // Read again only now, when every table has its columns.
    for collection in collections {
        let table = catalog::read(&transaction, collection)?;
        let log = table.as_ref().map(|table| table.log.clone());
        let is_ours = match &log {
            Some(_) if created.contains(&collection.name()) => true,
            Some(log) => is_ours(&transaction, log)?,
            None => false,
        };
        let checked = check(collection, table, is_ours, |_| ());
        match checked {
            Ok(table) => mismatches.extend(tables.insert(Arc::new(table)).err()),
            Err(found) => mismatches.extend(found),
        }
        if let Some(log) = log
            && add_rows(&transaction, &log, is_ours)?
        {
            new_logs.insert(log);
        }
    }
    if !mismatches.is_empty() {
        return Err(StoreError::Schema(mismatches).into());
    }
    prepare_capture(&transaction, &tables, &new_logs)?;
    transaction.commit()?;
    Ok(tables)
}

/// Creates the triggers of the tables that have capture, and drops those of the others.
fn prepare_capture(
    connection: &Connection,
    tables: &Tables,
    new_logs: &HashSet<String>,
) -> Result<(), Failure> {
    let had_captured = create_captured(connection)?;
    for collection in tables.collections() {
        let table = tables.of(collection)?;
        if table.has_capture {
            let is_new = new_logs.contains(&*table.log);
            ensure(connection, table, Moment::Start { is_new }, had_captured)?;
        } else {
            remove(connection, table)?;
        }
    }
    Ok(())
}

/// Whether fieldsync created the table of this log.
fn is_ours(connection: &Connection, log: &str) -> Result<bool, Failure> {
    let sql = "select is_ours from fieldsync_tables where log = ?1";
    let is_ours = connection.query_row(sql, [log], |row| row.get::<_, i64>(0));
    Ok(is_ours.optional()? == Some(1))
}

/// Adds the rows of a log to the side tables, unless they exist. Whether the log is new.
fn add_rows(connection: &Connection, log: &str, is_ours: bool) -> Result<bool, Failure> {
    let sql = "insert into fieldsync_tables (log, is_ours) values (?1, ?2) \
               on conflict do update set is_ours = excluded.is_ours where excluded.is_ours > is_ours";
    connection.execute(sql, (log, is_ours))?;
    let sql = "insert into fieldsync_heads (log, epoch) values (?1, ?2) on conflict do nothing";
    Ok(connection.execute(sql, (log, new_epoch()))? > 0)
}
