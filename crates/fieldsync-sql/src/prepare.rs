//! Decides what a start must do: the statements that create what is missing, and whether what exists fits.

use std::sync::Arc;

use fieldsync::Collection;
use fieldsync::backend::{SchemaMismatch, StoreError};

use crate::catalog::TableInfo;
use crate::check::check;
use crate::cursor_key::HAS_CURSOR_KEY;
use crate::ddl::{create_table, missing_columns};
use crate::dialect::Dialect;
use crate::layout::TableLayout;
use crate::mismatch::{did_you_mean, mismatch};
use crate::side_tables::{FoundSideTable, SideSchema, side_tables};
use crate::tables::Tables;
use crate::value::SqlValue;

/// What the database has. The driver reads it, and writes nothing.
#[derive(Debug)]
pub struct Found {
    /// The side tables and their indexes.
    pub side_tables: Vec<FoundSideTable>,
    /// Whether `fieldsync_secrets` has the key of cursors.
    pub has_cursor_key: bool,
    /// For each collection, in their order.
    pub tables: Vec<FoundTable>,
}

/// What the database has of a collection.
#[derive(Debug)]
pub struct FoundTable {
    /// The table, or what else has its name.
    pub table: Result<TableInfo, MissingTable>,
    /// From `fieldsync_tables`: whether fieldsync created the table. `None` without a row.
    pub is_ours: Option<bool>,
    /// Whether `fieldsync_heads` has a row.
    pub has_head: bool,
}

/// A table that does not exist.
#[derive(Debug)]
pub struct MissingTable {
    /// The name that its log would have.
    pub log: String,
    /// The name as SQL: quoted, with the schema where the database has schemas.
    pub sql_name: String,
    /// The tables that exist beside it.
    pub others: Vec<String>,
}

/// What a start must do.
#[derive(Debug)]
pub struct Preparation<D: Dialect> {
    /// The statements that create what is missing. Without any, everything is in place.
    pub statements: Vec<String>,
    /// The tables that need nothing.
    pub tables: Tables<D>,
}

/// Decides what a start must do. `own` builds the driver's own statements of a table.
///
/// # Errors
/// [`StoreError::Schema`] with everything that does not fit.
pub fn prepare<D: Dialect>(
    collections: &[Arc<Collection>],
    found: Found,
    side: &SideSchema,
    own: impl Fn(&TableLayout<D>) -> D::TableStatements,
) -> Result<Preparation<D>, StoreError> {
    let (mut statements, mut wrong) = side_tables::<D>(side, &found.side_tables);
    statements.extend(cursor_key_row::<D>(side, found.has_cursor_key));
    let mut tables = Tables::new(side.clone());
    for (collection, found) in collections.iter().zip(found.tables) {
        let before = statements.len();
        let table = match found.table {
            Err(missing) => {
                match create_missing::<D>(collection, &missing) {
                    Ok(sql) => statements.push(sql),
                    Err(one) => wrong.push(one),
                }
                statements.push(created_row::<D>(side, &missing.log));
                statements.extend(head_row::<D>(side, &missing.log, found.has_head));
                continue;
            }
            Ok(table) => table,
        };
        if found.is_ours.is_none() {
            statements.push(existing_row::<D>(side, &table.log));
        }
        statements.extend(head_row::<D>(side, &table.log, found.has_head));
        if collection.adds_missing_columns() {
            for column in missing_columns::<D>(collection, &table) {
                match column {
                    Ok(sql) => statements.push(sql),
                    Err(one) => wrong.push(one),
                }
            }
        }
        match check(collection, table, found.is_ours == Some(true), &own) {
            Ok(table) => {
                if statements.len() == before {
                    wrong.extend(tables.insert(Arc::new(table)).err());
                }
            }
            Err(found) => wrong.extend(found),
        }
    }
    if wrong.is_empty() {
        Ok(Preparation { statements, tables })
    } else {
        Err(StoreError::Schema(wrong))
    }
}

/// The statement for a missing table, which must have the collection's own name: `.table(…)` names an existing one.
fn create_missing<D: Dialect>(
    collection: &Collection,
    missing: &MissingTable,
) -> Result<String, SchemaMismatch> {
    if collection.table_name() == &**collection.name() {
        return create_table::<D>(collection, &missing.sql_name);
    }
    let name = collection.table_name().rsplit('.').next();
    let others = missing.others.iter().map(String::as_str);
    let hint = did_you_mean(name.unwrap_or_default(), others);
    let expected = format!("an existing table, since .table(…) names it{hint}");
    Err(mismatch(collection, None, "no such table", expected))
}

fn created_row<D: Dialect>(side: &SideSchema, log: &str) -> String {
    let replace = D::replace_on_conflict(&[D::quote("log")], &[D::quote("is_ours")]);
    let log = D::literal(&SqlValue::text(log));
    let sql = side.render::<D>("insert into fieldsync_tables (log, is_ours)");
    format!("{sql} values ({log}, 1) {replace}")
}

fn existing_row<D: Dialect>(side: &SideSchema, log: &str) -> String {
    let log = D::literal(&SqlValue::text(log));
    let insert = side.render::<D>("insert into fieldsync_tables (log, is_ours)");
    let exists = side.render::<D>("select 1 from fieldsync_tables where log =");
    format!("{insert} select {log}, 0 where not exists ({exists} {log})")
}

/// An insert that does nothing on a conflict would wait for a transaction that is moving the head.
fn head_row<D: Dialect>(side: &SideSchema, log: &str, exists: bool) -> Option<String> {
    if exists {
        return None;
    }
    let (log, epoch) = (D::literal(&SqlValue::text(log)), D::RANDOM_INTEGER);
    let insert = side.render::<D>("insert into fieldsync_heads (log, epoch)");
    let exists = side.render::<D>("select 1 from fieldsync_heads where log =");
    Some(format!(
        "{insert} select {log}, {epoch} where not exists ({exists} {log})"
    ))
}

/// The database makes the key: it appears in no statement, and so in no log.
fn cursor_key_row<D: Dialect>(side: &SideSchema, exists: bool) -> Option<String> {
    if exists {
        return None;
    }
    let insert = side.render::<D>("insert into fieldsync_secrets (name, secret)");
    let exists = side.render::<D>(HAS_CURSOR_KEY);
    let secret = D::RANDOM_SECRET;
    Some(format!(
        "{insert} select 'cursors', {secret} where not exists ({exists})"
    ))
}

/// The statements as a script.
#[must_use]
pub fn script(statements: &[String]) -> String {
    statements
        .iter()
        .map(|statement| format!("{};\n", statement.trim_end_matches(';')))
        .collect()
}
