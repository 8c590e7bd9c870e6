//! The SQL that sets up capture: the side tables, the function that the triggers call, and the triggers of each table.

use fieldsync_sql::{Dialect as _, SqlValue};
use tokio_postgres::GenericClient;

use crate::capture_state::{CapturedTable, function, function_name, side_tables, states};
use crate::dialect::Postgres;
use crate::error::Failure;
use crate::oids::with_oids;

/// Capture's side tables.
const SIDE_TABLES: &str = include_str!("capture.sql");

/// The body of the function.
const FUNCTION: &str = include_str!("capture_function.sql");

/// The role that owns the function, with no more rights than it needs: conversions that users define run inside `to_jsonb`.
const OWNER: &str = "do $$ begin \
       if not exists (select from pg_roles where rolname = 'fieldsync_capture') then \
         begin \
           create role fieldsync_capture nologin; \
         exception when duplicate_object or unique_violation then null; \
         end; \
       end if; \
       if not pg_has_role(current_user, 'fieldsync_capture', 'usage') then \
         grant fieldsync_capture to current_user; \
       end if; \
       grant usage, create on schema {schema} to fieldsync_capture; \
       grant insert on {schema}.fieldsync_captured to fieldsync_capture; \
       grant select on {schema}.fieldsync_doorbell to fieldsync_capture; \
       alter function {schema}.fieldsync_capture() owner to fieldsync_capture; \
       revoke create on schema {schema} from fieldsync_capture; \
     exception when insufficient_privilege then \
       raise notice 'fieldsync: this role may not create roles, so that the function fieldsync_capture belongs to it'; \
     end $$";

/// The statements that set up capture for these tables, as far as something is missing. `schema`: that of the side tables, as
/// SQL.
pub(crate) async fn missing(
    client: &impl GenericClient,
    schema: &str,
    tables: &[CapturedTable],
) -> Result<Vec<String>, Failure> {
    let mut statements = Vec::new();
    if tables.is_empty() {
        return Ok(statements);
    }
    if !has_function(client, schema).await? {
        statements.extend(function_statements(schema));
    }
    for (table, state) in tables.iter().zip(states(client, schema, tables).await?) {
        if !state.is_complete {
            statements.extend(missing_triggers(client, schema, table).await?);
        }
    }
    Ok(statements)
}

/// Whether the side tables and the function are in place.
async fn has_function(client: &impl GenericClient, schema: &str) -> Result<bool, Failure> {
    let body = FUNCTION.replace("{schema}", schema);
    let sql = "select exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
                 where n.nspname = (parse_ident($1))[1] and p.proname = (parse_ident($1))[2] and p.pronargs = 0 and p.prosrc = $2) \
               and (select bool_and(oid_of(w.name) is not null) from unnest($3::text[]) w (name))";
    let [captured, doorbell] = side_tables(schema);
    let indexes = ["key", "xid"].map(|suffix| format!("{captured}_{suffix}"));
    let relations = [&captured, &doorbell, &indexes[0], &indexes[1]];
    let row = client
        .query_one(
            &with_oids(sql),
            &[&function_name(schema), &body, &&relations[..]],
        )
        .await?;
    Ok(row.try_get(0)?)
}

fn function_statements(schema: &str) -> Vec<String> {
    let (function, body) = (function(schema), FUNCTION.replace("{schema}", schema));
    let side_tables = SIDE_TABLES.replace("{schema}", schema);
    let side_tables = side_tables.split(';').map(str::trim);
    let mut statements: Vec<String> = side_tables
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect();
    statements.extend([
        format!(
            "create or replace function {function} returns trigger language plpgsql security definer \
             set search_path = pg_catalog, pg_temp as $fieldsync${body}$fieldsync$"
        ),
        format!("revoke execute on function {function} from public"),
        OWNER.replace("{schema}", schema),
    ]);
    statements
}

/// The statements that create the triggers of a table and of its partitions.
async fn missing_triggers(
    client: &impl GenericClient,
    schema: &str,
    table: &CapturedTable,
) -> Result<Vec<String>, Failure> {
    let sql = "select format('%I.%I', pn.nspname, p.relname) from (select oid_of($1) as oid) t \
                 cross join lateral pg_partition_tree(t.oid) tree join pg_class p on p.oid = tree.relid \
                 join pg_namespace pn on pn.oid = p.relnamespace where tree.relid <> t.oid";
    let mut partitions: Vec<String> = Vec::new();
    for row in client.query(&with_oids(sql), &[&table.sql_name]).await? {
        partitions.push(row.try_get(0)?);
    }
    let mut statements = trigger_statements(schema, table, partitions);
    // What happened meanwhile to a table whose log has changes, or that had capture, was not captured.
    let log = Postgres::literal(&SqlValue::text(&table.log));
    let tag = "1 + floor(random() * 4294967295)::bigint";
    statements.extend([
        format!(
            "update {schema}.fieldsync_heads h set last = h.last + 1, last_tag = r.tag, interrupted = h.last + 1, \
             interrupted_tag = r.tag from (select {tag} as tag) r, {schema}.fieldsync_tables t \
             where h.log = {log} and t.log = h.log and (h.last > 0 or t.capture is not null)"
        ),
        format!("update {schema}.fieldsync_tables set capture = null where log = {log}"),
    ]);
    Ok(statements)
}

/// The condition that a write of the table is not the one that an engine's statement plans. Only a role that may delete what
/// was captured can say so.
fn is_unplanned(schema: &str, log: &str) -> String {
    let log = Postgres::literal(&SqlValue::text(log));
    let [captured, _] = side_tables(schema).map(|name| Postgres::literal(&SqlValue::text(name)));
    format!(
        "pg_trigger_depth() > 0 or current_setting('fieldsync.planned', true) is distinct from {log} \
         or has_table_privilege(session_user, to_regclass({captured}), 'delete') is not true"
    )
}

/// The statement that says that the next ones plan what they write to the table of a log.
pub(crate) fn plan_writes(log: &str) -> String {
    let log = Postgres::literal(&SqlValue::text(log));
    format!("set local fieldsync.planned = {log}")
}

/// The statements that create the triggers of a table with these partitions.
pub(crate) fn trigger_statements(
    schema: &str,
    table: &CapturedTable,
    partitions: Vec<String>,
) -> Vec<String> {
    let name = &table.sql_name;
    let arguments = std::iter::once(&table.log).chain(&table.key);
    let arguments: Vec<_> = arguments
        .map(|text| Postgres::literal(&SqlValue::text(text)))
        .collect();
    let call = format!(
        "execute function {schema}.fieldsync_capture({})",
        arguments.join(", ")
    );
    let mut statements = vec![
        format!("drop trigger if exists \"!fieldsync_row\" on {name}"),
        format!(
            "create trigger \"!fieldsync_row\" after insert or update or delete on {name} for each row when ({}) {call}",
            is_unplanned(schema, &table.log)
        ),
    ];
    for name in std::iter::once(name.clone()).chain(partitions) {
        statements.extend([
            format!("drop trigger if exists \"!fieldsync_truncate\" on {name}"),
            format!("create trigger \"!fieldsync_truncate\" after truncate on {name} for each statement {call}"),
            format!(
                "alter table {name} enable always trigger \"!fieldsync_row\", enable always trigger \"!fieldsync_truncate\""
            ),
        ]);
    }
    statements
}
