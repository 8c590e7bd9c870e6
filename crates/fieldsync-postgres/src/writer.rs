//! The way of a write: [`attempt`] is one transaction from its beginning to its COMMIT, in three round trips.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use fieldsync::{
    BASE_REACH, Batch, Finished, Found, GroupResult, Mutation, Plan, Record, RecordKey, Refusal,
    RefusedEdit, StoreError, Write,
};
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::connection::{ANSWER_TIME, Connection};
use crate::error::{Constraint, Failure, Stopped};
use crate::fate::is_committed;
use crate::pipeline::{self, in_order};
use crate::steps::{Texts, put, steps, updates};
use crate::table::Tables;
use crate::{keys, log};

/// How long a batch of several groups waits for a lock, so that one row that somebody else has holds up no other.
const SHORT: Duration = Duration::from_millis(50);

/// Commits a batch: in one transaction, or in halves where a constraint or a lock stops that.
pub(crate) async fn commit(
    pool: &Pool,
    tables: &Tables,
    waiters: &Semaphore,
    batch: Batch,
) -> Result<Vec<GroupResult>, StoreError> {
    let Some(deadline) = batch.deadline() else {
        return Ok(Vec::new());
    };
    let alone = batch.len() == 1;
    let (mut place, mut first_try) = (None, true);
    let mut results = Vec::with_capacity(batch.len());
    let mut waiting = vec![batch];
    while let Some(batch) = waiting.pop() {
        let left = deadline.saturating_duration_since(Instant::now());
        let short = SHORT.min(left);
        let patience = Patience {
            rows: match (&place, first_try) {
                (Some(_), _) if alone => left,
                (_, true) => short,
                // What was not free a moment ago is left to those who come again.
                (_, false) => Duration::ZERO,
            },
            heads: if place.is_some() { left } else { short },
        };
        first_try = false;
        match attempt(pool, tables, &batch, patience).await? {
            Attempt::Committed(committed) => results.extend(committed),
            Attempt::Refused(refused) => results.push(refused),
            Attempt::GaveWay if !left.is_zero() => {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
                waiting.push(batch);
            }
            // All of it waits for the same.
            Attempt::Behind => match timeout(left, waiters.acquire()).await {
                Ok(Ok(free)) if place.is_none() => {
                    (place, first_try) = (Some(free), true);
                    waiting.push(batch);
                }
                _ => results.extend((0..batch.len()).map(|_| Err(refused(Refusal::Busy)))),
            },
            Attempt::Stopped | Attempt::GaveWay => match batch.halves() {
                Some((first, second)) => waiting.extend([second, first]),
                // Others of the batch do not wait for it: it comes again, alone.
                None if !alone => results.push(Err(refused(Refusal::Locked))),
                None if place.is_none() => match timeout(left, waiters.acquire()).await {
                    Ok(Ok(free)) => {
                        place = Some(free);
                        waiting.push(batch);
                    }
                    _ => results.push(Err(refused(Refusal::Busy))),
                },
                None => results.push(Err(refused(Refusal::Busy))),
            },
        }
    }
    Ok(results)
}

fn refused(refusal: Refusal) -> RefusedEdit {
    RefusedEdit { edit: 0, refusal }
}

/// How long a transaction waits for locks.
#[derive(Clone, Copy)]
struct Patience {
    /// Of rows, and of idempotency keys.
    rows: Duration,
    /// Of the logs' ends, which everybody needs, and has until the disk has confirmed.
    heads: Duration,
}

/// What became of one transaction.
enum Attempt {
    Committed(Vec<GroupResult>),
    /// A constraint refused the only group. Rolled back.
    Refused(GroupResult),
    /// A constraint refused one of several groups, or somebody else has a lock. Rolled back.
    Stopped,
    /// Somebody else has a log's end. Rolled back.
    Behind,
    /// Chosen to give way to another transaction. Rolled back.
    GaveWay,
}

/// One transaction. Nothing of it is stored unless the answer says so, or is an error of COMMIT.
async fn attempt(
    pool: &Pool,
    tables: &Tables,
    batch: &Batch,
    patience: Patience,
) -> Result<Attempt, Failure> {
    let mut client = Connection::of(pool).await?;
    let failure = match transact(&mut client, pool, tables, batch, patience).await {
        Ok(attempt) => return Ok(attempt),
        Err(failure) => failure,
    };
    if !client.is_lost() && rollback(&client).await.is_err() {
        client.lose();
    }
    let stopped = match &failure {
        Failure::Postgres(error) => {
            // Another server may be the one that writes now.
            if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                client.lose_all();
            }
            Stopped::of(error)
        }
        Failure::Store(_) | Failure::NoAnswer => None,
    };
    match stopped {
        Some(Stopped::Locked) => Ok(Attempt::Stopped),
        Some(Stopped::Deadlock) => Ok(Attempt::GaveWay),
        None => Err(failure),
    }
}

async fn rollback(client: &Connection) -> Result<(), Failure> {
    let rollback = async { Ok(client.batch_execute("rollback").await?) };
    client.within(ANSWER_TIME, rollback).await
}

async fn transact(
    client: &mut Connection,
    pool: &Pool,
    tables: &Tables,
    batch: &Batch,
    patience: Patience,
) -> Result<Attempt, Failure> {
    let finding = find(client, tables, batch, patience.rows);
    let found = client.within(patience.rows + ANSWER_TIME, finding).await?;
    let locked: HashSet<RecordKey> = found.records.keys().cloned().collect();
    let plan = batch.plan(found);
    let alone = batch.len() == 1;
    let writing = write(client, tables, &plan, &locked, alone, patience);
    let limit = patience.rows + patience.heads + ANSWER_TIME;
    let written = client.within(limit, writing).await?;
    let (rows, heads, id) = match written {
        Written::All { rows, heads, id } => (rows, heads, id),
        Written::Behind => {
            rollback(client).await?;
            return Ok(Attempt::Behind);
        }
        Written::Not { mutation, refusal } => {
            rollback(client).await?;
            return Ok(if alone {
                Attempt::Refused(plan.refused_by_database(mutation, refusal))
            } else {
                Attempt::Stopped
            });
        }
    };
    // Known before the plan is used up: deferred constraints are checked by COMMIT.
    let deferred = alone.then(|| refused_by_deferred(&plan));
    let finished = plan.finish(rows, &heads);
    // It comes as far as the heads' locks while this one waits for the disk.
    batch.let_next_begin();
    let failure = match client.within(ANSWER_TIME, finish(client, &finished)).await {
        Ok(()) => return Ok(Attempt::Committed(finished.results)),
        Err(failure) => failure,
    };
    let answer = match &failure {
        Failure::Store(_) => return Err(failure),
        Failure::Postgres(error) => error.as_db_error(),
        Failure::NoAnswer => None,
    };
    match answer {
        Some(refused) if Constraint::of(refused).is_some() => {
            rollback(client).await?;
            return Ok(deferred
                .flatten()
                .map_or(Attempt::Stopped, Attempt::Refused));
        }
        Some(refused) if !is_parting(refused) => return Err(failure),
        // COMMIT has no answer.
        _ => {}
    }
    // The look takes another connection, which the pool may not have.
    client.close();
    if is_committed(pool, &id, &finished).await? {
        tracing::warn!("the answer to a COMMIT was lost; it was looked up: committed");
        Ok(Attempt::Committed(finished.results))
    } else {
        tracing::warn!("the answer to a COMMIT was lost; it was looked up: not committed");
        Err(failure)
    }
}

/// Whether the database says that it ends the connection: what was sent before may have been done.
fn is_parting(error: &tokio_postgres::error::DbError) -> bool {
    error.code().code().starts_with("57P")
}

/// Begins, takes the locks, and reads what the edits depend on: the first round trip.
async fn find(
    client: &Object,
    tables: &Tables,
    batch: &Batch,
    patience: Duration,
) -> Result<Found, Failure> {
    // Plans that fit any values are not made anew for each batch.
    let begin = format!(
        "begin isolation level read committed; set local plan_cache_mode = force_generic_plan; {}",
        lock_timeout(patience)
    );
    let keys = batch.idempotency_keys();
    let wanted = keys::wanted(&keys);
    let mut by_table: Vec<(Arc<str>, Vec<String>)> = Vec::new();
    for key in batch.records().into_keys() {
        let id = crate::columns::id_to_text(key.id);
        match by_table.last_mut() {
            Some((name, ids)) if *name == key.collection => ids.push(id),
            _ => by_table.push((key.collection, vec![id])),
        }
    }
    let bases: Vec<_> = batch.bases().into_iter().collect();
    let base_ids: Vec<_> = bases
        .iter()
        .map(|(key, place)| {
            let id = crate::columns::id_to_text(key.id);
            (&*key.collection, id, place.offset.cast_signed())
        })
        .collect();
    let lock_keys = client.prepare_cached(keys::LOCK).await?;
    let find_keys = client.prepare_cached(keys::FIND).await?;
    let since = client.prepare_cached(log::SINCE).await?;
    let mut lock_rows = Vec::with_capacity(by_table.len());
    for (collection, _) in &by_table {
        let table = tables.of(collection)?;
        lock_rows.push(client.prepare_cached(&table.lock).await?);
    }
    let reach = BASE_REACH.cast_signed();
    let lock_parameters: [&(dyn ToSql + Sync); 1] = [&wanted.locks];
    let find_parameters: [&(dyn ToSql + Sync); 3] =
        [&wanted.principals, &wanted.keys, &wanted.oldest];
    let row_parameters: Vec<[&(dyn ToSql + Sync); 1]> =
        by_table.iter().map(|(_, ids)| [ids as _]).collect();
    let base_parameters: Vec<[&(dyn ToSql + Sync); 5]> = base_ids
        .iter()
        .map(|(collection, id, offset)| {
            let place: [&(dyn ToSql + Sync); 3] = [collection, offset, id];
            [place[0], place[1], place[2], &reach, &log::PAGE_BYTES]
        })
        .collect();
    let mut statements = vec![simple(client, &begin)];
    if !keys.is_empty() {
        statements.push(query(client, &lock_keys, &lock_parameters));
        statements.push(query(client, &find_keys, &find_parameters));
    }
    for (statement, parameters) in lock_rows.iter().zip(&row_parameters) {
        statements.push(query(client, statement, parameters));
    }
    for parameters in &base_parameters {
        statements.push(query(client, &since, parameters));
    }
    let mut answers = in_order(statements).await.into_iter();
    let mut next = || answers.next().expect("an answer per statement");
    next()?;
    let mut found = Found::default();
    if !keys.is_empty() {
        next()?;
        found.remembered = keys::found(&next()?)?;
    }
    for (collection, _) in &by_table {
        let table = tables.of(collection)?;
        for row in next()? {
            let record = table.record(&row, 0)?;
            let key = RecordKey {
                collection: Arc::clone(collection),
                id: record.id,
            };
            found.records.insert(key, record);
        }
    }
    for (key, place) in bases {
        let changes = log::changes_of(&next()?, &key, place)?;
        found.since.insert((key, place), changes);
    }
    Ok(found)
}

fn lock_timeout(patience: Duration) -> String {
    format!("set local lock_timeout = {}", patience.as_millis().max(1))
}

/// SQL without parameters and without rows.
fn simple<'a>(client: &'a Client, sql: &'a str) -> pipeline::Statement<'a> {
    async { client.batch_execute(sql).await.map(|()| Vec::new()) }.boxed()
}

fn query<'a>(
    client: &'a Client,
    statement: &'a Statement,
    parameters: &'a [&'a (dyn ToSql + Sync)],
) -> pipeline::Statement<'a> {
    client.query(statement, parameters).boxed()
}

/// What became of the mutations.
enum Written {
    All {
        rows: Vec<Option<Record>>,
        heads: HashMap<Arc<str>, fieldsync::Position>,
        /// The transaction's id.
        id: String,
    },
    /// The database refused one.
    Not { mutation: usize, refusal: Refusal },
    /// Somebody else has a log's end.
    Behind,
}

/// Writes the rows, and then moves the heads, whose locks make offset order commit order: the second round trip.
async fn write(
    client: &Object,
    tables: &Tables,
    plan: &Plan,
    locked: &HashSet<RecordKey>,
    alone: bool,
    patience: Patience,
) -> Result<Written, Failure> {
    // Declared before the statements that borrow it.
    let wait = lock_timeout(patience.heads);
    let mut rows_sql = Vec::with_capacity(plan.mutations().len());
    let mut missing = Vec::new();
    let steps = steps(plan, tables, alone)?;
    for places in &steps {
        let mutation = &plan.mutations()[places[0]];
        let table = tables.of(mutation.collection.name())?;
        if places.len() > 1 {
            let (sql, texts) = table.update_all(&updates(plan, places));
            let texts = texts.into_iter().map(Texts::OfAll).collect();
            rows_sql.push((client.prepare_cached(&sql).await?, texts));
            continue;
        }
        let (mut sql, texts) = table.write(&mutation.write);
        if is_missing(mutation, locked) {
            // What this transaction itself inserted is seen in its turn. What others did is seen behind the heads' locks:
            // until then somebody may yet commit it, before this in the log.
            let of_others = format!("{sql} and t.xmin <> pg_current_xact_id()::xid");
            let of_others = client.prepare_cached(&of_others).await?;
            missing.push((places[0], rows_sql.len(), of_others));
            sql += " and t.xmin = pg_current_xact_id()::xid";
        }
        let texts: Vec<Texts> = texts.into_iter().map(Texts::OfOne).collect();
        rows_sql.push((client.prepare_cached(&sql).await?, texts));
    }
    let advances = plan.advances();
    let advance = client.prepare_cached(log::ADVANCE).await?;
    let head = client.prepare_cached(log::HEAD).await?;
    let moves: Vec<_> = advances
        .iter()
        .map(|one| {
            (
                &*one.collection,
                one.count.cast_signed(),
                i64::from(one.last_tag),
            )
        })
        .collect();
    let row_parameters: Vec<Vec<&(dyn ToSql + Sync)>> = rows_sql
        .iter()
        .map(|(_, texts)| texts.iter().map(Texts::parameter).collect())
        .collect();
    let move_parameters: Vec<Vec<&(dyn ToSql + Sync)>> = moves
        .iter()
        .map(|(name, count, tag)| match count {
            0 => vec![name as _],
            _ => vec![name as _, count as _, tag as _],
        })
        .collect();
    // A row that was not there to be locked is read behind the heads' locks: until then somebody may yet commit it, before
    // this in the log.
    let mut statements: Vec<pipeline::Statement<'_>> = Vec::new();
    for ((statement, _), parameters) in rows_sql.iter().zip(&row_parameters) {
        statements.push(query(client, statement, parameters));
    }
    let waits_as_long = patience.rows == patience.heads;
    if !waits_as_long {
        statements.push(simple(client, &wait));
    }
    for (one, parameters) in moves.iter().zip(&move_parameters) {
        let statement = if one.1 == 0 { &head } else { &advance };
        statements.push(query(client, statement, parameters));
    }
    for (_, step, statement) in &missing {
        statements.push(query(client, statement, &row_parameters[*step]));
    }
    let mut answers = in_order(statements).await.into_iter();
    let mut next = || answers.next().expect("an answer per statement");
    let mut rows = vec![None; plan.mutations().len()];
    for places in &steps {
        let at = places[0];
        let mutation = &plan.mutations()[at];
        let table = tables.of(mutation.collection.name())?;
        let refusal = match (next(), &mutation.write) {
            (Ok(_), Write::Delete { .. }) => continue,
            (Ok(found), _) if found.len() == places.len() => {
                let found = found.iter().map(|row| table.record(row, 0));
                let found = found.collect::<Result<Vec<_>, _>>()?;
                put(plan, places, found, &mut rows);
                continue;
            }
            (Ok(_), Write::Touch { .. }) => continue,
            // A trigger skipped it.
            (Ok(_), _) => Constraint::Check.refusal(written_fields(mutation)),
            (Err(error), _) => refusal(tables, mutation, error)?,
        };
        return Ok(Written::Not {
            mutation: at,
            refusal,
        });
    }
    if !waits_as_long {
        next()?;
    }
    let (mut heads, mut id) = (HashMap::new(), None);
    for advance in advances {
        let rows = match next() {
            Err(error) if Stopped::of(&error) == Some(Stopped::Locked) => {
                return Ok(Written::Behind);
            }
            rows => rows?,
        };
        let head = log::head(&rows, &advance)?;
        heads.insert(advance.collection, head.end);
        id = id.or(head.id);
    }
    for (at, ..) in missing {
        let table = tables.of(plan.mutations()[at].collection.name())?;
        if let Some(row) = next()?.first() {
            rows[at] = Some(table.record(row, 0)?);
        }
    }
    read_again(client, tables, plan, &mut rows).await?;
    Ok(Written::All {
        rows,
        heads,
        id: id.unwrap_or_default(),
    })
}

/// Reads what triggers made of the rows after they were written, in tables that have such triggers.
async fn read_again(
    client: &Object,
    tables: &Tables,
    plan: &Plan,
    rows: &mut [Option<Record>],
) -> Result<(), Failure> {
    let mut changed: HashMap<&Arc<str>, Vec<usize>> = HashMap::new();
    for (at, mutation) in plan.mutations().iter().enumerate() {
        let name = mutation.collection.name();
        if rows[at].is_some() && tables.of(name)?.again.is_some() {
            changed.entry(name).or_default().push(at);
        }
    }
    for (name, places) in changed {
        let table = tables.of(name)?;
        let Some(again) = &table.again else { continue };
        let ids = places.iter().filter_map(|at| rows[*at].as_ref());
        let ids: Vec<String> = ids.map(|row| crate::columns::id_to_text(row.id)).collect();
        let statement = client.prepare_cached(again).await?;
        let mut found = HashMap::new();
        for row in client.query(&statement, &[&ids]).await? {
            let record = table.record(&row, 0)?;
            found.insert(record.id, record);
        }
        for at in places {
            let id = rows[at].as_ref().map(|row| row.id);
            if let Some(record) = id.and_then(|id| found.get(&id)) {
                rows[at] = Some(record.clone());
            }
        }
    }
    Ok(())
}

/// Whether it announces a row that was not there to be locked.
fn is_missing(mutation: &Mutation, locked: &HashSet<RecordKey>) -> bool {
    let Write::Touch { id } = mutation.write else {
        return false;
    };
    let collection = Arc::clone(mutation.collection.name());
    !locked.contains(&RecordKey { collection, id })
}

/// Writes the log and the keys, and commits: the third round trip.
async fn finish(client: &Object, finished: &Finished) -> Result<(), Failure> {
    let append = client.prepare_cached(log::APPEND).await?;
    let remember = client.prepare_cached(keys::REMEMBER).await?;
    let changes = log::columns(&finished.changes)?;
    let remembered = keys::columns(&finished.remembered)?;
    let change_parameters: [&(dyn ToSql + Sync); 10] = [
        &changes.collections,
        &changes.offsets,
        &changes.tags,
        &changes.ids,
        &changes.actions,
        &changes.after,
        &changes.former,
        &changes.at,
        &changes.who,
        &changes.keys,
    ];
    let key_parameters: [&(dyn ToSql + Sync); 10] = [
        &remembered.principals,
        &remembered.keys,
        &remembered.fingerprints,
        &remembered.collections,
        &remembered.ids,
        &remembered.epochs,
        &remembered.offsets,
        &remembered.tags,
        &remembered.records,
        &remembered.at,
    ];
    let mut statements: Vec<pipeline::Statement<'_>> = Vec::new();
    if !finished.changes.is_empty() {
        statements.push(query(client, &append, &change_parameters));
    }
    if !finished.remembered.is_empty() {
        statements.push(query(client, &remember, &key_parameters));
    }
    statements.push(simple(client, "commit"));
    for answer in in_order(statements).await {
        answer?;
    }
    Ok(())
}

/// Why a constraint refuses the mutation; or the failure, if it is none.
fn refusal(
    tables: &Tables,
    mutation: &Mutation,
    error: tokio_postgres::Error,
) -> Result<Refusal, Failure> {
    let Some((refused, constraint)) = error
        .as_db_error()
        .and_then(|refused| Some((refused, Constraint::of(refused)?)))
    else {
        return Err(error.into());
    };
    let table = tables.of(mutation.collection.name())?;
    let named = match (constraint, &mutation.write) {
        (Constraint::ForeignKey, Write::Delete { .. }) => vec!["id".to_owned()],
        _ => table.fields_of(refused.constraint(), refused.column()),
    };
    let fields = if named.is_empty() {
        written_fields(mutation)
    } else {
        named
    };
    Ok(constraint.refusal(fields))
}

/// What to answer when COMMIT finds a deferred constraint violated. The first edit that may be guilty is blamed.
fn refused_by_deferred(plan: &Plan) -> Option<GroupResult> {
    let (at, mutation) = plan.mutations().iter().enumerate().next()?;
    let refusal = Constraint::ForeignKey.refusal(written_fields(mutation));
    Some(plan.refused_by_database(at, refusal))
}

/// The fields that somebody set; `id` of what was deleted.
fn written_fields(mutation: &Mutation) -> Vec<String> {
    match &mutation.write {
        Write::Insert { fields, .. } | Write::Update { fields, .. } => {
            let own = mutation
                .collection
                .fields()
                .iter()
                .filter(|field| !field.set_by_server);
            own.filter(|field| fields.contains_key(&field.name))
                .map(|field| field.name.clone())
                .collect()
        }
        Write::Delete { .. } | Write::Touch { .. } => vec!["id".to_owned()],
    }
}
