//! Begins a transaction, takes its locks, and reads what the edits depend on: the first round trip.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use fieldsync::{Batch, Found, RecordId, RecordKey};
use fieldsync_sql::Dialect as _;

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
) -> Result<Found, Failure> {
    let keys = batch.idempotency_keys();
    let records = records_by_collection(batch);
    let bases: Vec<_> = batch.bases().into_iter().collect();
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
    for (key, position) in &bases {
        steps.push(log::since(client, key, *position).await?);
    }
    let mut results = in_order(client, &steps).await;
    results.next()?;
    let mut found = Found::default();
    if !keys.is_empty() {
        results.next()?;
        found.remembered = log::found_keys(&results.next()?)?;
    }
    for (collection, _) in &records {
        let table = tables.of(collection)?;
        for row in results.next()? {
            let record = table.record(&PostgresRow(&row), 0)?;
            let key = RecordKey::new(Arc::clone(collection), record.id);
            found.records.insert(key, record);
        }
    }
    for (key, position) in &bases {
        let changes = log::changes_of(&results.next()?, key, *position)?;
        found.since.insert((key.clone(), *position), changes);
    }
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
