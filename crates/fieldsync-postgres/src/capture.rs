//! Whether capture is still as it was: what happens to a log when changes may have been missed. `capture_ddl` sets it up.

use fieldsync::backend::StoreError;
use fieldsync_sql::Dialect as _;
use tokio_postgres::GenericClient;

use crate::capture_ddl::missing;
use crate::capture_state::{CapturedTable, State, side_tables, state_of, states};
use crate::dialect::{Postgres, Table, Tables};
use crate::error::Failure;

/// The schema of the side tables, as SQL.
fn schema(tables: &Tables) -> String {
    Postgres::quote(tables.side.name().unwrap_or_default())
}

/// The tables that have capture, in the order in which to lock the heads of their logs.
pub(crate) fn captured_tables(tables: &Tables) -> Result<Vec<&Table>, StoreError> {
    let captured = tables.captured().keys();
    let captured = captured.map(|name| tables.of(name).map(|table| &**table));
    let mut captured: Vec<&Table> = captured.collect::<Result<_, _>>()?;
    captured.sort_by(|a, b| a.log.cmp(&b.log));
    Ok(captured)
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

/// Creates again what is missing of a table's capture, and resets its log.
pub(crate) async fn repair(
    client: &impl GenericClient,
    tables: &Tables,
    table: &Table,
) -> Result<(), Failure> {
    let schema = schema(tables);
    let sql = missing(client, &schema, &[CapturedTable::of(table)]).await?;
    client.batch_execute(&sql.join("; ")).await?;
    if !sql.is_empty() {
        warn_of_reset(table, "its triggers were missing, and were created again");
    }
    confirm(client, &schema, table).await
}

/// Interrupts the log of a table whose capture is incomplete, and can't be repaired.
pub(crate) async fn interrupt_incomplete(
    client: &impl GenericClient,
    tables: &Tables,
    table: &Table,
) -> Result<(), Failure> {
    let why = "its triggers or the side tables of capture are missing";
    interrupt_and_note(client, tables, table, why).await
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
    let State {
        fingerprint,
        children,
        ..
    } = state_of(client, schema, &CapturedTable::of(table)).await?;
    let sql = format!("select capture from {schema}.fieldsync_tables where log = $1");
    let row = client.query_opt(&sql, &[&&*table.log]).await?;
    let known: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    if known.as_ref() == Some(&fingerprint) {
        return Ok(());
    }
    if known.is_some() {
        let why = match children {
            None => "its triggers or its storage changed".to_owned(),
            Some(children) => format!("they are not captured in what inherits from it, {children}"),
        };
        interrupt(client, schema, table, &why).await?;
    }
    note(client, schema, table, &fingerprint).await
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
    let [captured, _] = side_tables(schema);
    let exists = "select to_regclass($1) is not null";
    if client.query_one(exists, &[&captured]).await?.try_get(0)? {
        let sql = format!("delete from {captured} where log = $1");
        client.execute(&sql, &[&log]).await?;
    }
    warn_of_reset(table, why);
    Ok(())
}

fn warn_of_reset(table: &Table, why: &str) {
    tracing::warn!(
        table = table.name,
        "changes of the table were missed: {why}; subscribers receive a reset"
    );
}

/// Interrupts a log whose captured changes are too many, or were lost by TRUNCATE.
pub(crate) async fn give_up(
    client: &impl GenericClient,
    tables: &Tables,
    table: &Table,
) -> Result<(), Failure> {
    let why = "it was truncated, or too much was captured while no engine ran";
    interrupt_and_note(client, tables, table, why).await
}

/// Interrupts a log, and notes the state of capture, so that this happens once.
async fn interrupt_and_note(
    client: &impl GenericClient,
    tables: &Tables,
    table: &Table,
    why: &str,
) -> Result<(), Failure> {
    let schema = schema(tables);
    interrupt(client, &schema, table, why).await?;
    let state = state_of(client, &schema, &CapturedTable::of(table)).await?;
    note(client, &schema, table, &state.fingerprint).await
}
