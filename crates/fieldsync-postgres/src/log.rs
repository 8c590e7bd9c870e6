//! The change logs and the idempotency keys. Each read is one statement, and so one consistent read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::backend::{
    Change, ChangesSince, CommitOutput, HeadUpdate, IdempotencyKey, LogBounds, MAX_BASE_DISTANCE,
    PageLimit, Position, Replay, StoreError,
};
use fieldsync::{CursorKey, RecordId, RecordKey, ResetReason, Timestamp};
use fieldsync_sql::{Dialect as _, LogPage, MAX_HISTORY_BYTES, RecordHistory, SqlValue};
use tokio_postgres::Row;

use crate::dialect::{Postgres, Table, Tables, id_arrays};
use crate::error::Failure;
use crate::pipeline::{Step, in_order, run};
use crate::value::{Parameter, PostgresRow};

/// The heads of the app's logs.
pub(crate) async fn heads(
    client: &Object,
    tables: &Tables,
) -> Result<Vec<(Arc<str>, Position)>, Failure> {
    let mut heads = Vec::new();
    let logs = Parameter::texts(tables.logs().map(|log| &**log));
    for row in run(client, &tables.own.heads, [logs]).await? {
        if let Some(name) = tables.collection_of(row.try_get(0)?) {
            let head = fieldsync_sql::head(&PostgresRow(&row), 1)?;
            heads.push((Arc::clone(name), head));
        }
    }
    Ok(heads)
}

/// The key that cursors are sealed with.
pub(crate) async fn cursor_key(client: &Object, tables: &Tables) -> Result<CursorKey, Failure> {
    let rows = run(client, &tables.log.cursor_key, None::<Parameter<'_>>).await?;
    let row = rows.first().map(PostgresRow);
    Ok(fieldsync_sql::cursor_key(row.as_ref())?)
}

/// The statements that lock or only read the heads of these logs. The locks make offset order equal commit order.
pub(crate) async fn lock_heads<'a>(
    client: &Object,
    tables: &Tables,
    collections: &BTreeMap<Arc<str>, bool>,
) -> Result<Vec<Step<'a>>, Failure> {
    let mut steps = Vec::with_capacity(2);
    let lock = if tables.captured().is_empty() {
        &tables.own.lock_heads
    } else {
        &tables.own.lock_heads_of_effects
    };
    for (sql, is_written) in [(lock, true), (&tables.own.heads_of, false)] {
        let wanted = collections
            .iter()
            .filter(|(_, written)| **written == is_written);
        let logs = wanted.map(|(name, _)| tables.log_of(name).map(|log| log.to_string()));
        let logs: Vec<String> = logs.collect::<Result<_, _>>()?;
        if !logs.is_empty() {
            steps.push(Step::query(client, sql, [Parameter::texts(logs)]).await?);
        }
    }
    Ok(steps)
}

/// The heads that were locked or read, and the transaction's id if it has one.
#[derive(Default)]
pub(crate) struct LockedHeads {
    pub(crate) heads: HashMap<Arc<str>, Position>,
    pub(crate) transaction_id: Option<String>,
}

impl LockedHeads {
    pub(crate) fn add(&mut self, rows: &[Row], tables: &Tables) -> Result<(), Failure> {
        for row in rows {
            if let Some(name) = tables.collection_of(row.try_get(0)?) {
                let head = fieldsync_sql::head(&PostgresRow(row), 1)?;
                self.heads.insert(Arc::clone(name), head);
            }
            if self.transaction_id.is_none() {
                self.transaction_id = row.try_get(4)?;
            }
        }
        Ok(())
    }
}

/// Moves the locked heads by the changes that are added.
pub(crate) fn advance(
    heads: &mut HashMap<Arc<str>, Position>,
    updates: &[HeadUpdate],
) -> Result<(), Failure> {
    for update in updates {
        let missing = || fieldsync_sql::missing_head(&update.collection);
        let head = heads.get_mut(&update.collection).ok_or_else(missing)?;
        if update.count > 0 {
            head.offset += update.count;
            head.tag = update.last_tag;
        }
    }
    Ok(())
}

fn since_parameters<'a>(
    log: &'a str,
    since: Position,
    id: Option<&RecordId>,
    limit: PageLimit,
) -> [Parameter<'a>; 6] {
    [
        Parameter::text(log),
        Parameter::Integer(since.offset.cast_signed()),
        id.map_or(SqlValue::Null, Postgres::encode_id).into(),
        Parameter::Integer(i64::try_from(limit.rows.max(1)).unwrap_or(i64::MAX)),
        Parameter::Integer(i64::try_from(limit.bytes).unwrap_or(i64::MAX)),
        Parameter::Integer(since.epoch.cast_signed()),
    ]
}

/// The changes after a position, or why it is out of range.
pub(crate) async fn changes(
    client: &Object,
    tables: &Tables,
    table: &Table,
    since: Position,
    limit: PageLimit,
) -> Result<ChangesSince, Failure> {
    let collection = &table.collection;
    let parameters = since_parameters(&table.log, since, None, limit);
    let rows = run(client, &tables.own.since, parameters).await?;
    let bounds = match locate(&rows, collection, since)? {
        Ok(bounds) => bounds,
        Err(reason) => return Ok(ChangesSince::OutOfRange(reason)),
    };
    let mut page = LogPage::new(since, &bounds, limit);
    for row in logged(&rows)? {
        let change = fieldsync_sql::change(&row, 8, table, since.epoch)?;
        page.push(change);
        if page.is_full() {
            break;
        }
    }
    Ok(page.finish())
}

/// The statement that reads the changes of one record, for [`changes_of`].
pub(crate) async fn since<'a>(
    client: &Object,
    tables: &'a Tables,
    key: &RecordKey,
    since: Position,
) -> Result<Step<'a>, Failure> {
    let limit = PageLimit {
        rows: usize::try_from(MAX_BASE_DISTANCE).unwrap_or(usize::MAX),
        bytes: MAX_HISTORY_BYTES,
    };
    let parameters = since_parameters(tables.log_of(&key.collection)?, since, Some(&key.id), limit);
    Step::query(client, &tables.own.since, parameters).await
}

/// The changes of one record after a position, or why they cannot be read.
pub(crate) fn changes_of(
    table: &Table,
    rows: &[Row],
    since: Position,
) -> Result<ChangesSince, Failure> {
    let collection = &table.collection;
    let bounds = match locate(rows, collection, since)? {
        Ok(bounds) => bounds,
        Err(reason) => return Ok(ChangesSince::OutOfRange(reason)),
    };
    let mut history = RecordHistory::new(since, &bounds);
    for row in logged(rows)? {
        let change = fieldsync_sql::change(&row, 8, table, since.epoch)?;
        history.push(change);
    }
    Ok(history.finish())
}

/// The same, on its own.
pub(crate) async fn read_changes_of(
    client: &Object,
    tables: &Tables,
    key: &RecordKey,
    position: Position,
) -> Result<ChangesSince, Failure> {
    let step = since(client, tables, key, position).await?;
    let rows = in_order(client, &[step]).await.next()?;
    changes_of(tables.of(&key.collection)?, &rows, position)
}

/// The ends of the log if the position is in range, or why it is not.
fn locate(
    rows: &[Row],
    collection: &str,
    since: Position,
) -> Result<Result<LogBounds, ResetReason>, Failure> {
    let row = rows.first();
    let row = PostgresRow(row.ok_or_else(|| fieldsync_sql::missing_head(collection))?);
    let bounds = fieldsync_sql::log_bounds(&row)?;
    let reason = bounds.locate(since, || fieldsync_sql::tag(&row, 7))?;
    Ok(reason.map_or(Ok(bounds), Err))
}

/// The rows that have a change. If the log has none after the position, there is one row without.
fn logged(rows: &[Row]) -> Result<impl Iterator<Item = PostgresRow<'_>>, Failure> {
    let has_change = match rows.first() {
        Some(row) => row.try_get::<_, Option<i64>>(8)?.is_some(),
        None => false,
    };
    Ok(rows.iter().filter(move |_| has_change).map(PostgresRow))
}

/// Locks keys until the end of the transaction, in their order: of two nodes with the same key, one waits.
const LOCK_KEYS: &str =
    "select pg_advisory_xact_lock(hashtextextended(key, 1)) from unnest($1::text[]) key";

/// The statements that lock keys and find those that were used.
pub(crate) async fn find_keys<'a>(
    client: &Object,
    tables: &Tables,
    keys: &'a BTreeSet<IdempotencyKey>,
) -> Result<[Step<'a>; 2], Failure> {
    let names = keys
        .iter()
        .map(|key| format!("{}\u{1f}{}", key.principal, key.key));
    let parameters = [
        Parameter::texts(keys.iter().map(|key| &key.principal)),
        Parameter::texts(keys.iter().map(|key| &key.key)),
        Parameter::Integer(fieldsync_sql::oldest_idempotency_key()),
    ];
    Ok([
        Step::query(client, LOCK_KEYS, [Parameter::texts(names)]).await?,
        Step::query(client, &tables.own.find_keys, parameters).await?,
    ])
}

/// Reads the changes and the records of edits whose keys were used before.
pub(crate) async fn found_keys(
    client: &Object,
    tables: &Tables,
    rows: &[Row],
) -> Result<HashMap<IdempotencyKey, Replay>, Failure> {
    let mut found = HashMap::new();
    for row in rows {
        let row = &PostgresRow(row);
        let edit = fieldsync_sql::idempotency_record(row, |log| tables.with_log(log))?;
        let (mut change, mut row) = (None, None);
        // The app may no longer have the collection.
        if let Ok(table) = tables.of(&edit.collection) {
            change = change_at(client, tables, table, edit.position.offset).await?;
            let ids = id_arrays(table, [&edit.id]);
            let rows = run(client, &table.own.select_all, ids).await?;
            let first = rows.first();
            row = first.and_then(|row| table.readable(&PostgresRow(row), 0));
        }
        found.insert(edit.key.clone(), Replay { edit, change, row });
    }
    Ok(found)
}

/// The change with an offset, if the log has it.
async fn change_at(
    client: &Object,
    tables: &Tables,
    table: &Table,
    offset: u64,
) -> Result<Option<Change>, Failure> {
    let parameters = [
        Parameter::text(&*table.log),
        Parameter::Integer(offset.cast_signed()),
    ];
    let rows = run(client, &tables.own.change_at, parameters).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let epoch: i64 = row.try_get(0)?;
    let row = PostgresRow(row);
    let (change, _) = fieldsync_sql::change(&row, 1, table, epoch.cast_unsigned())?;
    Ok(Some(change))
}

/// Appends changes, stores keys, and commits: the third round trip.
pub(crate) async fn finish(
    client: &Object,
    tables: &Tables,
    finished: &CommitOutput,
) -> Result<(), Failure> {
    let mut steps = Vec::new();
    if !finished.changes.is_empty() {
        let mut ends: BTreeMap<&str, Position> = BTreeMap::new();
        for change in &finished.changes {
            ends.insert(tables.log_of(&change.key.collection)?, change.position);
        }
        let advanced = [
            Parameter::texts(ends.keys().copied()),
            Parameter::column(ends.values().map(|end| end.offset.cast_signed().into())),
            Parameter::column(ends.values().map(|end| SqlValue::Integer(end.tag.into()))),
        ];
        steps.push(Step::query(client, &tables.own.advance, advanced).await?);
        let rows = finished.logged.iter();
        let rows = rows.map(|change| {
            let log = tables.log_of(&change.key.collection)?;
            Ok(fieldsync_sql::change_values::<Postgres>(change, log))
        });
        let columns = Parameter::columns(rows.collect::<Result<Vec<_>, StoreError>>()?);
        steps.push(Step::query(client, &tables.log.append, columns).await?);
    }
    if !finished.idempotency_records.is_empty() {
        let (rows, now) = (finished.idempotency_records.iter(), Timestamp::now());
        let rows = rows.map(|record| {
            let log = tables.log_of(&record.collection)?;
            Ok(fieldsync_sql::idempotency_values::<Postgres>(
                record, log, now,
            ))
        });
        let columns = Parameter::columns(rows.collect::<Result<Vec<_>, Failure>>()?);
        steps.push(Step::query(client, &tables.log.remember, columns).await?);
    }
    steps.push(Step::Simple("commit".to_owned()));
    let mut results = in_order(client, &steps).await;
    for _ in 1..steps.len() {
        results.next().map_err(Failure::before_commit)?;
    }
    results.next()?;
    Ok(())
}
