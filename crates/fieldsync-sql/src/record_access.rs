//! Reads and writes records, one statement after the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fieldsync::backend::{
    Batch, Captured, CapturedWrite, Change, CommitOutput, Committed, GroupResult,
    IdempotencyRecord, Listing, MAX_REFERENCE_LOOKS, Mutation, PageLimit, PageMeter, Plan,
    Position, ReadSet, RecordPage, Replay, Settled, Write,
};
use fieldsync::{Record, RecordId, RecordKey};

use crate::constraint::{Constraint, Rejection, likeliest};
use crate::dialect::Dialect;
use crate::listing::{check_order, unordered};
use crate::log_access::{
    advance, append, find_keys, head_updates, read_change_at, read_changes_of, read_head, remember,
};
use crate::parts::Attempt;
use crate::table::Table;
use crate::tables::Tables;
use crate::transaction::{Transaction, first};
use crate::value::{Row, SqlValue};

/// Reads a record and the head of its log. The transaction must see one state of the database.
///
/// # Errors
/// The driver's.
pub async fn read_record<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    table: &Table<T::Dialect>,
    id: &RecordId,
) -> Result<(Option<Record>, Position), T::Error> {
    let record = get(transaction, table, &table.select, id).await?;
    Ok((
        record,
        read_head(transaction, tables, &table.collection).await?,
    ))
}

/// Reads records by their ids, up to the limit. The transaction must see one state of the database.
///
/// # Errors
/// The driver's.
pub async fn read_records<T: Transaction>(
    transaction: &mut T,
    table: &Table<T::Dialect>,
    ids: &[RecordId],
    limit: PageLimit,
) -> Result<Vec<Option<Record>>, T::Error> {
    let (mut meter, mut records) = (PageMeter::new(limit), Vec::with_capacity(ids.len()));
    for id in ids {
        let parameters = table.key_values(id);
        let read = |row: &dyn Row| {
            let is_in_page = meter.take(table.row_bytes(row, 0));
            Ok(is_in_page.then(|| table.readable(row, 0)))
        };
        let record = first(transaction, &table.select, &parameters, read).await?;
        if record.is_none() {
            meter.take(0);
        }
        if meter.is_full() {
            break;
        }
        records.push(record.flatten().flatten());
    }
    Ok(records)
}

/// Reads a page of records and the head of their log. The transaction must see one state of the database.
///
/// # Errors
/// The driver's.
pub async fn read_page<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    table: &Table<T::Dialect>,
    listing: &Listing,
) -> Result<RecordPage, T::Error> {
    let (mut rows, mut bytes) = (listing.limit.rows.max(1), listing.limit.bytes);
    loop {
        // A row that the page has no room for shows that more follow.
        let statement = table.list(listing, rows.saturating_add(1));
        let (mut meter, mut records) = (PageMeter::new(PageLimit { rows, bytes }), Vec::new());
        let mut read = |row: &dyn Row| {
            let is_in_page = meter.take(table.row_bytes(row, 0));
            let record = table.readable(row, 0).filter(|_| is_in_page);
            let is_in_form = |record: &Record| {
                let sorting = listing.sorting.as_ref();
                sorting.is_none_or(|sorting| table.is_in_form(sorting, row, record))
            };
            if let Some(record) = record.as_ref().filter(|record| !is_in_form(record)) {
                return Err(unordered(listing, record));
            }
            records.extend(record);
            Ok(is_in_page)
        };
        transaction
            .query(&statement.sql, &statement.parameters, &mut read)
            .await?;
        check_order(listing, &records).map_err(T::Error::from)?;
        if records.is_empty() && meter.is_full() {
            // No row of the page can be read, so that the next page would begin here, too.
            (rows, bytes) = (rows.saturating_mul(2), bytes.saturating_mul(2));
            continue;
        }
        return Ok(RecordPage {
            records,
            more: meter.is_full(),
            head: read_head(transaction, tables, &table.collection).await?,
        });
    }
}

async fn get<T: Transaction>(
    transaction: &mut T,
    table: &Table<T::Dialect>,
    sql: &str,
    id: &RecordId,
) -> Result<Option<Record>, T::Error> {
    let parameters = table.key_values(id);
    let read = |row: &dyn Row| Ok(table.readable(row, 0));
    Ok(first(transaction, sql, &parameters, read).await?.flatten())
}

/// What a batch's transaction came to before its COMMIT.
#[derive(Debug)]
pub enum BatchWritten {
    /// Everything is written: the driver commits.
    Complete {
        /// What is committed then.
        committed: Committed,
        /// The attempt, if COMMIT violates a deferred constraint.
        if_refused: Attempt,
    },
    /// A constraint stopped it: the driver rolls back.
    Incomplete(Attempt),
}

/// Writes a batch: reads what its edits depend on, writes the rows, and then the log.
///
/// # Errors
/// The driver's. The driver rolls back.
pub async fn write_batch<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    batch: &Batch,
) -> Result<BatchWritten, T::Error> {
    let plan = batch.plan(read_set(transaction, tables, batch).await?);
    let is_alone = batch.len() == 1;
    let rows = match write_rows(transaction, tables, &plan, is_alone).await? {
        Ok(rows) => rows,
        Err(refused) => return Ok(BatchWritten::Incomplete(refused)),
    };
    // Made now, since `finish` takes the plan.
    let deferred = is_alone.then(|| deferred_refusal(&plan, tables)).flatten();
    let captured = captured(transaction, tables, plan.written_records(&rows)).await?;
    let finished = log(transaction, tables, plan.settle(rows, &captured)).await?;
    remember(transaction, tables, &finished.idempotency_records).await?;
    Ok(BatchWritten::Complete {
        committed: Committed {
            results: finished.results,
            changes: finished.changes,
        },
        if_refused: deferred.map_or_else(Attempt::stopped, Attempt::Refused),
    })
}

/// Takes what was captured, and reads the rows as they are now.
async fn captured<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    written: Vec<RecordKey>,
) -> Result<Captured, T::Error> {
    let written: BTreeSet<RecordKey> = written.into_iter().collect();
    let (others, own) = transaction.take_captured(tables, &written).await?;
    with_rows(transaction, tables, others, own, written).await
}

/// Reads the rows of captured records, and of those that were written.
async fn with_rows<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    others: Vec<CapturedWrite>,
    own: Vec<CapturedWrite>,
    written: BTreeSet<RecordKey>,
) -> Result<Captured, T::Error> {
    let mut captured = Captured {
        collections: Arc::clone(tables.captured()),
        others,
        own,
        rows: HashMap::new(),
    };
    let writes = captured.others.iter().chain(&captured.own);
    let keys: BTreeSet<RecordKey> = writes
        .map(|write| write.key.clone())
        .chain(written)
        .collect();
    for key in keys {
        let table = tables.of(&key.collection)?;
        let row = get(transaction, table, &table.select, &key.id).await?;
        captured.rows.insert(key, row);
    }
    Ok(captured)
}

/// Logs what others have written, as one change per record.
///
/// # Errors
/// The driver's. The driver rolls back.
pub async fn log_captured<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    writes: Vec<CapturedWrite>,
) -> Result<Vec<Arc<Change>>, T::Error> {
    let captured = with_rows(transaction, tables, writes, Vec::new(), BTreeSet::new()).await?;
    let settled = Settled::of_captured(&captured);
    Ok(log(transaction, tables, settled).await?.changes)
}

/// Moves the heads and appends the changes.
async fn log<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    settled: Settled,
) -> Result<CommitOutput, T::Error> {
    let mut heads = HashMap::new();
    for update in head_updates(&settled, tables)? {
        let head = advance(transaction, tables, &update).await?;
        heads.insert(update.collection, head);
    }
    let finished = settled.finish(&heads);
    append(transaction, tables, &finished.logged).await?;
    Ok(finished)
}

/// The answer for a batch of one group if COMMIT violates a deferred foreign key.
fn deferred_refusal<D: Dialect>(plan: &Plan, tables: &Tables<D>) -> Option<GroupResult> {
    let fields = |mutation: &Mutation| {
        let table = tables.of(mutation.collection.name());
        table.map_or_else(
            |_| Vec::new(),
            |table| table.referring_fields(&mutation.write),
        )
    };
    let (mutation, fields) = likeliest(plan.mutations(), fields)?;
    let rejection = Rejection::of_foreign_key(fields);
    let table = tables.of(mutation.collection.name()).ok()?;
    Some(mutation.refused(rejection.refuse(table, mutation)))
}

/// Reads what the edits depend on. Every node locks in the same order: first the keys, then the rows by collection and id.
async fn read_set<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    batch: &Batch,
) -> Result<ReadSet, T::Error> {
    let keys = batch.idempotency_keys();
    if !keys.is_empty() {
        transaction.lock_keys(&keys).await?;
    }
    let mut found = ReadSet::default();
    for (key, edit) in find_keys(transaction, tables, &keys).await? {
        let replay = read_replay(transaction, tables, edit).await?;
        found.replays.insert(key, replay);
    }
    let records = batch.records().into_keys();
    lock(transaction, tables, records, &mut found).await?;
    for (name, count) in batch.ids_to_reserve() {
        let table = tables.of(&name)?;
        let ids = reserve_ids(transaction, table, count).await?;
        found.reserved_ids.insert(name, ids);
    }
    let bases = batch.bases();
    for (key, position) in &bases {
        let changes = read_changes_of(transaction, tables, key, *position).await?;
        found.since.insert((key.clone(), *position), changes);
    }
    let keys: BTreeSet<RecordKey> = bases.into_iter().map(|(key, _)| key).collect();
    if !keys.is_empty() {
        found.captured = transaction.captured_by_others(tables, &keys).await?;
    }
    let relied_on = batch.relied_on(&found);
    lock(transaction, tables, relied_on, &mut found).await?;
    for _ in 0..MAX_REFERENCE_LOOKS {
        for key in batch.referred_to(&found) {
            let table = tables.of(&key.collection)?;
            let record = get(transaction, table, &table.select, &key.id).await?;
            found.referred.insert(key, record);
        }
    }
    Ok(found)
}

/// Reads records, and keeps others from changing them.
async fn lock<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    keys: impl IntoIterator<Item = RecordKey>,
    found: &mut ReadSet,
) -> Result<(), T::Error> {
    for key in keys {
        let table = tables.of(&key.collection)?;
        if let Some(record) = get(transaction, table, &table.lock, &key.id).await? {
            found.records.insert(key, record);
        }
    }
    Ok(())
}

/// Reads the change and the record of an edit whose key was used before.
async fn read_replay<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    edit: IdempotencyRecord,
) -> Result<Replay, T::Error> {
    let (mut change, mut row) = (None, None);
    // The app may no longer have the collection.
    if let Ok(table) = tables.of(&edit.collection) {
        let (collection, offset) = (&table.collection, edit.position.offset);
        change = read_change_at(transaction, tables, collection, offset).await?;
        row = get(transaction, table, &table.select, &edit.id).await?;
    }
    Ok(Replay { edit, change, row })
}

async fn reserve_ids<T: Transaction>(
    transaction: &mut T,
    table: &Table<T::Dialect>,
    count: usize,
) -> Result<Vec<RecordId>, T::Error> {
    let Some(sql) = &table.reserve_ids else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::with_capacity(count);
    let count = [SqlValue::Integer(i64::try_from(count).unwrap_or(i64::MAX))];
    let mut read = |row: &dyn Row| {
        ids.push(table.id(row, 0)?);
        Ok(true)
    };
    transaction.query(sql, &count, &mut read).await?;
    Ok(ids)
}

/// The rows as the mutations left them, or what the database's refusal of the first that it refused comes to.
async fn write_rows<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
    plan: &Plan,
    is_alone: bool,
) -> Result<Result<Vec<Option<Record>>, Attempt>, T::Error> {
    let mut rows = Vec::with_capacity(plan.mutations().len());
    for mutation in plan.mutations() {
        let table = tables.of(mutation.collection.name())?;
        let rejection = match write_row(transaction, table, &mutation.write).await {
            Ok(Written::Row(Some(row))) if !mutation.is_for(&row) => {
                Rejection::Constraint(Constraint::Check, vec!["id".to_owned()])
            }
            Ok(Written::Row(row)) => {
                rows.push(row);
                continue;
            }
            Ok(Written::Ignored) => Rejection::Constraint(Constraint::Check, Vec::new()),
            Err(error) => {
                let rejection = transaction.rejection(table, &mutation.write, error);
                rejection.await?
            }
        };
        return Ok(Err(if is_alone {
            Attempt::Refused(mutation.refused(rejection.refuse(table, mutation)))
        } else {
            Attempt::Stopped {
                suspects: vec![mutation.group()],
            }
        }));
    }
    Ok(Ok(rows))
}

/// What a write did.
enum Written {
    /// The row afterwards; `None` after a delete.
    Row(Option<Record>),
    /// The database silently did not write the row: a trigger skipped it, or an `on conflict ignore` of the table.
    Ignored,
}

async fn write_row<T: Transaction>(
    transaction: &mut T,
    table: &Table<T::Dialect>,
    write: &Write,
) -> Result<Written, T::Error> {
    let id = match write {
        Write::Delete { id } => {
            delete(transaction, table, write, id).await?;
            return Ok(Written::Row(None));
        }
        Write::Refresh { id } => {
            let row = get(transaction, table, &table.select, id).await?;
            return Ok(Written::Row(row));
        }
        Write::Insert { id, .. } => id.clone(),
        Write::Update { id, .. } => Some(id.clone()),
    };
    let row = if let Some(last_insert_id) = T::Dialect::LAST_INSERT_ID {
        let statement = table.write(write);
        let written = transaction.execute(&statement.sql, &statement.parameters);
        if written.await? == 0 {
            return Ok(Written::Ignored);
        }
        let id = match id {
            Some(id) => Some(id),
            None => first(transaction, last_insert_id, &[], |row| table.id(row, 0)).await?,
        };
        match id {
            Some(id) => get(transaction, table, &table.select, &id).await?,
            None => None,
        }
    } else {
        let statement = table.write(write);
        let (sql, parameters) = (&statement.sql, &statement.parameters);
        first(transaction, sql, parameters, |row| table.record(row, 0)).await?
    };
    Ok(row.map_or(Written::Ignored, |row| Written::Row(Some(row))))
}

async fn delete<T: Transaction>(
    transaction: &mut T,
    table: &Table<T::Dialect>,
    write: &Write,
    id: &RecordId,
) -> Result<(), T::Error> {
    let statement = table.write(write);
    transaction
        .execute(&statement.sql, &statement.parameters)
        .await?;
    if let (Some(source), RecordId::Integer(_)) = (&table.id_source, id) {
        let parameters = table.key_values(id);
        transaction.execute(&source.keep, &parameters).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dialect::{Recorder, TestDialect};

    /// Compiles only if the future can be spawned.
    #[expect(dead_code, reason = "its compilation is the test")]
    fn the_write_path_can_be_spawned(
        recorder: &mut Recorder,
        tables: &Tables<TestDialect>,
        batch: &Batch,
    ) -> impl Send {
        write_batch(recorder, tables, batch)
    }
}
