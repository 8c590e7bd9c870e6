//! A transaction on a connection, as the shared code uses it. Its futures are ready at once.

use std::collections::BTreeSet;
use std::future::{Future, ready};
use std::sync::Arc;

use fieldsync::backend::{CapturedWrite, IdempotencyKey, Write};
use fieldsync::{RecordId, RecordKey};
use fieldsync_sql::{Dialect as _, ReadRow, Rejection, SqlValue};
use rusqlite::{Connection, params_from_iter};

use crate::blame;
use crate::capture::{KnownCapture, last_noted};
use crate::capture_setup::interrupt;
use crate::captured::{Found, NotedKey, Writes, delete_of_records, keep_ids, resolve};
use crate::column_types::Format;
use crate::dialect::{Sqlite, Table, Tables};
use crate::error::Failure;
use crate::values::{Parameter, SqliteRow};

/// The connection of a transaction that was begun.
pub(crate) struct Transaction<'a> {
    connection: &'a Connection,
    capture: Option<Capture<'a>>,
}

/// What a transaction that writes needs for capture.
#[derive(Clone, Copy)]
struct Capture<'a> {
    known: &'a KnownCapture,
    /// The number of the last row that others noted before the transaction.
    last: i64,
}

impl<'a> Transaction<'a> {
    /// A transaction that reads, or writes only to the side tables.
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            capture: None,
        }
    }

    /// A transaction that has written nothing yet.
    pub(crate) fn with_capture(
        connection: &'a Connection,
        known: Option<&'a KnownCapture>,
    ) -> Result<Self, Failure> {
        let capture = match known {
            None => None,
            Some(known) => Some(Capture {
                known,
                last: last_noted(connection)?,
            }),
        };
        Ok(Self {
            connection,
            capture,
        })
    }

    fn captured_by_others(
        &self,
        tables: &Tables,
        records: &BTreeSet<RecordKey>,
    ) -> Result<Vec<CapturedWrite>, Failure> {
        let Some(capture) = self.capture.filter(|capture| capture.last > 0) else {
            return Ok(Vec::new());
        };
        let keys = noted_keys(tables, records)?;
        let found = Found::of_records(self.connection, capture.known, &keys, capture.last)?;
        let exists = |key: &RecordKey| exists(self.connection, tables, key);
        Ok(resolve(found.records, capture.last, exists)?.others)
    }

    fn take_captured(
        &self,
        tables: &Tables,
        records: &BTreeSet<RecordKey>,
    ) -> Result<Writes, Failure> {
        let Some(Capture { known, last }) = self.capture else {
            return Ok(Writes::default());
        };
        let mut found = Found::after(self.connection, known, last, records)?;
        if found.count > 0 {
            found.delete_after(self.connection, last)?;
        }
        if last > 0 {
            let keys = records
                .iter()
                .chain(found.records.keys())
                .cloned()
                .collect();
            let keys = noted_keys(tables, &keys)?;
            let others = Found::of_records(self.connection, known, &keys, last)?;
            delete_of_records(self.connection, &keys, last)?;
            found.add(others);
        }
        for log in &found.unknown_fields {
            interrupt(self.connection, log)?;
        }
        let exists = |key: &RecordKey| exists(self.connection, tables, key);
        let mut writes = resolve(found.records, last, exists)?;
        keep_ids(self.connection, tables, &writes.deleted)?;
        writes.own.retain(|write| !records.contains(&write.key));
        Ok(writes)
    }
}

/// The logs and the keys of records, as the triggers note them.
fn noted_keys(tables: &Tables, records: &BTreeSet<RecordKey>) -> Result<Vec<NotedKey>, Failure> {
    let captured = records
        .iter()
        .filter(|key| tables.captured().contains_key(&key.collection));
    let mut noted = Vec::new();
    for key in captured {
        let table = tables.of(&key.collection)?;
        let values = match table.key.as_slice() {
            [column] => noted_forms(&column.format, &key.id),
            _ => vec![Sqlite::encode_id(&key.id)],
        };
        noted.extend(
            values
                .into_iter()
                .map(|value| (Arc::clone(&table.log), value)),
        );
    }
    Ok(noted)
}

/// The values as which an id may be noted.
fn noted_forms(format: &Format, id: &RecordId) -> Vec<SqlValue<'static>> {
    match (format, id) {
        (Format::AnyUuid, RecordId::Uuid(uuid)) => {
            let texts = [uuid.hyphenated().to_string(), uuid.simple().to_string()];
            let texts = texts
                .into_iter()
                .flat_map(|text| [text.to_uppercase(), text]);
            texts.map(SqlValue::text).collect()
        }
        _ => vec![Sqlite::encode_key(format, id)],
    }
}

/// Whether a row exists.
pub(crate) fn exists(
    connection: &Connection,
    tables: &Tables,
    key: &RecordKey,
) -> Result<bool, Failure> {
    let table = tables.of(&key.collection)?;
    let mut statement = connection.prepare_cached(&table.select)?;
    Ok(statement.exists(params_from_iter(
        table.key_values(&key.id).iter().map(Parameter),
    ))?)
}

impl fieldsync_sql::Transaction for Transaction<'_> {
    type Dialect = Sqlite;
    type Error = Failure;

    fn query(
        &mut self,
        sql: &str,
        parameters: &[SqlValue<'_>],
        read: &mut ReadRow<'_>,
    ) -> impl Future<Output = Result<(), Failure>> {
        ready(query(self.connection, sql, parameters, read))
    }

    fn execute(
        &mut self,
        sql: &str,
        parameters: &[SqlValue<'_>],
    ) -> impl Future<Output = Result<usize, Failure>> {
        ready(execute(self.connection, sql, parameters))
    }

    /// Only one transaction writes at a time.
    fn lock_keys(
        &mut self,
        _: &BTreeSet<IdempotencyKey>,
    ) -> impl Future<Output = Result<(), Failure>> {
        ready(Ok(()))
    }

    fn captured_by_others(
        &mut self,
        tables: &Tables,
        records: &BTreeSet<RecordKey>,
    ) -> impl Future<Output = Result<Vec<CapturedWrite>, Failure>> {
        ready(Transaction::captured_by_others(self, tables, records))
    }

    fn take_captured(
        &mut self,
        tables: &Tables,
        records: &BTreeSet<RecordKey>,
    ) -> impl Future<Output = Result<(Vec<CapturedWrite>, Vec<CapturedWrite>), Failure>> {
        let taken = Transaction::take_captured(self, tables, records);
        ready(taken.map(|writes| (writes.others, writes.own)))
    }

    fn rejection(
        &mut self,
        table: &Table,
        write: &Write,
        error: Failure,
    ) -> impl Future<Output = Result<Rejection, Failure>> {
        ready(blame::rejection(self.connection, table, write, error))
    }
}

fn query(
    connection: &Connection,
    sql: &str,
    parameters: &[SqlValue<'_>],
    read: &mut ReadRow<'_>,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(parameters.iter().map(Parameter)))?;
    while let Some(row) = rows.next()? {
        if !read(&SqliteRow(row))? {
            break;
        }
    }
    Ok(())
}

fn execute(
    connection: &Connection,
    sql: &str,
    parameters: &[SqlValue<'_>],
) -> Result<usize, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.execute(params_from_iter(parameters.iter().map(Parameter)))?)
}
