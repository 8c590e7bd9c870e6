//! Describes all tables of a database, for collections that are made of them; and what of it is fieldsync's.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::GenericClient;
use fieldsync::backend::{ColumnDescription, TableDescription};
use tokio_postgres::Row;

use crate::column_types::{field_type, key_ids};
use crate::error::Failure;
use crate::{catalog, dialect::Postgres};
use fieldsync_sql::Dialect as _;

/// Up to how many rows are counted where the database has no estimate.
const MAX_COUNTED: i64 = 100_000;

/// A partition is part of its table, and what belongs to an extension or to fieldsync is not the app's.
const TABLES: &str = "select c.oid, n.nspname::text, c.relname::text, c.relkind in ('v', 'm', 'f'), c.reltuples::bigint \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and c.relpersistence <> 't' \
       and n.nspname not in ('pg_catalog', 'information_schema') and not starts_with(n.nspname, 'pg_toast') \
       and not starts_with(c.relname, 'fieldsync_') \
       and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') \
       and has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'select') \
     order by n.nspname, c.relname";

/// The primary key, or else the unique indexes on columns that are not null. The shortest comes first.
const KEYS: &str = "select x.indrelid, array_agg(a.attname::text order by array_position(x.indkey::int2[], a.attnum)) \
     from pg_index x join pg_attribute a on a.attrelid = x.indrelid and a.attnum = any(x.indkey[0:x.indnkeyatts - 1]) \
     where x.indrelid = any($1) and x.indisunique and x.indimmediate and x.indisvalid and x.indpred is null and x.indexprs is null \
     group by x.indexrelid, x.indrelid, x.indisprimary, x.indnkeyatts having bool_and(a.attnotnull) \
     order by x.indrelid, x.indisprimary desc, x.indnkeyatts, x.indexrelid";

/// What the database changes when rows of a table change.
const EFFECTS: &str = "select c.confrelid, format('%s.%s: on %s', n.nspname, r.relname, \
         concat_ws(', on ', case c.confdeltype when 'c' then 'delete cascade' when 'n' then 'delete set null' \
             when 'd' then 'delete set default' end, \
           case c.confupdtype when 'c' then 'update cascade' when 'n' then 'update set null' when 'd' then 'update set default' end)) \
     from pg_constraint c join pg_class r on r.oid = c.conrelid join pg_namespace n on n.oid = r.relnamespace \
     where c.contype = 'f' and c.confrelid = any($1) and (c.confdeltype in ('c', 'n', 'd') or c.confupdtype in ('c', 'n', 'd')) \
       and c.conparentid = 0 \
     union all \
     select t.tgrelid, format('trigger %s', t.tgname) from pg_trigger t \
     where t.tgrelid = any($1) and not t.tgisinternal and not starts_with(t.tgname, '!fieldsync_') order by 1, 2";

pub(crate) async fn tables(client: &impl GenericClient) -> Result<Vec<TableDescription>, Failure> {
    let found = client.query(TABLES, &[]).await?;
    let oids: Vec<u32> = found
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    let columns = catalog::columns_of(client, &oids).await?;
    let keys = grouped(&client.query(KEYS, &[&oids]).await?)?;
    let effects: HashMap<u32, Vec<String>> = grouped(&client.query(EFFECTS, &[&oids]).await?)?;
    let mut tables = Vec::with_capacity(found.len());
    for row in &found {
        let oid: u32 = row.try_get(0)?;
        let (schema, name): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let of_table = columns.get(&oid).map(Vec::as_slice).unwrap_or_default();
        let of_keys: Option<&Vec<Vec<String>>> = keys.get(&oid);
        tables.push(TableDescription {
            rows: rows(client, &schema, &name, row.try_get(4)?).await?,
            schema: Some(schema),
            name,
            is_view: row.try_get(3)?,
            columns: of_table.iter().map(describe).collect(),
            key: of_keys
                .and_then(|keys| keys.first().cloned())
                .unwrap_or_default(),
            effects: effects.get(&oid).cloned().unwrap_or_default(),
        });
    }
    Ok(tables)
}

fn describe(column: &catalog::TableColumn) -> ColumnDescription {
    let info = &column.info;
    ColumnDescription {
        name: info.name.clone(),
        sql_type: info.declared.shown.clone(),
        field: column.is_readable.then(|| field_type(&info.declared)),
        ids: key_ids(&info.declared),
        has_special_values: true,
        is_nullable: !info.is_not_null,
        has_default: info.has_default,
        is_generated: info.is_generated,
    }
}

/// The database's estimate, or the rows counted if it has none.
async fn rows(
    client: &impl GenericClient,
    schema: &str,
    name: &str,
    estimate: i64,
) -> Result<Option<u64>, Failure> {
    if estimate >= 0 {
        return Ok(u64::try_from(estimate).ok());
    }
    let (schema, name) = (Postgres::quote(schema), Postgres::quote(name));
    let sql = format!("select count(*) from (select from {schema}.{name} limit {MAX_COUNTED}) r");
    // A view may fail when it is read.
    let Ok(row) = client.query_one(&sql, &[]).await else {
        return Ok(None);
    };
    let count: i64 = row.try_get(0)?;
    Ok(u64::try_from(count).ok().filter(|_| count < MAX_COUNTED))
}

fn grouped<T>(rows: &[Row]) -> Result<HashMap<u32, Vec<T>>, Failure>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    let mut grouped: BTreeMap<u32, Vec<T>> = BTreeMap::new();
    for row in rows {
        grouped
            .entry(row.try_get(0)?)
            .or_default()
            .push(row.try_get(1)?);
    }
    Ok(grouped.into_iter().collect())
}

/// Partitions get their triggers from their table.
const OURS: &str = "select format('drop trigger %I on %I.%I', t.tgname, n.nspname, c.relname) \
     from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace \
     where t.tgname in ('!fieldsync_row', '!fieldsync_truncate') and t.tgparentid = 0 \
     union all \
     select format('drop function %I.%I()', n.nspname, p.proname) \
     from pg_proc p join pg_namespace n on n.oid = p.pronamespace where p.proname = 'fieldsync_capture' \
     union all \
     select format('drop table %I.%I', n.nspname, c.relname) \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind = 'r' and c.relpersistence <> 't' and c.relname in \
       ('fieldsync_heads', 'fieldsync_tables', 'fieldsync_changes', 'fieldsync_keys', 'fieldsync_secrets', \
        'fieldsync_revocations', \
        'fieldsync_captured', 'fieldsync_doorbell')";

/// The statements that remove everything of fieldsync's from the database.
pub(crate) async fn removal(client: &impl GenericClient) -> Result<Vec<String>, Failure> {
    let rows = client.query(OURS, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?)
}
