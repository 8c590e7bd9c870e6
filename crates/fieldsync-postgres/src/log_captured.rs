//! Logs what others have written: one transaction per log and call, a bounded number of records.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Pool;
use fieldsync::backend::{Captured, Change, LoggedCaptures, Settled, StoreError};
use fieldsync::{RecordKey, Retention};
use tokio_postgres::Row;

use crate::capture;
use crate::captured;
use crate::connection::{ANSWER_TIMEOUT, Connection};
use crate::dialect::{Table, Tables};
use crate::error::{Failure, Stopped, is_about_edit, is_not_allowed};
use crate::log;
use crate::logged_errors::LoggedErrors;
use crate::pipeline::{Step, in_order, run};
use crate::side_statements::BY_INDEX;
use crate::value::{AnyText, Parameter, PostgresRow};

/// The most captured rows that one transaction logs, and their size in bytes as JSON: it takes all rows of a record, and ends
/// with the record that exceeds either.
const MAX_ROWS: usize = 500;
const MAX_BYTES: usize = 1024 * 1024;
/// With more records than this waiting, the log is interrupted instead: its subscribers get a snapshot sooner.
const MAX_BACKLOG: i64 = 100_000;

/// Whether capture itself is checked, which is worth doing once per poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Capture,
    Nothing,
}

/// Logs what waits in each log. A standby follows the log of its primary.
pub(crate) async fn log_captured(
    pool: &Pool,
    tables: &Tables,
    retention: Retention,
    check: Check,
    errors: &LoggedErrors,
) -> Result<LoggedCaptures, Failure> {
    if tables.captured().is_empty() {
        return Ok(LoggedCaptures::default());
    }
    let client = Connection::of(pool).await?;
    match all_logs(&client, tables, retention, check, errors).await {
        // A standby, or a role that only reads: an engine that may write logs it.
        Err(Failure::Postgres(error)) if is_not_allowed(&error) => Ok(LoggedCaptures::default()),
        logged => logged,
    }
}

async fn all_logs(
    client: &Connection,
    tables: &Tables,
    retention: Retention,
    check: Check,
    errors: &LoggedErrors,
) -> Result<LoggedCaptures, Failure> {
    let mut logged = LoggedCaptures::default();
    if check == Check::Capture {
        let changed = capture::changed(&****client, tables);
        for table in client.within(ANSWER_TIMEOUT, changed).await? {
            logged.interrupted |= check_capture(client, tables, table, errors).await?;
        }
    }
    let logs = capture::captured_tables(tables)?;
    let logs = Parameter::texts(logs.iter().map(|table| &*table.log));
    let waiting = client.within(
        ANSWER_TIMEOUT,
        run(client, &tables.own.capture.waiting, [logs]),
    );
    for row in waiting.await? {
        let Some(table) = tables.with_log(row.try_get(0)?) else {
            continue;
        };
        match in_transaction(client, one_log(client, tables, table, retention)).await {
            Ok(one) => {
                errors.clear(&table.name);
                logged.changes.extend(one.changes);
                logged.interrupted |= one.interrupted;
                logged.more |= one.more;
            }
            // A writer holds the head, or another node logs at the same time. It is tried again soon.
            Err(Failure::Postgres(error)) if Stopped::while_locking(&error).is_some() => {
                logged.more = true;
            }
            // The other tables go on.
            Err(failure) if is_about_table(client, &failure) => {
                if errors.is_new(&table.name, &failure) {
                    tracing::error!(
                        table = table.name,
                        error = failure.text(),
                        "what others wrote to the table can't be logged"
                    );
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(logged)
}

/// Whether the server goes on, and this role may write there: then the next table may not have the same error.
fn is_about_table(client: &Connection, failure: &Failure) -> bool {
    let is_ours = match failure {
        Failure::Postgres(error) => !is_not_allowed(error) && is_about_edit(error),
        Failure::Store(error) => matches!(error, StoreError::Backend(_)),
        Failure::Denied(_) | Failure::NoAnswer => false,
    };
    is_ours && !client.is_lost()
}

/// Repairs the capture of a table where this role may, and resets its log. `true` if it was reset.
async fn check_capture(
    client: &Connection,
    tables: &Tables,
    table: &Table,
    errors: &LoggedErrors,
) -> Result<bool, Failure> {
    let repairing = with_head(
        client,
        tables,
        table,
        capture::repair(&****client, tables, table),
    );
    let failure = match in_transaction(client, repairing).await {
        Ok(()) => {
            errors.clear(&table.name);
            return Ok(true);
        }
        // Another transaction uses the table. The next check tries again.
        Err(Failure::Postgres(error)) if Stopped::while_locking(&error).is_some() => {
            return Ok(false);
        }
        Err(failure) if client.is_lost() => return Err(failure),
        Err(failure) => failure,
    };
    let interrupting = capture::interrupt_incomplete(&****client, tables, table);
    let interrupting = with_head(client, tables, table, interrupting);
    let interrupted = in_transaction(client, interrupting).await;
    if let Err(Failure::Postgres(error)) = &interrupted
        && is_not_allowed(error)
    {
        // A standby, or a role that only reads: an engine that may write does both.
        return Ok(false);
    }
    if errors.is_new(&table.name, &failure) {
        tracing::error!(
            table = table.name,
            error = failure.text(),
            "changes of the table are not captured, and this role can't repair that: run what `ddl` returns as the owner of the table, \
             or restart the app with a role that may"
        );
    }
    Ok(interrupted.is_ok())
}

const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = '2s'";

/// Captured rows are found by their indexes, and in the order of these, however few there were when a statement was planned.
const IN_INDEX_ORDER: &str = "set local enable_bitmapscan = off; set local enable_sort = off; set local enable_hashagg = off";

/// Runs work that begins and commits a transaction, and rolls it back if it fails.
async fn in_transaction<T>(
    client: &Connection,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let result = client.within(ANSWER_TIMEOUT, work).await;
    if result.is_err() && !client.is_lost() && client.batch_execute("rollback").await.is_err() {
        client.lose();
    }
    result
}

/// Runs work in a transaction that has locked the head of a table's log.
async fn with_head(
    client: &Connection,
    tables: &Tables,
    table: &Table,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    client.batch_execute(BEGIN).await?;
    run(
        client,
        &tables.own.lock_heads,
        [Parameter::texts([&*table.log])],
    )
    .await?;
    work.await?;
    Ok(client.batch_execute("commit").await?)
}

async fn one_log(
    client: &Connection,
    tables: &Tables,
    table: &Table,
    retention: Retention,
) -> Result<LoggedCaptures, Failure> {
    let log = || Parameter::text(&*table.log);
    let seconds = i64::try_from(retention.age.as_secs()).unwrap_or(i64::MAX);
    let is_lost = [
        log(),
        Parameter::Integer(MAX_BACKLOG),
        Parameter::Integer(seconds),
    ];
    // Each in a statement of its own: what is taken must be read after the lock was acquired.
    let steps = [
        Step::Simple(format!("{BEGIN}; {BY_INDEX}; {IN_INDEX_ORDER}")),
        Step::query(
            client,
            &tables.own.lock_heads,
            [Parameter::texts([&*table.log])],
        )
        .await?,
        Step::query(client, &tables.own.capture.is_lost, is_lost).await?,
        Step::query(
            client,
            &table.own.take,
            [
                log(),
                Parameter::Integer(MAX_ROWS as i64),
                Parameter::Integer(MAX_BYTES as i64),
            ],
        )
        .await?,
    ];
    let mut results = in_order(client, &steps).await;
    results.next()?;
    let head = results.next()?;
    let head = head.first();
    let head = head.ok_or_else(|| fieldsync_sql::missing_head(&table.log))?;
    let mut head = fieldsync_sql::head(&PostgresRow(head), 1)?;
    let is_lost: bool = match results.next()?.first() {
        Some(row) => row.try_get(0)?,
        None => false,
    };
    if is_lost {
        // What was taken is deleted with the rest.
        results.next()?;
        capture::give_up(&****client, tables, table).await?;
        client.batch_execute("commit").await?;
        return Ok(LoggedCaptures {
            interrupted: true,
            ..LoggedCaptures::default()
        });
    }
    let rows = results.next()?;
    let Taken { captured, bytes } = taken(tables, table, &rows)?;
    let records = captured.rows.len();
    let settled = Settled::of_captured(&captured);
    let mut heads = HashMap::from([(Arc::clone(&table.collection), head)]);
    log::advance(&mut heads, &settled.head_updates())?;
    head = heads[&table.collection];
    let finished = settled.finish(&heads);
    #[cfg(fieldsync_fault_points)]
    fieldsync::fault::point("before-captured-commit");
    log::finish(client, tables, &finished).await?;
    #[cfg(fieldsync_fault_points)]
    fieldsync::fault::point("after-captured-commit");
    tracing::debug!(collection = %table.collection, records, offset = head.offset, "logged what others wrote");
    let changes: Vec<Arc<Change>> = finished.changes;
    Ok(LoggedCaptures {
        changes,
        interrupted: false,
        more: rows.len() >= MAX_ROWS || bytes >= MAX_BYTES,
    })
}

struct Taken {
    /// The writes, with the rows as they are now.
    captured: Captured,
    /// Their size as JSON.
    bytes: usize,
}

fn taken(tables: &Tables, table: &Table, rows: &[Row]) -> Result<Taken, Failure> {
    let mut captured = Captured {
        collections: Arc::clone(tables.captured()),
        ..Captured::default()
    };
    let mut bytes = 0;
    for row in rows {
        for column in [1, 2] {
            let text: Option<AnyText<'_>> = row.try_get(column)?;
            bytes += text.map_or(0, |text| text.0.map_or_else(<[u8]>::len, str::len));
        }
        let Some(write) = captured::write(table, row, 0)? else {
            tracing::warn!(
                table = table.name,
                key = ?row.try_get::<_, AnyText<'_>>(0)?.0,
                "a captured row was skipped: its key is not an id of the collection"
            );
            continue;
        };
        if !captured.rows.contains_key(&write.key) {
            let exists: bool = row.try_get(3)?;
            // Nobody sees a row that can't be read.
            let record = exists.then(|| table.readable(&PostgresRow(row), 4));
            captured
                .rows
                .insert(RecordKey::clone(&write.key), record.flatten());
        }
        captured.others.push(write);
    }
    Ok(Taken { captured, bytes })
}
