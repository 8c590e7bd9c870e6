//! Describes all tables of a database, for collections that are made of them; and what of it is fieldsync's.

use fieldsync::backend::{ColumnDescription, TableDescription};
use fieldsync_sql::Dialect as _;
use rusqlite::Connection;

use crate::catalog;
use crate::column_types::{field_type, key_ids};
use crate::dialect::Sqlite;
use crate::error::Failure;

/// Virtual tables and their shadows have no triggers.
const TABLES: &str = "select name, type = 'view', wr from pragma_table_list where schema = 'main' and type in ('table', 'view') \
     and name not like 'sqlite\\_%' escape '\\' and name not like 'fieldsync\\_%' escape '\\' order by name";

/// What the database changes when rows of a table change.
const EFFECTS: &str = "select l.name || ': on ' || \
         case f.on_delete when 'NO ACTION' then '' when 'RESTRICT' then '' else 'delete ' || lower(f.on_delete) end || \
         case when f.on_delete in ('NO ACTION', 'RESTRICT') or f.on_update in ('NO ACTION', 'RESTRICT') then '' else ', on ' end || \
         case f.on_update when 'NO ACTION' then '' when 'RESTRICT' then '' else 'update ' || lower(f.on_update) end \
     from pragma_table_list l, pragma_foreign_key_list(l.name) f \
     where l.schema = 'main' and f.\"table\" = ?1 collate nocase and f.seq = 0 \
       and not (f.on_delete in ('NO ACTION', 'RESTRICT') and f.on_update in ('NO ACTION', 'RESTRICT')) \
     union all \
     select 'trigger ' || name from sqlite_schema where type = 'trigger' and tbl_name = ?1 collate nocase \
       and name not like 'fieldsync\\_%' escape '\\' order by 1";

pub(crate) fn tables(connection: &Connection) -> Result<Vec<TableDescription>, Failure> {
    let mut statement = connection.prepare(TABLES)?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let found: Vec<(String, bool, bool)> = found.collect::<Result<_, _>>()?;
    let mut effects = connection.prepare(EFFECTS)?;
    let mut tables = Vec::with_capacity(found.len());
    for (name, is_view, is_without_rowid) in found {
        let (columns, primary_key) = catalog::columns(connection, &name, !is_without_rowid)?;
        let is_not_null = |key: &Vec<String>| {
            key.iter().all(|name| {
                let mut columns = columns.iter();
                columns.any(|column| Sqlite::is_same_name(&column.name, name) && column.is_not_null)
            })
        };
        let key = if primary_key.is_empty() {
            let unique = catalog::unique_keys(connection, &name)?.into_iter();
            unique
                .filter(is_not_null)
                .min_by_key(Vec::len)
                .unwrap_or_default()
        } else {
            primary_key
        };
        let count = format!("select count(*) from {}", Sqlite::quote(&name));
        // A view may fail when it is read.
        let rows: Option<i64> = connection.query_row(&count, [], |row| row.get(0)).ok();
        let effects = effects.query_map([&name], |row| row.get(0))?;
        tables.push(TableDescription {
            schema: None,
            is_view,
            columns: columns
                .iter()
                .map(|column| ColumnDescription {
                    name: column.name.clone(),
                    sql_type: column.declared.shown.clone(),
                    field: Some(field_type(&column.declared)),
                    ids: key_ids(&column.declared),
                    has_special_values: true,
                    is_nullable: !column.is_not_null && !key.contains(&column.name),
                    has_default: column.has_default,
                    is_generated: column.is_generated,
                })
                .collect(),
            key,
            rows: rows.and_then(|rows| u64::try_from(rows).ok()),
            effects: effects.collect::<Result<_, _>>()?,
            name,
        });
    }
    Ok(tables)
}

/// The statements that remove everything of fieldsync's from the database.
pub(crate) fn removal(connection: &Connection) -> Result<Vec<String>, Failure> {
    let sql = "select type, name from sqlite_schema where name like 'fieldsync\\_%' escape '\\' \
                 and (type = 'table' or type = 'trigger' and sql like '%fieldsync\\_captured%' escape '\\') order by type desc, name";
    let mut statement = connection.prepare(sql)?;
    let statements = statement.query_map([], |row| {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(format!("drop {kind} {}", Sqlite::quote(&name)))
    })?;
    Ok(statements.collect::<Result<_, _>>()?)
}
