//! Creates what is missing and checks what exists: the side tables, and the app's tables against their collections. If
//! everything is in place, nothing is written.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use fieldsync::Collection;
use fieldsync::backend::{CaptureChoice, SchemaMismatch, StoreError};
use fieldsync_sql::{
    Dialect as _, Found, FoundTable, HAS_CURSOR_KEY, MissingTable, Preparation, SideSchema,
    TableInfo, TableLayout, script,
};
use tokio_postgres::error::SqlState;

use crate::capture;
use crate::capture_ddl;
use crate::capture_state::{CapturedTable, key_argument};
use crate::catalog;
use crate::dialect::{Postgres, PostgresStatements, Tables};
use crate::error::{Failure, LockedOut, Stopped, is_not_allowed};
use crate::privileges::{self, Privileges};
use crate::unfit;

/// The most attempts while other transactions hold locks that this one needs.
const MAX_ATTEMPTS: usize = 10;

/// How long each attempt waits for a lock. All who come later wait behind it, readers included.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '500ms'";

/// One node at a time: `if not exists` alone does not prevent two from creating the same table.
const ONE_NODE: &str = "select pg_advisory_xact_lock(hashtextextended('fieldsync', 2))";

/// What the database has, and what is missing.
struct Look {
    preparation: Preparation<Postgres>,
    privileges: Privileges,
}

impl Look {
    /// Everything that a start would run, and the privileges that the role lacks.
    fn script(&self) -> String {
        let statements = self.preparation.statements.iter();
        let all = statements.chain(&self.privileges.grants);
        script(&all.cloned().collect::<Vec<_>>())
    }
}

/// Creates or checks everything in one transaction. Two nodes may do so at the same time, while others write.
pub(crate) async fn prepare(
    client: &mut Object,
    collections: &[Arc<Collection>],
    side_schema: Option<&str>,
) -> Result<Tables, Failure> {
    let missing = match look(client, collections, side_schema).await {
        Ok(found) if found.preparation.statements.is_empty() => {
            return Ok(found.preparation.tables);
        }
        Ok(found) => found.script(),
        // Another node may be creating what is missing: the tables are checked again under the lock.
        Err(Failure::Store(StoreError::Schema(_))) => String::new(),
        Err(failure) => return Err(failure),
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut running = ONE_NODE.to_owned();
        let failure = match create(client, collections, side_schema, &mut running).await {
            Ok(tables) => return Ok(tables),
            Err(failure) => failure,
        };
        match failure {
            Failure::Postgres(error) if is_not_allowed(&error) => {
                return Err(not_prepared(missing, error).into());
            }
            Failure::Postgres(error) if Stopped::while_locking(&error).is_some() => {
                if attempts == MAX_ATTEMPTS {
                    let locked_out = LockedOut {
                        statement: running,
                        source: error,
                    };
                    return Err(StoreError::Unavailable(locked_out.into()).into());
                }
                // Those who waited behind the lock go first.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(100..600))).await;
            }
            // Roles belong to all databases of the server, and another may be creating the same.
            Failure::Postgres(error) if is_concurrent(&error) && attempts < MAX_ATTEMPTS => {}
            failure => return Err(failure),
        }
    }
}

/// Whether another session has changed the same object of the catalog meanwhile.
fn is_concurrent(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::UNDEFINED_OBJECT || *code == SqlState::INTERNAL_ERROR
    })
}

/// The SQL that [`prepare`] would run, and the privileges that the role lacks.
pub(crate) async fn ddl(
    client: &mut Object,
    collections: &[Arc<Collection>],
    side_schema: Option<&str>,
) -> Result<String, Failure> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    let found = look_in(&transaction, collections, side_schema).await?;
    Ok(found.script())
}

/// Reads what exists, and writes nothing.
async fn look(
    client: &mut Object,
    collections: &[Arc<Collection>],
    side_schema: Option<&str>,
) -> Result<Look, Failure> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    let found = look_in(&transaction, collections, side_schema).await?;
    match &found.privileges.unreadable {
        Some(table) => {
            let error = format!("permission denied for {table}");
            Err(not_prepared(found.script(), error).into())
        }
        None => Ok(found),
    }
}

fn not_prepared(
    sql: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::NotPrepared {
        sql,
        source: source.into(),
    }
}

async fn create(
    client: &mut Object,
    collections: &[Arc<Collection>],
    side_schema: Option<&str>,
    running: &mut String,
) -> Result<Tables, Failure> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(ONE_NODE).await?;
    transaction.batch_execute(LOCK_TIMEOUT).await?;
    let quiet = "set local client_min_messages = warning";
    transaction.batch_execute(quiet).await?;
    // Another node may have created it meanwhile.
    let found = look_in(&transaction, collections, side_schema).await?;
    for sql in found.preparation.statements {
        tracing::info!(sql, "changing the database");
        running.clone_from(&sql);
        transaction.batch_execute(&sql).await?;
    }
    let created = look_in(&transaction, collections, side_schema).await?;
    let created = created.preparation;
    if let Some(sql) = created.statements.first() {
        let error = format!("the database is as before after: {sql}");
        return Err(StoreError::Backend(error.into()).into());
    }
    capture::confirm_all(&*transaction, &created.tables).await?;
    transaction.commit().await?;
    Ok(created.tables)
}

const IS_OURS: &str = "select is_ours = 1 from fieldsync_tables where log = $1";
const HAS_HEAD: &str = "select true from fieldsync_heads where log = $1";

async fn look_in(
    transaction: &Transaction<'_>,
    collections: &[Arc<Collection>],
    side_schema: Option<&str>,
) -> Result<Look, Failure> {
    let schema = match side_schema {
        Some(schema) => schema.to_owned(),
        None => catalog::side_schema(transaction).await?,
    };
    let side = SideSchema::new(Some(schema.clone()));
    let side_tables = catalog::side_tables(transaction, &schema).await?;
    let mut privileges = privileges::of_side_tables(transaction, &schema, &side_tables).await?;
    let can_read = privileges.unreadable.is_none();
    let has = |name: &str| can_read && side_tables.iter().any(|table| table.name == name);
    let (has_tables, has_heads) = (has("fieldsync_tables"), has("fieldsync_heads"));
    let (mut tables, mut logs, mut captured) = (Vec::new(), Vec::new(), Vec::new());
    let (mut row_security, mut unfit, mut prepared) = (HashSet::new(), Vec::new(), Vec::new());
    for collection in collections {
        privileges.add_schema(transaction, collection).await?;
        let mut table = catalog::find(transaction, collection, &schema).await?;
        if let Ok(table) = &mut table {
            table.capture = capture_statements(&schema, collection, table);
        }
        privileges
            .add_table(transaction, collection, &table)
            .await?;
        if !can_read && table.is_ok() && collection.capture_choice().is_none() {
            // Whether fieldsync made the table, and so captures it, can't be read yet.
            continue;
        }
        prepared.push(Arc::clone(collection));
        let log = log_of(&table);
        let is_ours = flag(transaction, &side, has_tables.then_some(IS_OURS), &log).await?;
        let has_head = flag(transaction, &side, has_heads.then_some(HAS_HEAD), &log).await?;
        if let Ok(table) = &table {
            if catalog::has_row_security(transaction, table).await? {
                row_security.insert(log.clone());
            }
            unfit.extend(unfit::rules(transaction, collection, table).await?);
        }
        captured.extend(captured_table(collection, &table, is_ours));
        tables.push(FoundTable {
            is_ours,
            has_head: has_head.is_some(),
            table,
        });
        logs.push(log);
    }
    check_other_schemas(transaction, &schema, &logs).await?;
    if !captured.is_empty() {
        privileges
            .add_capture_tables(transaction, &schema, &side_tables)
            .await?;
    }
    let found = Found {
        has_cursor_key: has_cursor_key(transaction, &side, has("fieldsync_secrets")).await?,
        side_tables,
        tables,
    };
    let own = |layout: &TableLayout<Postgres>| {
        PostgresStatements::of(layout, &side, row_security.contains(&*layout.log))
    };
    let mut preparation = fieldsync_sql::prepare(&prepared, found, &side, own)?;
    let quoted = Postgres::quote(&schema);
    unfit.extend(unfit::capture(transaction, &quoted, &captured, &row_security).await?);
    if !unfit.is_empty() {
        return Err(StoreError::Schema(unfit).into());
    }
    let missing = capture_ddl::missing(&**transaction, &quoted, &captured);
    preparation.statements.extend(missing.await?);
    if !catalog::has_schema(transaction, &schema).await? {
        let sql = format!("create schema {}", Postgres::quote(&schema));
        preparation.statements.insert(0, sql);
    }
    Ok(Look {
        preparation,
        privileges,
    })
}

fn log_of(table: &Result<TableInfo, MissingTable>) -> String {
    match table {
        Ok(table) => table.log.clone(),
        Err(missing) => missing.log.clone(),
    }
}

/// Refuses a second set of side tables for the same logs.
async fn check_other_schemas(
    transaction: &Transaction<'_>,
    schema: &str,
    logs: &[String],
) -> Result<(), Failure> {
    let elsewhere = catalog::other_side_schemas(transaction, schema, logs).await?;
    if elsewhere.is_empty() {
        return Ok(());
    }
    let mismatches = elsewhere.into_iter();
    let mismatches = mismatches.map(|(other, log)| second_log(schema, &other, log));
    Err(StoreError::Schema(mismatches.collect()).into())
}

/// The table of a collection, if it has capture.
fn captured_table(
    collection: &Collection,
    table: &Result<TableInfo, MissingTable>,
    is_ours: Option<bool>,
) -> Option<CapturedTable> {
    let is_captured = match collection.capture_choice() {
        Some(choice) => choice == CaptureChoice::On,
        None => is_ours == Some(true) || table.is_err(),
    };
    let (sql_name, log) = match table {
        Ok(table) => (&table.sql_name, &table.log),
        Err(missing) => (&missing.sql_name, &missing.log),
    };
    is_captured.then(|| CapturedTable {
        sql_name: sql_name.clone(),
        log: log.clone(),
        key: key_arguments(collection, table.as_ref().ok()),
    })
}

/// The arguments of the trigger that name the key columns.
fn key_arguments(collection: &Collection, table: Option<&TableInfo>) -> Vec<String> {
    let is_time = |name: &str| {
        let mut columns = table.into_iter().flat_map(|table| &table.columns);
        columns.any(|column| column.name == name && column.declared.name == "timestamptz")
    };
    let names = collection.key_columns().iter();
    names
        .map(|name| key_argument(name, is_time(name)))
        .collect()
}

/// What capture would run on an existing table.
fn capture_statements(schema: &str, collection: &Collection, table: &TableInfo) -> Vec<String> {
    let captured = CapturedTable {
        sql_name: table.sql_name.clone(),
        log: table.log.clone(),
        key: key_arguments(collection, Some(table)),
    };
    capture_ddl::trigger_statements(&Postgres::quote(schema), &captured, Vec::new())
}

/// The first column of the row of a log, if the statement can be run and there is a row.
async fn flag(
    transaction: &Transaction<'_>,
    side: &SideSchema,
    sql: Option<&str>,
    log: &str,
) -> Result<Option<bool>, Failure> {
    let Some(sql) = sql else {
        return Ok(None);
    };
    let sql = side.render::<Postgres>(sql);
    catalog::first(transaction, &sql, &[&log]).await
}

async fn has_cursor_key(
    transaction: &Transaction<'_>,
    side: &SideSchema,
    has_secrets: bool,
) -> Result<bool, Failure> {
    let sql = side.render::<Postgres>(HAS_CURSOR_KEY);
    Ok(has_secrets && !catalog::rows(transaction, &sql, &[]).await?.is_empty())
}

/// A second log would have only the changes of the nodes that use it.
fn second_log(schema: &str, other: &str, log: String) -> SchemaMismatch {
    SchemaMismatch {
        table: log,
        column: None,
        found: format!(
            "that its log is in the schema {other:?}, and this store uses the schema {schema:?}"
        ),
        expected: format!(
            "the same schema on every node: .with_side_schema({other:?}) on the store; or, if no node uses {other:?} any more, \
             drop its tables fieldsync_…"
        ),
    }
}
