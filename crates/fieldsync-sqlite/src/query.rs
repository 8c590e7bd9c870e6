//! Runs the shared code's statements on a connection.

use fieldsync::StoreError;
use fieldsync_sql::{Row, SqlValue, Statement};
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::error::Failure;

/// A row as SQLite returns it.
pub(crate) struct SqliteRow<'a>(&'a rusqlite::Row<'a>);

impl Row for SqliteRow<'_> {
    fn value(&self, column: usize) -> Result<SqlValue<'_>, StoreError> {
        let value = self.0.get_ref(column);
        Ok(
            match value.map_err(|error| StoreError::Backend(error.into()))? {
                ValueRef::Null => SqlValue::Null,
                ValueRef::Integer(number) => SqlValue::Integer(number),
                ValueRef::Real(number) => SqlValue::Real(number),
                ValueRef::Text(text) => SqlValue::Text(String::from_utf8_lossy(text)),
                ValueRef::Blob(bytes) => SqlValue::Bytes(bytes.into()),
            },
        )
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

/// Reads rows one by one, until there are no more or `read` returns `false`.
pub(crate) fn each(
    connection: &Connection,
    sql: &str,
    parameters: &[SqlValue<'_>],
    mut read: impl FnMut(&SqliteRow<'_>) -> Result<bool, StoreError>,
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

/// Reads the first row.
pub(crate) fn first<T>(
    connection: &Connection,
    sql: &str,
    parameters: &[SqlValue<'_>],
    read: impl FnOnce(&SqliteRow<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(parameters.iter().map(Parameter)))?;
    let row = rows.next()?.map(SqliteRow);
    Ok(row.map(|row| read(&row)).transpose()?)
}

/// Reads the first row of a statement of the shared code.
pub(crate) fn first_of<T>(
    connection: &Connection,
    statement: &Statement<'_>,
    read: impl FnOnce(&SqliteRow<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, Failure> {
    first(connection, &statement.sql, &statement.parameters, read)
}

/// Runs a statement without rows. Returns how many rows it changed.
pub(crate) fn execute(
    connection: &Connection,
    sql: &str,
    parameters: &[SqlValue<'_>],
) -> Result<usize, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.execute(params_from_iter(parameters.iter().map(Parameter)))?)
}
