//! Reads PostgreSQL's catalog.

use std::borrow::Cow;
use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Transaction};
use fieldsync::Collection;
use fieldsync::backend::StoreError;
use fieldsync_sql::{
    ColumnInfo, DeclaredType, Dialect as _, ForeignKeyInfo, FoundSideTable, MissingTable,
    TableInfo, TableKind, TypeKind,
};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSqlOwned, ToSql};

use crate::dialect::Postgres;
use crate::error::Failure;
use crate::oids::with_oids;

/// Runs a statement that is run for each table: planning it takes longer than running it.
pub(crate) async fn rows(
    client: &impl GenericClient,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, parameters).await?)
}

/// The first column of the first row, unless there is none or it is null.
pub(crate) async fn first<T: FromSqlOwned>(
    client: &impl GenericClient,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<T>, Failure> {
    let found = rows(client, sql, parameters).await?;
    Ok(found
        .first()
        .map(|row| row.try_get(0))
        .transpose()?
        .flatten())
}

/// What has the name of a collection's table. Those of fieldsync's own are in the schema of the side tables.
pub(crate) async fn find(
    transaction: &Transaction<'_>,
    collection: &Collection,
    side_schema: &str,
) -> Result<Result<TableInfo, MissingTable>, Failure> {
    if let Some(table) = read(transaction, collection, side_schema).await? {
        return Ok(Ok(table));
    }
    let name = collection.table_name();
    let (schema, name) = match name.split_once('.') {
        Some((schema, name)) => (schema.to_owned(), name),
        None if collection.is_own() => (side_schema.to_owned(), name),
        None => (current_schema(transaction).await?, name),
    };
    let sql = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relkind in ('r', 'p') and not starts_with(c.relname, 'fieldsync_')";
    let others = transaction.query(sql, &[&schema]).await?;
    let others = others.iter().map(|row| row.try_get(0));
    Ok(Err(MissingTable {
        log: log_name(&schema, name),
        sql_name: format!("{}.{}", Postgres::quote(&schema), Postgres::quote(name)),
        others: others.collect::<Result<_, _>>()?,
    }))
}

/// The schema in which tables are created whose names have none.
async fn current_schema(transaction: &Transaction<'_>) -> Result<String, Failure> {
    let sql = "select current_schema()::text";
    let schema: Option<String> = transaction.query_one(sql, &[]).await?.try_get(0)?;
    let error = "the search_path of the role names no schema that exists";
    Ok(schema.ok_or_else(|| StoreError::Backend(error.into()))?)
}

/// The schema of the side tables, unless the store names one: where they are found, or else where they are created.
pub(crate) async fn side_schema(transaction: &Transaction<'_>) -> Result<String, Failure> {
    let sql = "select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where c.oid = to_regclass('fieldsync_heads')";
    match transaction.query_opt(sql, &[]).await? {
        Some(row) => Ok(row.try_get(0)?),
        None => current_schema(transaction).await,
    }
}

/// Whether a schema exists.
pub(crate) async fn has_schema(
    transaction: &Transaction<'_>,
    schema: &str,
) -> Result<bool, Failure> {
    let sql = "select exists (select from pg_namespace where nspname = $1)";
    Ok(transaction.query_one(sql, &[&schema]).await?.try_get(0)?)
}

/// The side tables in a schema and their indexes.
pub(crate) async fn side_tables(
    transaction: &Transaction<'_>,
    schema: &str,
) -> Result<Vec<FoundSideTable>, Failure> {
    let sql = "select c.relname::text, coalesce(array_agg(a.attname::text) filter (where a.attnum > 0), '{}') \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 left join pg_attribute a on a.attrelid = c.oid and not a.attisdropped \
               where n.nspname = $1 and starts_with(c.relname, 'fieldsync_') group by 1";
    let mut tables = Vec::new();
    for row in transaction.query(sql, &[&schema]).await? {
        tables.push(FoundSideTable {
            name: row.try_get(0)?,
            columns: row.try_get(1)?,
        });
    }
    Ok(tables)
}

/// The schemas, apart from this one, whose side tables have one of these logs, and the log.
pub(crate) async fn other_side_schemas(
    transaction: &Transaction<'_>,
    schema: &str,
    logs: &[String],
) -> Result<Vec<(String, String)>, Failure> {
    // Those that the role may not read belong to others.
    let sql = "select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 join pg_attribute a on a.attrelid = c.oid and a.attname = 'log' \
               where c.relname = 'fieldsync_tables' and c.relkind = 'r' and c.relpersistence <> 't' and n.nspname <> $1 \
                 and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')";
    let mut found = Vec::new();
    for row in transaction.query(sql, &[&schema]).await? {
        let other: String = row.try_get(0)?;
        let quoted = Postgres::quote(&other);
        let sql = format!("select log from {quoted}.fieldsync_tables where log = any($1)");
        for row in transaction.query(&sql, &[&logs]).await? {
            found.push((other.clone(), row.try_get(0)?));
        }
    }
    Ok(found)
}

/// `accounts.users` is the table `users` of the schema `accounts`.
fn sql_name(table: &str) -> String {
    let parts: Vec<_> = table.split('.').map(Postgres::quote).collect();
    parts.join(".")
}

async fn read(
    transaction: &Transaction<'_>,
    collection: &Collection,
    side_schema: &str,
) -> Result<Option<TableInfo>, Failure> {
    let name = sql_name(collection.table_name());
    let is_own = collection.is_own();
    let table = match is_own {
        true => format!("{}.{name}", Postgres::quote(side_schema)),
        false => name,
    };
    let oid = if is_own || collection.table_name().contains('.') {
        "oid_of($1)"
    } else {
        "to_regclass($1)"
    };
    let sql = format!(
        "select c.relkind::text, n.nspname::text, c.relname::text, c.oid from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace where c.oid = {oid}"
    );
    let found = rows(transaction, &with_oids(&sql), &[&table]).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let kind: &str = row.try_get(0)?;
    let (schema, name): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
    let table = format!("{}.{}", Postgres::quote(schema), Postgres::quote(name));
    let mut info = TableInfo {
        is_strict: false,
        name: name.to_owned(),
        log: log_name(schema, name),
        sql_name: table.clone(),
        kind: match kind {
            "r" | "p" => TableKind::Table,
            "v" => TableKind::View("a view"),
            "m" => TableKind::View("a materialized view"),
            "f" => TableKind::View("a foreign table"),
            _ => TableKind::Other("something else"),
        },
        columns: columns(transaction, row.try_get(3)?).await?,
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        constraints: HashMap::new(),
        capture: Vec::new(),
        id_source: None,
        next_id: match collection.key_columns() {
            [key] => next_id(transaction, &table, key).await?,
            _ => None,
        },
    };
    read_constraints(transaction, &table, &mut info).await?;
    Ok(Some(info))
}

/// The name of the log of a table.
fn log_name(schema: &str, table: &str) -> String {
    format!("{}.{}", in_log(schema), in_log(table))
}

/// A part of a log's name. A part with a dot is quoted, so that no two tables have the same log.
fn in_log(name: &str) -> Cow<'_, str> {
    if name.contains(['.', '"']) {
        Postgres::quote(name).into()
    } else {
        name.into()
    }
}

/// Whether row-level security hides rows of a table from this role, for reads or for writes.
pub(crate) async fn has_row_security(
    transaction: &Transaction<'_>,
    table: &TableInfo,
) -> Result<bool, Failure> {
    let sql = "select coalesce(row_security_active(oid_of($1)), false)";
    let is_active = first(transaction, &with_oids(sql), &[&table.sql_name]).await?;
    Ok(is_active.unwrap_or(false))
}

/// An expression for the id of a new row: the key's default, or the sequence of its identity.
async fn next_id(
    transaction: &Transaction<'_>,
    table: &str,
    key: &str,
) -> Result<Option<String>, Failure> {
    let sql = "select coalesce(pg_get_expr(d.adbin, d.adrelid), \
                 (select 'nextval(' || quote_literal(format('%I.%I', sn.nspname, s.relname)) || ')' \
                  from pg_depend o join pg_class s on s.oid = o.objid and s.relkind = 'S' \
                    join pg_namespace sn on sn.oid = s.relnamespace \
                  where o.classid = 'pg_class'::regclass and o.refclassid = 'pg_class'::regclass and o.refobjid = a.attrelid \
                    and o.refobjsubid = a.attnum and o.deptype in ('a', 'i') limit 1)) \
               from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
               where a.attrelid = oid_of($1) and a.attname = $2";
    first(transaction, &with_oids(sql), &[&table, &key]).await
}

async fn columns(transaction: &Transaction<'_>, table: u32) -> Result<Vec<ColumnInfo>, Failure> {
    let mut columns = columns_of(transaction, &[table]).await?;
    let columns = columns.drain().flat_map(|(_, columns)| columns);
    Ok(columns.map(|column| column.info).collect())
}

/// A column, and whether the role may read it.
pub(crate) struct TableColumn {
    pub(crate) info: ColumnInfo,
    pub(crate) is_readable: bool,
}

/// The columns of these tables.
pub(crate) async fn columns_of(
    client: &impl GenericClient,
    tables: &[u32],
) -> Result<HashMap<u32, Vec<TableColumn>>, Failure> {
    let sql = "select a.attname::text, t.typname::text, \
                 case when t.typname in ('varchar', 'bpchar') and t.modifier > 4 then t.modifier - 4 \
                   when t.typname = 'numeric' and t.modifier > 4 then ((t.modifier - 4) >> 16) & 65535 end, \
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                 a.atthasdef or a.attidentity <> '' or t.has_default, a.attgenerated <> '' or a.attidentity = 'a', \
                 case when t.typcategory = 'A' then 'A' else t.typtype::text end, \
                 (select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid), \
                 a.attrelid, has_column_privilege(a.attrelid, a.attnum, 'select') \
               from pg_attribute a cross join lateral \
                 (with recursive base(oid, modifier, has_default) as \
                    (select a.atttypid, a.atttypmod, false union all \
                     select d.typbasetype, case when b.modifier = -1 then d.typtypmod else b.modifier end, \
                       b.has_default or d.typdefault is not null \
                     from base b join pg_type d on d.oid = b.oid where d.typtype = 'd') \
                  select t.*, b.modifier, b.has_default from base b join pg_type t on t.oid = b.oid where t.typtype <> 'd') t \
               where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum";
    let mut columns: HashMap<u32, Vec<TableColumn>> = HashMap::new();
    for row in rows(client, sql, &[&tables]).await? {
        let length: Option<i32> = row.try_get(2)?;
        let info = ColumnInfo {
            name: row.try_get(0)?,
            declared: DeclaredType {
                name: row.try_get(1)?,
                length: length.and_then(|length| usize::try_from(length).ok()),
                shown: row.try_get(3)?,
                kind: match row.try_get(7)? {
                    "A" => TypeKind::Array,
                    "c" => TypeKind::Composite,
                    "e" => TypeKind::Enum(row.try_get::<_, Option<_>>(8)?.unwrap_or_default()),
                    _ => TypeKind::Scalar,
                },
                sample: None,
            },
            is_not_null: row.try_get(4)?,
            has_default: row.try_get(5)?,
            is_generated: row.try_get(6)?,
        };
        columns
            .entry(row.try_get(9)?)
            .or_default()
            .push(TableColumn {
                info,
                is_readable: row.try_get(10)?,
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
    let sql = "select i.relname::text, case when x.indisprimary then 'p' \
                 when x.indisunique and x.indimmediate and x.indisvalid and x.indpred is null and x.indexprs is null then 'k' \
                 else 'u' end, array_agg(a.attname::text order by array_position(x.indkey::int2[], a.attnum)), \
                 null::text, null::text, null::text[] \
               from pg_index x join pg_class i on i.oid = x.indexrelid \
                 join pg_attribute a on a.attrelid = x.indrelid and (a.attnum = any(x.indkey[0:x.indnkeyatts - 1]) or \
                   position(a.attname::text in pg_get_expr(x.indexprs, x.indrelid)) > 0 and exists \
                     (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = x.indexrelid \
                        and d.refclassid = 'pg_class'::regclass and d.refobjid = x.indrelid and d.refobjsubid = a.attnum)) \
               where x.indrelid = oid_of($1) group by 1, 2 \
               union all \
               select c.conname::text, c.contype::text, array_agg(a.attname::text order by array_position(c.conkey, a.attnum)), \
                 n.nspname::text, t.relname::text, \
                 (select array_agg(f.attname::text order by array_position(c.confkey, f.attnum)) from pg_attribute f \
                  where f.attrelid = c.confrelid and f.attnum = any(c.confkey)) \
               from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey) \
                 left join pg_class t on t.oid = c.confrelid left join pg_namespace n on n.oid = t.relnamespace \
               where c.conrelid = oid_of($1) and c.contype in ('c', 'f', 'x') \
               group by c.conname, c.contype, c.confrelid, c.confkey, n.nspname, t.relname";
    for row in rows(transaction, &with_oids(sql), &[&table]).await? {
        let columns: Vec<String> = row.try_get(2)?;
        match row.try_get(1)? {
            "p" => info.primary_key.clone_from(&columns),
            "k" => info.unique_keys.push(columns.clone()),
            "f" => info.foreign_keys.push(ForeignKeyInfo {
                columns: columns.clone(),
                target: log_name(row.try_get(3)?, row.try_get(4)?),
                target_columns: row.try_get(5)?,
            }),
            _ => {}
        }
        info.constraints.insert(row.try_get(0)?, columns);
    }
    Ok(())
}
