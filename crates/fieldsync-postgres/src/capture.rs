//! Whether capture is still as it was: what happens to a log when changes may have been missed. `capture_ddl` sets it up.

use fieldsync::backend::StoreError;
use fieldsync_sql::Dialect as _;
use tokio_postgres::GenericClient;

use crate::capture_ddl::{CapturedTable, function, missing_triggers};
use crate::dialect::{Postgres, Table, Tables};
use crate::error::Failure;

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// The tables that have capture, in the order in which to lock the heads of their logs.
pub(crate) fn captured_tables(tables: &Tables) -> Result<Vec<&Table>, StoreError> {
    let captured = tables.captured().iter();
    let captured = captured.map(|name| tables.of(name).map(|table| &**table));
    let mut captured: Vec<&Table> = captured.collect::<Result<_, _>>()?;
    captured.sort_by(|a, b| a.log.cmp(&b.log));
    Ok(captured)
}

/// The state of one table's capture.
pub(crate) async fn state_of(
    client: &impl GenericClient,
    schema: &str,
    table: &CapturedTable,
) -> Result<State, Failure> {
    let state = states(client, schema, std::slice::from_ref(table))
        .await?
        .pop();
    Ok(state.unwrap_or_default())
}

async fn states(
    client: &impl GenericClient,
    schema: &str,
    tables: &[CapturedTable],
) -> Result<Vec<State>, Failure> {
    let names: Vec<&str> = tables.iter().map(|table| &*table.sql_name).collect();
    let logs: Vec<&str> = tables.iter().map(|table| &*table.log).collect();
    let keys: Vec<&str> = tables.iter().map(|table| &*table.key).collect();
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
    let shown: Vec<_> = captured
        .iter()
        .map(|table| CapturedTable::of(table))
        .collect();
    let states = states(client, &schema, &shown).await?;
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

/// Repairs the triggers of a table whose capture was interrupted, and resets its log.
pub(crate) async fn repair(
    client: &impl GenericClient,
    tables: &Tables,
    table: &Table,
) -> Result<(), Failure> {
    let schema = schema(tables);
    let sql = missing_triggers(client, &schema, &CapturedTable::of(table)).await?;
    client.batch_execute(&sql.join("; ")).await?;
    confirm(client, &schema, table).await
}

/// Notes the state of every table's capture, in the transaction that has created the triggers.
pub(crate) async fn confirm_all(
    client: &impl GenericClient,
    tables: &Tables,
) -> Result<(), Failure> {
    let schema = schema(tables);
    for table in captured_tables(tables)? {
        confirm(client, &schema, table).await?;
    }
    Ok(())
}

/// Notes the state of a table's capture. If it is not as it was last confirmed, changes may have been missed: the log is
/// interrupted. Where it was never confirmed, the triggers were created a moment ago.
async fn confirm(client: &impl GenericClient, schema: &str, table: &Table) -> Result<(), Failure> {
    let fingerprint = fingerprint(client, schema, table).await?;
    let sql = format!("select capture from {schema}.fieldsync_tables where log = $1");
    let row = client.query_opt(&sql, &[&&*table.log]).await?;
    let known: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    if known.as_ref() == Some(&fingerprint) {
        return Ok(());
    }
    if known.is_some() {
        let why = "its triggers or its storage changed";
        interrupt(client, schema, table, why).await?;
    }
    note(client, schema, table, &fingerprint).await
}

async fn fingerprint(
    client: &impl GenericClient,
    schema: &str,
    table: &Table,
) -> Result<String, Failure> {
    let state = state_of(client, schema, &CapturedTable::of(table)).await?;
    Ok(state.fingerprint)
}

async fn note(
    client: &impl GenericClient,
    schema: &str,
    table: &Table,
    fingerprint: &str,
) -> Result<(), Failure> {
    let sql = format!("update {schema}.fieldsync_tables set capture = $2 where log = $1");
    client.execute(&sql, &[&&*table.log, &fingerprint]).await?;
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
    let fingerprint = fingerprint(client, &schema, table).await?;
    note(client, &schema, table, &fingerprint).await
}
