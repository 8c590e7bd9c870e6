//! A transaction on a connection, as the shared code uses it. Its futures are ready at once.

use std::collections::BTreeSet;
use std::error::Error;
use std::future::{Future, ready};

use fieldsync::RecordKey;
use fieldsync::backend::{CapturedWrite, IdempotencyKey, Write};
use fieldsync_sql::{Constraint, ReadRow, Row, SqlValue};
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::blame;
use crate::dialect::{Sqlite, Table, Tables};
use crate::error::Failure;

/// The connection of a transaction that was begun.
pub(crate) struct Transaction<'a>(pub(crate) &'a Connection);

impl fieldsync_sql::Transaction for Transaction<'_> {
    type Dialect = Sqlite;
    type Error = Failure;

    fn query(
        &mut self,
        sql: &str,
        parameters: &[SqlValue<'_>],
        read: &mut ReadRow<'_>,
    ) -> impl Future<Output = Result<(), Failure>> {
        ready(query(self.0, sql, parameters, read))
    }

    fn execute(
        &mut self,
        sql: &str,
        parameters: &[SqlValue<'_>],
    ) -> impl Future<Output = Result<usize, Failure>> {
        ready(execute(self.0, sql, parameters))
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
        _: &Tables,
        _: &BTreeSet<RecordKey>,
    ) -> impl Future<Output = Result<Vec<CapturedWrite>, Failure>> {
        ready(Ok(Vec::new()))
    }

    fn take_captured(
        &mut self,
        _: &Tables,
        _: &BTreeSet<RecordKey>,
    ) -> impl Future<Output = Result<(Vec<CapturedWrite>, Vec<CapturedWrite>), Failure>> {
        ready(Ok((Vec::new(), Vec::new())))
    }

    fn violated(
        &mut self,
        table: &Table,
        write: &Write,
        error: Failure,
    ) -> impl Future<Output = Result<(Constraint, Vec<String>), Failure>> {
        ready(blame::violated(self.0, table, write, error))
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

struct SqliteRow<'a>(&'a rusqlite::Row<'a>);

impl Row for SqliteRow<'_> {
    fn value(&self, column: usize) -> Result<SqlValue<'_>, Box<dyn Error + Send + Sync>> {
        Ok(match self.0.get_ref(column)? {
            ValueRef::Null => SqlValue::Null,
            ValueRef::Integer(number) => SqlValue::Integer(number),
            ValueRef::Real(number) => SqlValue::Real(number),
            ValueRef::Text(text) => SqlValue::Text(match str::from_utf8(text) {
                Ok(text) => text.into(),
                // SQLite does not check what others write.
                Err(_) => String::from_utf8_lossy(text),
            }),
            ValueRef::Blob(bytes) => SqlValue::Bytes(bytes.into()),
        })
    }
}

struct Parameter<'a>(&'a SqlValue<'a>);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            SqlValue::Null => ToSqlOutput::Owned(Value::Null),
            SqlValue::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            SqlValue::Real(number) => ToSqlOutput::Owned(Value::Real(*number)),
            SqlValue::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            SqlValue::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
