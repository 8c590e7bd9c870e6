//! Reads PostgreSQL's catalog.

use std::borrow::Cow;
use std::collections::HashMap;

use deadpool_postgres::Transaction;
use fieldsync::Collection;
use fieldsync_sql::{ColumnInfo, DeclaredType, Dialect as _, TableInfo, TableKind};

use crate::dialect::Postgres;
use crate::error::Failure;

/// What has the name of a collection's table.
pub(crate) async fn read(
    transaction: &Transaction<'_>,
    collection: &Collection,
) -> Result<Option<TableInfo>, Failure> {
    let table = Postgres::table(collection.table_name());
    let sql = "select c.relkind::text, n.nspname::text, c.relname::text from pg_class c \
               join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)";
    let Some(row) = transaction.query_opt(sql, &[&table]).await? else {
        return Ok(None);
    };
    let kind: &str = row.try_get(0)?;
    let (schema, name): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
    let mut info = TableInfo {
        name: name.to_owned(),
        log: format!("{}.{}", in_log(schema), in_log(name)),
        sql_name: format!("{}.{}", Postgres::quote(schema), Postgres::quote(name)),
        kind: match kind {
            "r" | "p" => TableKind::Table,
            "v" | "m" => TableKind::Other("a view"),
            _ => TableKind::Other("something else"),
        },
        columns: columns(transaction, &table).await?,
        primary_key: Vec::new(),
        foreign_keys: Vec::new(),
        constraints: HashMap::new(),
        id_source: None,
        next_id: next_id(transaction, &table, collection.key_column()).await?,
    };
    read_constraints(transaction, &table, &mut info).await?;
    Ok(Some(info))
}

/// A part of a log's name. A part with a dot is quoted, so that no two tables have the same log.
fn in_log(name: &str) -> Cow<'_, str> {
    if name.contains(['.', '"']) {
        Postgres::quote(name).into()
    } else {
        name.into()
    }
}

/// Whether row-level security hides rows of a collection's table from this role, for reads or for writes.
pub(crate) async fn has_row_security(
    transaction: &Transaction<'_>,
    collection: &Collection,
) -> Result<bool, Failure> {
    let sql = "select coalesce(row_security_active(to_regclass($1)), false)";
    let table = Postgres::table(collection.table_name());
    Ok(transaction.query_one(sql, &[&table]).await?.try_get(0)?)
}

/// An expression for the id of a new row: the key's default, or the sequence of its identity.
async fn next_id(
    transaction: &Transaction<'_>,
    table: &str,
    key: &str,
) -> Result<Option<String>, Failure> {
    let sql = "select coalesce(pg_get_expr(d.adbin, d.adrelid), \
                 'nextval(' || quote_literal(pg_get_serial_sequence($1, $2)) || ')') \
               from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
               where a.attrelid = to_regclass($1) and a.attname = $2";
    let row = transaction.query_opt(sql, &[&table, &key]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

async fn columns(transaction: &Transaction<'_>, table: &str) -> Result<Vec<ColumnInfo>, Failure> {
    let sql = "select a.attname::text, coalesce(base.typname, t.typname)::text, \
                 case when t.typname = 'varchar' and a.atttypmod > 4 then a.atttypmod - 4 end, \
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                 a.atthasdef or a.attidentity <> '', a.attgenerated <> '' or a.attidentity = 'a' \
               from pg_attribute a join pg_type t on t.oid = a.atttypid \
                 left join pg_type base on t.typtype = 'd' and base.oid = t.typbasetype \
               where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum";
    let mut columns = Vec::new();
    for row in transaction.query(sql, &[&table]).await? {
        let length: Option<i32> = row.try_get(2)?;
        columns.push(ColumnInfo {
            name: row.try_get(0)?,
            declared: DeclaredType {
                name: row.try_get(1)?,
                length: length.and_then(|length| usize::try_from(length).ok()),
                shown: row.try_get(3)?,
            },
            is_not_null: row.try_get(4)?,
            has_default: row.try_get(5)?,
            is_generated: row.try_get(6)?,
        });
    }
    Ok(columns)
}

/// Adds the primary key, the indexes with the columns in their expressions, and the constraints.
async fn read_constraints(
    transaction: &Transaction<'_>,
    table: &str,
    info: &mut TableInfo,
) -> Result<(), Failure> {
    let sql = "select i.relname::text, case when x.indisprimary then 'p' else 'u' end, array_agg(a.attname::text) \
               from pg_index x join pg_class i on i.oid = x.indexrelid \
                 join pg_attribute a on a.attrelid = x.indrelid and (a.attnum = any(x.indkey[0:x.indnkeyatts - 1]) or \
                   position(a.attname::text in pg_get_expr(x.indexprs, x.indrelid)) > 0 and exists \
                     (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = x.indexrelid \
                        and d.refclassid = 'pg_class'::regclass and d.refobjid = x.indrelid and d.refobjsubid = a.attnum)) \
               where x.indrelid = to_regclass($1) group by 1, 2 \
               union all \
               select c.conname::text, c.contype::text, array_agg(a.attname::text) \
               from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey) \
               where c.conrelid = to_regclass($1) and c.contype in ('c', 'f', 'x') group by 1, 2";
    for row in transaction.query(sql, &[&table]).await? {
        let columns: Vec<String> = row.try_get(2)?;
        match row.try_get(1)? {
            "p" => info.primary_key.clone_from(&columns),
            "f" => info.foreign_keys.extend_from_slice(&columns),
            _ => {}
        }
        info.constraints.insert(row.try_get(0)?, columns);
    }
    Ok(())
}
