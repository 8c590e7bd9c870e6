//! Values as they pass between the shared code and the driver.

use std::error::Error;

use fieldsync_sql::{Row, SqlValue};
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};

/// A row of a result.
pub(crate) struct SqliteRow<'a>(pub(crate) &'a rusqlite::Row<'a>);

impl Row for SqliteRow<'_> {
    fn value(&self, column: usize) -> Result<SqlValue<'_>, Box<dyn Error + Send + Sync>> {
        Ok(match self.0.get_ref(column)? {
            ValueRef::Null => SqlValue::Null,
            ValueRef::Integer(number) => SqlValue::Integer(number),
            ValueRef::Real(number) => SqlValue::Real(number),
            // SQLite does not check what others write.
            ValueRef::Text(text) => SqlValue::Text(match str::from_utf8(text) {
                Ok(text) => text.into(),
                Err(_) => return Err(format!("not UTF-8: {}", text.escape_ascii()).into()),
            }),
            ValueRef::Blob(bytes) => SqlValue::Bytes(bytes.into()),
        })
    }
}

/// A value to bind.
pub(crate) struct Parameter<'a>(pub(crate) &'a SqlValue<'a>);

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
