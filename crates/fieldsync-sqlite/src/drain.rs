//! Logs what others have written.

use std::collections::HashSet;
use std::sync::Arc;

use fieldsync::backend::LoggedCaptures;
use fieldsync_sql::{Row as _, SqlValue, log_captured, run_ready};
use rusqlite::{Connection, TransactionBehavior};

use crate::capture::{KnownCapture, schema_version};
use crate::capture_setup::{Moment, create_captured, ensure, interrupt};
use crate::captured::{Found, NotedKey, delete_of_records, keep_ids, resolve};
use crate::connection::Open;
use crate::dialect::Tables;
use crate::error::Failure;
use crate::transaction::{Transaction, exists};
use crate::values::SqliteRow;

/// The most records that one transaction logs.
const MAX_RECORDS: usize = 100;

/// The most rows that one transaction looks at to find them.
const MAX_LOOKED_AT: usize = 10_000;

/// The most records that wait to be logged. Beyond that their logs are interrupted.
const MAX_WAITING: i64 = 100_000;

/// Whether there is something to do: others have written, or the schema is another than `looked_at`.
pub(crate) fn is_needed(connection: &Connection, looked_at: i64) -> Result<bool, Failure> {
    if schema_version(connection)? != looked_at {
        return Ok(true);
    }
    let sql = "select exists (select 1 from fieldsync_captured)";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?)
}

/// Logs the writes of others to some records, in one transaction. Returns also the version of the schema that it looked at.
pub(crate) fn drain(
    open: &mut Open,
    tables: &Arc<Tables>,
    looked_at: i64,
) -> Result<(LoggedCaptures, i64), Failure> {
    let transaction = open
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut logged = LoggedCaptures::default();
    let mut version = schema_version(&transaction)?;
    if version != looked_at {
        logged.interrupted = look(&transaction, tables)?;
        version = schema_version(&transaction)?;
    }
    KnownCapture::refresh(&mut open.capture, &transaction, tables)?;
    if let Some(capture) = &open.capture {
        logged.interrupted |= interrupt_backlog(&transaction)?;
        take(&transaction, tables, capture, &mut logged)?;
    }
    #[cfg(fieldsync_fault_points)]
    if !logged.changes.is_empty() {
        fieldsync::fault::point("before-captured-commit");
    }
    transaction.commit()?;
    #[cfg(fieldsync_fault_points)]
    if !logged.changes.is_empty() {
        fieldsync::fault::point("after-captured-commit");
    }
    Ok((logged, version))
}

/// Repairs the triggers. Whether they may have missed something.
fn look(connection: &Connection, tables: &Tables) -> Result<bool, Failure> {
    let (had_captured, mut missed) = (create_captured(connection)?, false);
    for collection in tables.captured().keys() {
        let table = tables.of(collection)?;
        missed |= ensure(connection, table, Moment::Running, had_captured)?;
    }
    Ok(missed)
}

/// Forgets what nobody has logged for too long.
fn interrupt_backlog(connection: &Connection) -> Result<bool, Failure> {
    let sql = "select coalesce((select max(seq) from fieldsync_captured) - (select min(seq) from fieldsync_captured), 0)";
    let rows: i64 = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?;
    if rows < MAX_WAITING {
        return Ok(false);
    }
    let sql = "select count(*) from (select distinct tbl, key from fieldsync_captured)";
    let records: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if records <= MAX_WAITING {
        return Ok(false);
    }
    let mut logs = connection.prepare("select distinct tbl from fieldsync_captured")?;
    let logs = logs.query_map([], |row| row.get(0))?;
    for log in logs.collect::<rusqlite::Result<Vec<String>>>()? {
        tracing::warn!(
            table = log,
            "more than {MAX_WAITING} records were written while no engine was running: subscribers start anew"
        );
        interrupt(connection, &log)?;
    }
    Ok(true)
}

/// Takes all that was noted of the first records, and logs it.
fn take(
    connection: &Connection,
    tables: &Tables,
    capture: &KnownCapture,
    logged: &mut LoggedCaptures,
) -> Result<(), Failure> {
    let keys;
    (keys, logged.more) = first_records(connection, capture)?;
    if keys.is_empty() {
        return Ok(());
    }
    let found = Found::of_records(connection, capture, &keys, i64::MAX)?;
    delete_of_records(connection, &keys, i64::MAX)?;
    for log in &found.unknown_fields {
        interrupt(connection, log)?;
        logged.interrupted = true;
    }
    let writes = resolve(found.records, i64::MAX, |key| {
        exists(connection, tables, key)
    })?;
    keep_ids(connection, tables, &writes.deleted)?;
    let mut transaction = Transaction::new(connection);
    logged.changes = run_ready(log_captured(&mut transaction, tables, writes.others))?;
    Ok(())
}

/// The logs and keys of the records that were noted first, and whether there are more.
fn first_records(
    connection: &Connection,
    capture: &KnownCapture,
) -> Result<(Vec<NotedKey>, bool), Failure> {
    let sql = "select tbl, key from fieldsync_captured order by seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let (mut keys, mut known, mut looked_at) = (Vec::new(), HashSet::new(), 0);
    while let Some(row) = rows.next()? {
        // The tables of other apps are theirs to log.
        let Some(table) = capture.table(row.get_ref(0)?.as_str().unwrap_or_default()) else {
            continue;
        };
        if keys.len() == MAX_RECORDS || looked_at == MAX_LOOKED_AT {
            return Ok((keys, true));
        }
        looked_at += 1;
        let row = SqliteRow(row);
        let key = row
            .value(1)
            .map_err(fieldsync::backend::StoreError::Backend)?;
        let log = &table.table.log;
        if known.insert((Arc::clone(log), format!("{key:?}"))) {
            keys.push((Arc::clone(log), owned(key)));
        }
    }
    Ok((keys, false))
}

fn owned(value: SqlValue<'_>) -> SqlValue<'static> {
    match value {
        SqlValue::Null => SqlValue::Null,
        SqlValue::Integer(number) => SqlValue::Integer(number),
        SqlValue::Real(number) => SqlValue::Real(number),
        SqlValue::Text(text) => SqlValue::text(text.into_owned()),
        SqlValue::Bytes(bytes) => SqlValue::Bytes(bytes.into_owned().into()),
    }
}
