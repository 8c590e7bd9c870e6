//! The change logs and the idempotency keys. Each read is one statement, and so one consistent read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::backend::{
    Change, ChangesSince, CommitOutput, HeadUpdate, IdempotencyKey, LogBounds, MAX_BASE_DISTANCE,
    PageLimit, Position, Replay,
};
use fieldsync::{RecordId, RecordKey, ResetReason, Retention, Timestamp};
use fieldsync_sql::{
    Dialect as _, LogPage, MAX_HISTORY_BYTES, MAX_TRIMMED, RecordHistory, SqlValue, TrimScan,
    Trimmed,
};
use tokio_postgres::Row;

use crate::dialect::{Postgres, Tables};
use crate::error::Failure;
use crate::pipeline::{Step, in_order, run};
use crate::value::{Parameter, PostgresRow};

/// The heads of all logs.
pub(crate) async fn heads(
    client: &Object,
    tables: &Tables,
) -> Result<Vec<(Arc<str>, Position)>, Failure> {
    let none: [Parameter<'_>; 0] = [];
    let mut heads = Vec::new();
    for row in run(client, &tables.log.heads, none).await? {
        // The logs of collections that the app no longer has are skipped.
        if let Some(name) = tables.collection(row.try_get(0)?) {
            let head = fieldsync_sql::head(&PostgresRow(&row), 1)?;
            heads.push((Arc::clone(name), head));
        }
    }
    Ok(heads)
}

/// Moves a head, whose row stays locked until the end of the transaction. Returns the transaction's id with it.
const ADVANCE: &str = "update fieldsync_heads set last = last + $1, last_tag = $2 where collection = $3 \
                       returning epoch, last, last_tag, pg_current_xact_id()::text";

/// Only reads it.
const HEAD: &str = "select epoch, last, last_tag, pg_current_xact_id_if_assigned()::text from fieldsync_heads \
                    where collection = $1";

/// The statement that moves a head, or reads it if no change is added.
pub(crate) async fn advance<'a>(
    client: &Object,
    advance: &'a HeadUpdate,
) -> Result<Step<'a>, Failure> {
    let collection = Parameter::text(&*advance.collection);
    if advance.count == 0 {
        return Step::query(client, HEAD, [collection]).await;
    }
    let count = Parameter::Integer(advance.count.cast_signed());
    let tag = Parameter::Integer(advance.last_tag.into());
    Step::query(client, ADVANCE, [count, tag, collection]).await
}

/// The head, and the transaction's id if it has one.
pub(crate) fn advanced(
    rows: &[Row],
    advance: &HeadUpdate,
) -> Result<(Position, Option<String>), Failure> {
    let row = rows.first();
    let row = row.ok_or_else(|| fieldsync_sql::missing_head(&advance.collection))?;
    Ok((fieldsync_sql::head(&PostgresRow(row), 0)?, row.try_get(3)?))
}

/// The changes of a collection, or of one of its records, among the next `$4` of the log, up to `$5` bytes; and in each row
/// what tells whether the position is in range: the ends of the log, and the tag of the change at the position.
const SINCE: &str = "select h.epoch, h.last, h.last_tag, h.trimmed, h.trimmed_tag, \
            (select at_position.tag from fieldsync_changes at_position \
             where at_position.collection = h.collection and at_position.\"offset\" = $2), \
            c.\"offset\", c.tag, c.id, c.action, c.after, c.former, c.at, c.who, c.idempotency_key \
     from fieldsync_heads h left join lateral \
       (select * from \
         (select *, sum(octet_length(after) + octet_length(former)) over (order by \"offset\" \
                      rows between unbounded preceding and 1 preceding) as bytes_before \
          from fieldsync_changes where collection = h.collection and \"offset\" > $2 \
            and \"offset\" <= least($2, 1::bigint << 62) + $4 and ($3::text is null or id = $3)) c \
        where bytes_before is null or bytes_before < $5) c on true \
     where h.collection = $1 order by c.\"offset\"";

fn since_parameters(
    collection: &str,
    since: Position,
    id: Option<RecordId>,
    limit: PageLimit,
) -> [Parameter<'_>; 5] {
    [
        Parameter::text(collection),
        Parameter::Integer(since.offset.cast_signed()),
        id.map_or(SqlValue::Null, Postgres::encode_id).into(),
        Parameter::Integer(i64::try_from(limit.rows.max(1)).unwrap_or(i64::MAX)),
        Parameter::Integer(i64::try_from(limit.bytes).unwrap_or(i64::MAX)),
    ]
}

/// The changes after a position, or why it is out of range.
pub(crate) async fn changes(
    client: &Object,
    collection: &Arc<str>,
    since: Position,
    limit: PageLimit,
) -> Result<ChangesSince, Failure> {
    let parameters = since_parameters(collection, since, None, limit);
    let rows = run(client, SINCE, parameters).await?;
    let bounds = match locate(&rows, collection, since)? {
        Ok(bounds) => bounds,
        Err(reason) => return Ok(ChangesSince::OutOfRange(reason)),
    };
    let mut page = LogPage::new(since, &bounds, limit);
    for row in logged(&rows)? {
        let change = fieldsync_sql::change::<Postgres, _>(&row, 6, collection, since.epoch)?;
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
    key: &'a RecordKey,
    since: Position,
) -> Result<Step<'a>, Failure> {
    let limit = PageLimit {
        rows: usize::try_from(MAX_BASE_DISTANCE).unwrap_or(usize::MAX),
        bytes: MAX_HISTORY_BYTES,
    };
    let parameters = since_parameters(&key.collection, since, Some(key.id), limit);
    Step::query(client, SINCE, parameters).await
}

/// The changes of one record after a position, or why they cannot be read.
pub(crate) fn changes_of(
    rows: &[Row],
    key: &RecordKey,
    since: Position,
) -> Result<ChangesSince, Failure> {
    let collection = &key.collection;
    let bounds = match locate(rows, collection, since)? {
        Ok(bounds) => bounds,
        Err(reason) => return Ok(ChangesSince::OutOfRange(reason)),
    };
    let mut history = RecordHistory::new(since, &bounds);
    for row in logged(rows)? {
        let change = fieldsync_sql::change::<Postgres, _>(&row, 6, collection, since.epoch)?;
        history.push(change);
    }
    Ok(history.finish())
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
    let reason = bounds.locate(since, || fieldsync_sql::tag(&row, 5))?;
    Ok(reason.map_or(Ok(bounds), Err))
}

/// The rows that have a change. If the log has none after the position, there is one row without.
fn logged(rows: &[Row]) -> Result<impl Iterator<Item = PostgresRow<'_>>, Failure> {
    let has_change = match rows.first() {
        Some(row) => row.try_get::<_, Option<i64>>(6)?.is_some(),
        None => false,
    };
    Ok(rows.iter().filter(move |_| has_change).map(PostgresRow))
}

/// Locks keys until the end of the transaction, in their order: of two nodes with the same key, one waits.
const LOCK_KEYS: &str =
    "select pg_advisory_xact_lock(hashtextextended(key, 1)) from unnest($1::text[]) key";

/// Finds the keys that were used in the last 24 hours.
const FIND_KEYS: &str = "select k.principal, k.key, k.fingerprint, k.collection, k.id, k.epoch, k.\"offset\", k.tag \
     from fieldsync_keys k join unnest($1::text[], $2::text[]) as wanted (principal, key) \
     on k.principal = wanted.principal and k.key = wanted.key where k.at > $3";

/// The statements that lock keys and find those that were used.
pub(crate) async fn find_keys<'a>(
    client: &Object,
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
        Step::query(client, FIND_KEYS, parameters).await?,
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
        let edit = fieldsync_sql::idempotency_record::<Postgres, _>(&PostgresRow(row))?;
        let (mut change, mut row) = (None, None);
        // The app may no longer have the collection.
        if let Ok(table) = tables.of(&edit.collection) {
            change = change_at(client, &table.collection, edit.position.offset).await?;
            let id = Parameter::column([Postgres::encode_id(edit.id)]);
            let rows = run(client, &table.own.select_all, [id]).await?;
            let record = rows.first().map(|row| table.record(&PostgresRow(row), 0));
            row = record.transpose()?;
        }
        found.insert(edit.key.clone(), Replay { edit, change, row });
    }
    Ok(found)
}

/// The change with an offset, after the epoch of the log.
const CHANGE_AT: &str = "select h.epoch, c.\"offset\", c.tag, c.id, c.action, c.after, c.former, c.at, c.who, c.idempotency_key \
     from fieldsync_heads h join fieldsync_changes c on c.collection = h.collection \
     where h.collection = $1 and c.\"offset\" = $2";

async fn change_at(
    client: &Object,
    collection: &Arc<str>,
    offset: u64,
) -> Result<Option<Change>, Failure> {
    let offset = Parameter::Integer(offset.cast_signed());
    let rows = run(client, CHANGE_AT, [Parameter::text(&**collection), offset]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let epoch: i64 = row.try_get(0)?;
    let row = PostgresRow(row);
    let (change, _) =
        fieldsync_sql::change::<Postgres, _>(&row, 1, collection, epoch.cast_unsigned())?;
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
        let rows = finished.changes.iter();
        let rows = rows.map(|change| fieldsync_sql::change_values::<Postgres>(change));
        let columns = Parameter::columns(rows.collect::<Result<Vec<_>, _>>()?);
        steps.push(Step::query(client, &tables.log.append, columns).await?);
    }
    if !finished.idempotency_records.is_empty() {
        let (rows, now) = (finished.idempotency_records.iter(), Timestamp::now());
        let rows = rows.map(|record| fieldsync_sql::idempotency_values::<Postgres>(record, now));
        let columns = Parameter::columns(rows.collect::<Vec<_>>());
        steps.push(Step::query(client, &tables.log.remember, columns).await?);
    }
    steps.push(Step::Simple("commit".to_owned()));
    let mut results = in_order(client, &steps).await;
    for _ in &steps {
        results.next()?;
    }
    Ok(())
}

/// Deletes what is beyond the retention from one log, at most `limit` changes.
pub(crate) async fn trim(
    client: &Object,
    tables: &Tables,
    collection: &str,
    retention: Retention,
    limit: usize,
) -> Result<Trimmed, Failure> {
    // The lock of the head row keeps other nodes from trimming the same log, and holds the deleted rows and the mark together.
    let sql = "select c.\"offset\", c.tag, c.at, h.last \
         from (select * from fieldsync_heads where collection = $1 for update) h \
         join fieldsync_changes c on c.collection = h.collection and c.\"offset\" > h.trimmed \
         order by c.\"offset\" limit $2";
    let name = || Parameter::text(collection);
    let limit_parameter = Parameter::Integer(limit as i64 + 1);
    let rows = run(client, sql, [name(), limit_parameter]).await?;
    let Some(row) = rows.first() else {
        return Ok(Trimmed::default());
    };
    let head: i64 = row.try_get(3)?;
    let mut scan = TrimScan::new(retention, head.cast_unsigned(), limit);
    for row in &rows {
        if !scan.push(&PostgresRow(row))? {
            break;
        }
    }
    let trimmed = scan.finish();
    if let Some((offset, tag)) = trimmed.last {
        let (offset, tag) = (Parameter::Integer(offset), Parameter::Integer(tag));
        run(client, &tables.log.trim, [name(), offset.clone()]).await?;
        run(client, &tables.log.mark_trimmed, [offset, tag, name()]).await?;
    }
    Ok(trimmed)
}

/// Deletes idempotency keys that are too old, at most [`MAX_TRIMMED`]. Returns how many.
pub(crate) async fn forget(client: &Object, tables: &Tables) -> Result<usize, Failure> {
    let statement = client.prepare_cached(&tables.log.forget).await?;
    let oldest = fieldsync_sql::oldest_idempotency_key();
    let limit = MAX_TRIMMED as i64;
    let deleted = client.execute(&statement, &[&oldest, &limit]).await?;
    Ok(deleted as usize)
}
