//! Begins a transaction, takes its locks, and reads what the edits depend on: the first round trip.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use fieldsync::backend::{Batch, ReadSet};
use fieldsync::{RecordId, RecordKey};
use fieldsync_sql::{Dialect as _, SqlValue};

use crate::dialect::{Postgres, Tables};
use crate::error::Failure;
use crate::log;
use crate::pipeline::{Step, in_order};
use crate::value::{Parameter, PostgresRow};

/// Every node takes the locks in the same order: first the keys, then the rows by collection and id.
pub(crate) async fn read(
    client: &Object,
    tables: &Tables,
    batch: &Batch,
    timeout: Duration,
) -> Result<ReadSet, Failure> {
    let keys = batch.idempotency_keys();
    let records = records_by_collection(batch);
    let bases: Vec<_> = batch.bases().into_iter().collect();
    let reserved = batch.ids_to_reserve();
    // Generic plans are not made anew for each batch.
    let begin = format!(
        "begin isolation level read committed; set local plan_cache_mode = force_generic_plan; {}",
        lock_timeout(timeout)
    );
    let mut steps = vec![Step::Simple(begin)];
    if !keys.is_empty() {
        steps.extend(log::find_keys(client, &keys).await?);
    }
    for (collection, ids) in &records {
        let ids = ids.iter().map(|id| Postgres::encode_id(*id));
        let sql = &tables.of(collection)?.own.lock;
        steps.push(Step::query(client, sql, [Parameter::column(ids)]).await?);
    }
    for (name, count) in &reserved {
        if let Some(sql) = &tables.of(name)?.reserve_ids {
            let count = SqlValue::Integer(i64::try_from(*count).unwrap_or(i64::MAX));
            steps.push(Step::query(client, sql, [count]).await?);
        }
    }
    for (key, position) in &bases {
        steps.push(log::since(client, key, *position).await?);
    }
    let mut results = in_order(client, &steps).await;
    results.next()?;
    let mut found = ReadSet::default();
    let mut used_keys = Vec::new();
    if !keys.is_empty() {
        results.next()?;
        used_keys = results.next()?;
    }
    for (collection, _) in &records {
        let table = tables.of(collection)?;
        for row in results.next()? {
            let record = table.record(&PostgresRow(&row), 0)?;
            let key = RecordKey::new(Arc::clone(collection), record.id);
            found.records.insert(key, record);
        }
    }
    for name in reserved.into_keys() {
        let table = tables.of(&name)?;
        if table.reserve_ids.is_some() {
            let rows = results.next()?;
            let ids = rows.iter().map(|row| table.id(&PostgresRow(row), 0));
            found
                .reserved_ids
                .insert(name, ids.collect::<Result<_, _>>()?);
        }
    }
    for (key, position) in &bases {
        let changes = log::changes_of(&results.next()?, key, *position)?;
        found.since.insert((key.clone(), *position), changes);
    }
    // Repetitions are rare, so that they take round trips of their own.
    found.replays = log::found_keys(client, tables, &used_keys).await?;
    Ok(found)
}

fn records_by_collection(batch: &Batch) -> Vec<(Arc<str>, Vec<RecordId>)> {
    let mut records: Vec<(Arc<str>, Vec<RecordId>)> = Vec::new();
    for key in batch.records().into_keys() {
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
