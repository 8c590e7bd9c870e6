//! What REPLACE makes of a null in a column that is NOT NULL: the column's default, but only after the BEFORE triggers.

use fieldsync_sql::{Dialect as _, SqlValue};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::bare_sql::without_quotes;
use crate::dialect::Sqlite;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) is_generated: bool,
    pub(crate) where_null: WhereNull,
}

/// What REPLACE writes instead of null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhereNull {
    /// Null, or a random value, which collides with no other.
    Stays,
    /// A constant, as SQL.
    Becomes(String),
    /// The value of a function, which other programs may not have.
    BecomesUnknown,
}

/// The columns of a table.
pub(crate) fn table_columns(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<TableColumn>> {
    let sql = "select name, hidden in (2, 3), \"notnull\", dflt_value from pragma_table_xinfo(?1)";
    let mut statement = connection.prepare(sql)?;
    let columns = statement.query_map([table], |row| {
        let (is_not_null, default): (bool, Option<String>) = (row.get(2)?, row.get(3)?);
        let default = default.filter(|_| is_not_null);
        Ok(TableColumn {
            name: row.get(0)?,
            is_generated: row.get(1)?,
            where_null: default.map_or(WhereNull::Stays, |sql| WhereNull::of(connection, &sql)),
        })
    })?;
    columns.collect()
}

impl WhereNull {
    fn of(connection: &Connection, default: &str) -> Self {
        let bare = without_quotes(default);
        if bare.contains("random") {
            return Self::Stays;
        }
        // The time is the same in a whole statement.
        if bare.starts_with("current_") {
            return Self::Becomes(default.to_owned());
        }
        if bare.contains('(') {
            return Self::BecomesUnknown;
        }
        let value = connection.query_row(&format!("select {default}"), [], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Null => None,
                ValueRef::Integer(number) => Some(number.to_string()),
                ValueRef::Real(_) => Some(default.to_owned()),
                ValueRef::Text(text) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    Some(Sqlite::literal(&SqlValue::text(text)))
                }
                ValueRef::Blob(_) => Some(default.to_owned()),
            })
        });
        match value {
            Ok(None) => Self::Stays,
            Ok(Some(sql)) => Self::Becomes(sql),
            // A word without quotes is a text here and a column elsewhere.
            Err(_) => Self::BecomesUnknown,
        }
    }
}
