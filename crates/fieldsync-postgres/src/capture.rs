//! Sets up capture: the function that the triggers call, the triggers of each table, and whether they are still as they were.

use fieldsync::backend::StoreError;
use fieldsync_sql::{Dialect as _, SqlValue};
use tokio_postgres::GenericClient;

use crate::dialect::{Postgres, Table, Tables};
use crate::error::Failure;

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

/// What capture depends on, of each table: its storage, its partitions, and the triggers of all; and whether all are in place.
/// The parameters are the names of the tables as SQL, their logs, their key columns, and the function.
const STATES: &str = "select s.fingerprint, s.is_complete \
     from unnest($1::text[], $2::text[], $3::text[]) with ordinality as w (name, log, key, position) cross join lateral \
       (select coalesce(string_agg(format('%s/%s/%s%s/%s%s', c.oid, c.relfilenode, r.xmin, r.tgenabled, t.xmin, t.tgenabled), \
                 ' ' order by c.oid), '') as fingerprint, \
               coalesce(bool_and(r.tgenabled = 'A' and r.tgfoid = to_regprocedure($4) and t.tgenabled = 'A' \
                 and t.tgfoid = to_regprocedure($4) and r.tgargs = args.expected and t.tgargs = args.expected), false) \
                 as is_complete \
        from (select relid from pg_partition_tree(to_regclass(w.name)) union select to_regclass(w.name)) tree \
          join pg_class c on c.oid = tree.relid \
          cross join (select convert_to(w.log, getdatabaseencoding()) || '\\x00' \
                        || convert_to(w.key, getdatabaseencoding()) || '\\x00' as expected) args \
          left join pg_trigger r on r.tgrelid = c.oid and r.tgname = '!fieldsync_row' \
          left join pg_trigger t on t.tgrelid = c.oid and t.tgname = '!fieldsync_truncate') s \
     order by w.position";

/// The state of a table's capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Differs whenever changes may have been missed.
    pub(crate) fingerprint: String,
    /// Whether every trigger is in place and enabled.
    pub(crate) is_complete: bool,
}

/// The schema of the side tables, as SQL.
fn schema(tables: &Tables) -> String {
    Postgres::quote(tables.side.name().unwrap_or_default())
}

/// Sets up capture for the tables that have it, where something is missing.
pub(crate) async fn set_up(client: &impl GenericClient, tables: &Tables) -> Result<(), Failure> {
    if tables.captured().is_empty() {
        return Ok(());
    }
    let schema = schema(tables);
    set_up_function(client, &schema).await?;
    let captured = captured_tables(tables)?;
    let states = states(client, &schema, &captured).await?;
    for (table, found) in captured.into_iter().zip(states) {
        if !found.is_complete {
            set_up_triggers(client, &schema, table).await?;
        }
        confirm(client, &schema, table).await?;
    }
    Ok(())
}

/// Creates the side tables and the function, unless they are in place.
async fn set_up_function(client: &impl GenericClient, schema: &str) -> Result<(), Failure> {
    if has_function(client, schema).await? {
        return Ok(());
    }
    let (function, body) = (function(schema), FUNCTION.replace("{schema}", schema));
    let create = format!(
        "set local client_min_messages = warning; {}; \
         create or replace function {function} returns trigger language plpgsql security definer \
           set search_path = pg_catalog, pg_temp as $fieldsync${body}$fieldsync$; \
         revoke execute on function {function} from public; {}",
        SIDE_TABLES.replace("{schema}", schema),
        OWNER.replace("{schema}", schema)
    );
    Ok(client.batch_execute(&create).await?)
}

/// Whether the side tables and the function are in place.
async fn has_function(client: &impl GenericClient, schema: &str) -> Result<bool, Failure> {
    let body = FUNCTION.replace("{schema}", schema);
    let sql = "select exists (select from pg_proc where oid = to_regprocedure($1) and prosrc = $2) \
               and to_regclass($3) is not null";
    let (function, doorbell) = (function(schema), format!("{schema}.fieldsync_doorbell"));
    let row = client
        .query_one(sql, &[&function, &body, &doorbell])
        .await?;
    Ok(row.try_get(0)?)
}

fn function(schema: &str) -> String {
    format!("{schema}.fieldsync_capture()")
}

/// The statements that create the triggers of a table and of its partitions.
async fn set_up_triggers(
    client: &impl GenericClient,
    schema: &str,
    table: &Table,
) -> Result<(), Failure> {
    let name = &table.sql_name;
    let sql = "select relid::text from pg_partition_tree($1::text::regclass) where relid <> $1::text::regclass";
    let partitions = client.query(sql, &[name]).await?;
    let arguments = format!(
        "{}, {}",
        Postgres::literal(&SqlValue::text(&*table.log)),
        Postgres::literal(&SqlValue::text(&*table.key.name))
    );
    let call = format!("execute function {schema}.fieldsync_capture({arguments})");
    let mut statements = vec![
        format!("drop trigger if exists \"!fieldsync_row\" on {name}"),
        format!(
            "create trigger \"!fieldsync_row\" after insert or update or delete on {name} for each row \
             when (pg_trigger_depth() > 0 or current_setting('fieldsync.planned', true) is distinct from 'on') {call}"
        ),
    ];
    let mut all = vec![name.clone()];
    for partition in &partitions {
        all.push(partition.try_get(0)?);
    }
    for name in all {
        statements.extend([
            format!("drop trigger if exists \"!fieldsync_truncate\" on {name}"),
            format!("create trigger \"!fieldsync_truncate\" after truncate on {name} for each statement {call}"),
            format!(
                "alter table {name} enable always trigger \"!fieldsync_row\", enable always trigger \"!fieldsync_truncate\""
            ),
        ]);
    }
    tracing::info!(table = table.name, "creating the triggers of capture");
    let quiet = "set local client_min_messages = warning; ";
    Ok(client
        .batch_execute(&format!("{quiet}{}", statements.join("; ")))
        .await?)
}

/// The tables that have capture, in the order in which to lock the heads of their logs.
pub(crate) fn captured_tables(tables: &Tables) -> Result<Vec<&Table>, StoreError> {
    let captured = tables.captured().iter();
    let captured = captured.map(|name| tables.of(name).map(|table| &**table));
    let mut captured: Vec<&Table> = captured.collect::<Result<_, _>>()?;
    captured.sort_by(|a, b| a.log.cmp(&b.log));
    Ok(captured)
}

async fn states(
    client: &impl GenericClient,
    schema: &str,
    tables: &[&Table],
) -> Result<Vec<State>, Failure> {
    let names: Vec<&str> = tables.iter().map(|table| &*table.sql_name).collect();
    let logs: Vec<&str> = tables.iter().map(|table| &*table.log).collect();
    let keys: Vec<&str> = tables.iter().map(|table| &*table.key.name).collect();
    let rows = client
        .query(STATES, &[&names, &logs, &keys, &function(schema)])
        .await?;
    let states = rows.iter().map(|row| {
        Ok(State {
            fingerprint: row.try_get(0)?,
            is_complete: row.try_get(1)?,
        })
    });
    states.collect()
}

/// The tables whose capture is not as it was when it was last confirmed.
pub(crate) async fn changed<'a>(
    client: &impl GenericClient,
    tables: &'a Tables,
) -> Result<Vec<&'a Table>, Failure> {
    let captured = captured_tables(tables)?;
    let schema = schema(tables);
    let states = states(client, &schema, &captured).await?;
    let logs: Vec<&str> = captured.iter().map(|table| &*table.log).collect();
    let sql = format!(
        "select t.capture from unnest($1::text[]) with ordinality as w (log, position) \
         left join {schema}.fieldsync_tables t on t.log = w.log order by w.position"
    );
    let rows = client.query(&sql, &[&logs]).await?;
    let mut changed = Vec::new();
    for ((table, state), row) in captured.into_iter().zip(states).zip(rows) {
        if row.try_get::<_, Option<&str>>(0)? != Some(&state.fingerprint) {
            changed.push(table);
        }
    }
    Ok(changed)
}

/// Whether capture is in place, and as it was when it was last confirmed. Reads only.
pub(crate) async fn is_set_up(
    client: &impl GenericClient,
    tables: &Tables,
) -> Result<bool, Failure> {
    if tables.captured().is_empty() {
        return Ok(true);
    }
    let schema = schema(tables);
    Ok(has_function(client, &schema).await? && changed(client, tables).await?.is_empty())
}

/// Repairs the triggers of a table whose capture was interrupted, and resets its log.
pub(crate) async fn repair(
    client: &impl GenericClient,
    tables: &Tables,
    table: &Table,
) -> Result<(), Failure> {
    let schema = schema(tables);
    let found = states(client, &schema, &[table]).await?;
    if found.iter().any(|state| !state.is_complete) {
        set_up_triggers(client, &schema, table).await?;
    }
    confirm(client, &schema, table).await
}

/// Notes the state of a table's capture. If it is not as it was last confirmed, changes may have been missed: the log is
/// interrupted.
async fn confirm(client: &impl GenericClient, schema: &str, table: &Table) -> Result<(), Failure> {
    let state = states(client, schema, &[table]).await?.pop();
    let fingerprint = state.map(|state| state.fingerprint).unwrap_or_default();
    let log = &*table.log;
    let sql = format!(
        "select t.capture, h.last > 0 from {schema}.fieldsync_tables t \
         join {schema}.fieldsync_heads h on h.log = t.log where t.log = $1"
    );
    let Some(row) = client.query_opt(&sql, &[&log]).await? else {
        return Ok(());
    };
    let (known, has_changes): (Option<&str>, bool) = (row.try_get(0)?, row.try_get(1)?);
    if known == Some(&fingerprint) {
        return Ok(());
    }
    if known.is_some() || has_changes {
        interrupt(client, schema, table, "its triggers or its storage changed").await?;
    }
    let sql = format!("update {schema}.fieldsync_tables set capture = $2 where log = $1");
    client.execute(&sql, &[&log, &fingerprint]).await?;
    Ok(())
}

/// Moves the head, so that no cursor from before resumes, and drops what was captured.
async fn interrupt(
    client: &impl GenericClient,
    schema: &str,
    table: &Table,
    why: &str,
) -> Result<(), Failure> {
    let (log, tag) = (&*table.log, i64::from(fastrand::u32(1..)));
    let sql = format!(
        "update {schema}.fieldsync_heads set last = last + 1, last_tag = $2, interrupted = last + 1, \
         interrupted_tag = $2 where log = $1"
    );
    client.execute(&sql, &[&log, &tag]).await?;
    let sql = format!("delete from {schema}.fieldsync_captured where log = $1");
    client.execute(&sql, &[&log]).await?;
    tracing::warn!(
        table = table.name,
        "changes of the table were missed: {why}; subscribers receive a reset"
    );
    Ok(())
}

/// Interrupts a log whose captured changes are too many, or were lost by TRUNCATE, and notes the state of capture.
pub(crate) async fn give_up(
    client: &impl GenericClient,
    tables: &Tables,
    table: &Table,
) -> Result<(), Failure> {
    let schema = schema(tables);
    let why = "it was truncated, or too much was captured while no engine ran";
    interrupt(client, &schema, table, why).await?;
    let state = states(client, &schema, &[table]).await?.pop();
    let fingerprint = state.map(|state| state.fingerprint).unwrap_or_default();
    let sql = format!("update {schema}.fieldsync_tables set capture = $2 where log = $1");
    client.execute(&sql, &[&&*table.log, &fingerprint]).await?;
    Ok(())
}
