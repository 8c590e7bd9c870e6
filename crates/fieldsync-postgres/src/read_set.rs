//! Begins a transaction, takes its locks, and reads what the edits depend on: the first round trip.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use fieldsync::backend::{Batch, MAX_REFERENCE_LOOKS, ReadSet};
use fieldsync::{RecordId, RecordKey};
use fieldsync_sql::SqlValue;
use tokio_postgres::error::SqlState;

use crate::captured;
use crate::dialect::{Table, Tables, id_arrays};
use crate::error::Failure;
use crate::log;
use crate::pipeline::{Results, Step, in_order};
use crate::side_statements::{AS_CONFIGURED, BY_INDEX};
use crate::value::PostgresRow;

/// What a batch depends on.
pub(crate) struct Read {
    pub(crate) set: ReadSet,
    /// The records that are locked. Row-level security may let this role read others, which it may not update.
    pub(crate) locked: HashSet<RecordKey>,
}

/// Every node takes the locks in the same order: first the keys, then the rows by table and id.
pub(crate) async fn read(
    client: &Object,
    tables: &Tables,
    batch: &Batch,
    timeout: Duration,
) -> Result<Read, Failure> {
    let keys = batch.idempotency_keys();
    let mut records = by_collection(batch.records().into_keys());
    // Another app may have other names for the collections.
    records.sort_by_key(|(collection, _)| tables.log_of(collection).ok());
    let bases: Vec<_> = batch.bases().into_iter().collect();
    let reserved = batch.ids_to_reserve();
    // Generic plans are not made anew for each batch.
    let begin = format!(
        "begin isolation level read committed; set local plan_cache_mode = force_generic_plan; {}",
        lock_timeout(timeout)
    );
    let has_capture = !tables.captured().is_empty();
    let mut steps = vec![Step::Simple(begin)];
    if !keys.is_empty() {
        steps.extend(log::find_keys(client, tables, &keys).await?);
    }
    for (collection, ids) in &records {
        let table = tables.of(collection)?;
        let (ids, statements) = (id_arrays(table, ids), &table.own);
        steps.push(Step::query(client, &statements.lock, ids.clone()).await?);
        if statements.has_row_security {
            steps.push(Step::query(client, &statements.select_all, ids).await?);
        }
    }
    for (name, count) in &reserved {
        if let Some(sql) = &tables.of(name)?.reserve_ids {
            let count = SqlValue::Integer(i64::try_from(*count).unwrap_or(i64::MAX));
            steps.push(Step::query(client, sql, [count]).await?);
        }
    }
    for (key, position) in &bases {
        steps.push(log::since(client, tables, key, *position).await?);
    }
    let reads_captured = has_capture && !bases.is_empty();
    if reads_captured {
        let records = bases.iter().map(|(key, _)| key);
        let of_others = captured::of_others(client, tables, records).await?;
        steps.extend(by_index(of_others));
    }
    let mut results = in_order(client, &steps).await;
    results.next()?;
    let (mut found, mut locked) = (ReadSet::default(), HashSet::new());
    let mut used_keys = Vec::new();
    if !keys.is_empty() {
        (_, used_keys) = (results.next()?, results.next()?);
    }
    read_records(tables, &records, &mut results, &mut found, &mut locked)?;
    for name in reserved.into_keys() {
        let table = tables.of(&name)?;
        if table.reserve_ids.is_some() {
            let rows = results.next()?;
            let ids = rows.iter().map(|row| table.id(&PostgresRow(row), 0));
            let ids = ids.collect::<Result<_, _>>()?;
            found.reserved_ids.insert(name, ids);
        }
    }
    for (key, position) in &bases {
        let (table, rows) = (tables.of(&key.collection)?, results.next()?);
        let changes = log::changes_of(table, &rows, *position)?;
        found.since.insert((key.clone(), *position), changes);
    }
    if reads_captured {
        results.next()?;
        (found.captured, _) = captured::writes(tables, &results.next()?)?;
        results.next()?;
    }
    // Repetitions are rare, so that they take round trips of their own.
    found.replays = log::found_keys(client, tables, &used_keys).await?;
    read_others(client, tables, batch, &mut found).await?;
    Ok(Read { set: found, locked })
}

/// A statement that uses captured rows.
fn by_index(step: Step<'_>) -> [Step<'_>; 3] {
    let [before, after] =
        [BY_INDEX, AS_CONFIGURED].map(|settings| Step::Simple(settings.to_owned()));
    [before, step, after]
}

/// Reads the records that were locked, and those that row-level security lets this role only read.
fn read_records(
    tables: &Tables,
    records: &[(Arc<str>, Vec<RecordId>)],
    results: &mut Results,
    found: &mut ReadSet,
    locked: &mut HashSet<RecordKey>,
) -> Result<(), Failure> {
    for (collection, _) in records {
        let table = tables.of(collection)?;
        for row in results.next().map_err(Failure::of_row_lock)? {
            let Some(record) = table.readable(&PostgresRow(&row), 0) else {
                continue;
            };
            let key = RecordKey::new(Arc::clone(collection), record.id.clone());
            locked.insert(key.clone());
            found.records.insert(key, record);
        }
        if table.own.has_row_security {
            for row in results.next()? {
                let Some(record) = table.readable(&PostgresRow(&row), 0) else {
                    continue;
                };
                let key = RecordKey::new(Arc::clone(collection), record.id.clone());
                found.records.entry(key).or_insert(record);
            }
        }
    }
    Ok(())
}

/// Reads the other records on which it depends whether principals may make the edits. Which these are depends on those that are read
/// before, so that each kind takes a round trip of its own.
async fn read_others(
    client: &Object,
    tables: &Tables,
    batch: &Batch,
    found: &mut ReadSet,
) -> Result<(), Failure> {
    lock_shared(client, tables, batch.relied_on(found), found).await?;
    for _ in 0..MAX_REFERENCE_LOOKS {
        let referred = batch.referred_to(found);
        if referred.is_empty() {
            break;
        }
        read_referred(client, tables, referred, found).await?;
    }
    Ok(())
}

/// Reads records, and keeps others from changing them.
async fn lock_shared(
    client: &Object,
    tables: &Tables,
    keys: BTreeSet<RecordKey>,
    found: &mut ReadSet,
) -> Result<(), Failure> {
    let mut records = by_collection(keys);
    if records.is_empty() {
        return Ok(());
    }
    records.sort_by_key(|(collection, _)| tables.log_of(collection).ok());
    let mut steps = Vec::with_capacity(records.len());
    for (collection, ids) in &records {
        let table = tables.of(collection)?;
        let statement = shared_lock(table);
        steps.push(Step::query(client, statement, id_arrays(table, ids)).await?);
        if table.own.has_row_security {
            let ids = id_arrays(table, ids);
            steps.push(Step::query(client, &table.own.select_all, ids).await?);
        }
    }
    let mut results = in_order(client, &steps).await;
    read_records(tables, &records, &mut results, found, &mut HashSet::new())
}

/// Reads records to which edits refer, without locks.
async fn read_referred(
    client: &Object,
    tables: &Tables,
    keys: BTreeSet<RecordKey>,
    found: &mut ReadSet,
) -> Result<(), Failure> {
    let groups = by_statement(keys);
    match try_read_referred(client, tables, &groups, found).await {
        Err(error) if is_about_value(&error) => {}
        read => return read,
    }
    for key in groups.into_iter().flatten() {
        match try_read_referred(client, tables, &[vec![key.clone()]], found).await {
            Err(error) if is_about_value(&error) => drop(found.referred.insert(key, None)),
            read => read?,
        }
    }
    Ok(())
}

/// Whether a value is none that an id can have: its type refuses it, as an enum or a domain does.
fn is_about_value(failure: &Failure) -> bool {
    let Failure::Postgres(error) = failure else {
        return false;
    };
    let code = error.code().map_or("", SqlState::code);
    code.starts_with("22") || code == SqlState::CHECK_VIOLATION.code()
}

/// If it fails because of a value, the transaction is as before.
async fn try_read_referred(
    client: &Object,
    tables: &Tables,
    groups: &[Vec<RecordKey>],
    found: &mut ReadSet,
) -> Result<(), Failure> {
    let mut steps = vec![Step::Simple("savepoint fieldsync_referred".to_owned())];
    for group in groups {
        let table = tables.of(&group[0].collection)?;
        let ids = id_arrays(table, group.iter().map(|key| &key.id));
        steps.push(Step::query(client, &table.own.select_all, ids).await?);
    }
    steps.push(Step::Simple(
        "release savepoint fieldsync_referred".to_owned(),
    ));
    let mut results = in_order(client, &steps).await;
    results.next()?;
    for group in groups {
        let table = tables.of(&group[0].collection)?;
        let rows = results.next().map_err(Failure::from);
        if rows.as_ref().is_err_and(is_about_value) {
            let back =
                "rollback to savepoint fieldsync_referred; release savepoint fieldsync_referred";
            client.batch_execute(back).await?;
        }
        for row in rows? {
            let Some(record) = table.readable(&PostgresRow(&row), 0) else {
                continue;
            };
            let key = match group.as_slice() {
                [key] => key.clone(),
                _ => RecordKey::new(Arc::clone(&table.collection), record.id.clone()),
            };
            found.referred.insert(key, Some(record));
        }
        for key in group {
            found.referred.entry(key.clone()).or_insert(None);
        }
    }
    Ok(())
}

/// The records to read by one statement each. Texts may be equal although they differ, in case or in spaces, so that each is read by its own.
fn by_statement(keys: BTreeSet<RecordKey>) -> Vec<Vec<RecordKey>> {
    let mut groups: Vec<Vec<RecordKey>> = Vec::new();
    for key in keys {
        match groups.last_mut() {
            Some(group) if key.id.as_text().is_none() && group[0].collection == key.collection => {
                group.push(key);
            }
            _ => groups.push(vec![key]),
        }
    }
    groups
}

/// The statement that reads records and keeps others from changing them. What is read-only may be a view, of which no row can be locked.
fn shared_lock(table: &Table) -> &str {
    match table.definition.is_writable() {
        true => &table.own.lock_shared,
        false => &table.own.select_all,
    }
}

fn by_collection(keys: impl IntoIterator<Item = RecordKey>) -> Vec<(Arc<str>, Vec<RecordId>)> {
    let mut records: Vec<(Arc<str>, Vec<RecordId>)> = Vec::new();
    for key in keys {
        match records.last_mut() {
            Some((collection, ids)) if *collection == key.collection => ids.push(key.id),
            _ => records.push((key.collection, vec![key.id])),
        }
    }
    records
}

/// The statement that sets how long the transaction waits for locks from now on.
pub(crate) fn lock_timeout(timeout: Duration) -> String {
    format!("set local lock_timeout = {}", timeout.as_millis().max(1))
}
