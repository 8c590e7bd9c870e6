//! Creates what is missing and checks what exists. If everything is in place, nothing is written.

use std::sync::Arc;

use fieldsync::Collection;
use fieldsync::backend::StoreError;
use fieldsync_sql::{Found, FoundTable, Preparation, SideSchema, script};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior};

use crate::catalog;
use crate::dialect::{Sqlite, Tables};
use crate::error::Failure;

/// Creates or checks everything in one transaction. Two nodes may do so at the same time.
pub(crate) fn prepare(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<Tables, Failure> {
    let found = look(connection, collections)?;
    if found.statements.is_empty() {
        return Ok(found.tables);
    }
    create(connection, collections).map_err(|failure| match failure {
        Failure::Sqlite(error) if is_not_allowed(&error) => {
            Failure::Store(StoreError::NotPrepared {
                sql: script(&found.statements),
                source: error.into(),
            })
        }
        other => other,
    })
}

/// The SQL that [`prepare`] would run.
pub(crate) fn ddl(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<String, Failure> {
    Ok(script(&look(connection, collections)?.statements))
}

fn look(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<Preparation<Sqlite>, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    look_in(&transaction, collections)
}

fn create(connection: &mut Connection, collections: &[Arc<Collection>]) -> Result<Tables, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another node may have created it meanwhile.
    for sql in look_in(&transaction, collections)?.statements {
        tracing::info!(sql, "changing the database");
        transaction.execute_batch(&sql)?;
    }
    let created = look_in(&transaction, collections)?;
    if let Some(sql) = created.statements.first() {
        let error = format!("the database is as before after: {sql}");
        return Err(StoreError::Backend(error.into()).into());
    }
    // Only now do all tables exist that the others may refer to.
    let mut mismatches = Vec::new();
    for collection in collections {
        mismatches.extend(catalog::check_foreign_keys(&transaction, collection)?);
    }
    if !mismatches.is_empty() {
        return Err(StoreError::Schema(mismatches).into());
    }
    transaction.commit()?;
    Ok(created.tables)
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
        let table = catalog::find(connection, collection)?;
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
    let found = Found {
        side_tables,
        tables,
    };
    let side = SideSchema::default();
    Ok(fieldsync_sql::prepare(collections, found, &side, |_| ())?)
}
