//! What a connection knows about capture: how to read `fieldsync_captured`, and what the side tables remember of each table.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync_sql::Dialect as _;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::{Value, json};

use crate::dialect::{Sqlite, Table, Tables};
use crate::triggers::Trigger;

/// How to read `fieldsync_captured`, for one version of the schema.
#[derive(Debug)]
pub(crate) struct KnownCapture {
    version: i64,
    tables: Arc<Tables>,
    /// The tables that are captured, by the names of their logs.
    captured: HashMap<String, KnownTable>,
    /// The number of columns `o1`, `o2`, …
    pub(crate) width: usize,
    /// Selects what was noted after a number.
    pub(crate) select_after: String,
    /// Selects what was noted of a record up to a number.
    pub(crate) select_of_record: String,
}

#[derive(Debug)]
pub(crate) struct KnownTable {
    pub(crate) table: Arc<Table>,
    /// The column of the table that is noted in `o1`, `o2`, and so on. `None` if it is the field of another version of the app.
    pub(crate) columns: Vec<Option<usize>>,
}

impl KnownCapture {
    /// Replaces what is known if the schema has changed since. `None` if no table has capture, or something has dropped
    /// `fieldsync_captured`.
    pub(crate) fn refresh(
        known: &mut Option<Self>,
        connection: &Connection,
        tables: &Arc<Tables>,
    ) -> rusqlite::Result<()> {
        if tables.captured().is_empty() {
            *known = None;
            return Ok(());
        }
        let version = schema_version(connection)?;
        let is_current =
            |known: &Self| known.version == version && Arc::ptr_eq(&known.tables, tables);
        if !known.as_ref().is_some_and(is_current) {
            *known = Self::read(connection, tables, version)?;
        }
        Ok(())
    }

    fn read(
        connection: &Connection,
        tables: &Arc<Tables>,
        version: i64,
    ) -> rusqlite::Result<Option<Self>> {
        let width = width(connection)?;
        if width.is_none() {
            return Ok(None);
        }
        let width = width.unwrap_or_default();
        let mut captured = HashMap::new();
        for collection in tables.captured().keys() {
            let Ok(table) = tables.of(collection) else {
                continue;
            };
            let Some(saved) = Saved::read(connection, &table.log)? else {
                continue;
            };
            let column = |name: &String| {
                let mut columns = table.columns.iter();
                columns.position(|column| Sqlite::is_same_name(&column.name, name))
            };
            let known = KnownTable {
                table: Arc::clone(table),
                columns: saved.columns.iter().map(column).collect(),
            };
            captured.insert(table.log.to_string(), known);
        }
        let numbered = |side: &str| -> String {
            (1..=width)
                .map(|number| format!(", {side}{number}"))
                .collect()
        };
        let select = format!(
            "select seq, tbl, op, key{}{} from fieldsync_captured",
            numbered("o"),
            numbered("n")
        );
        Ok(Some(Self {
            version,
            tables: Arc::clone(tables),
            captured,
            width,
            select_after: format!("{select} where seq > ?1 order by seq"),
            select_of_record: format!(
                "{select} where tbl = ?1 and key is ?2 and seq <= ?3 order by seq"
            ),
        }))
    }

    /// The table of this log, if it is captured.
    pub(crate) fn table(&self, log: &str) -> Option<&KnownTable> {
        self.captured.get(log)
    }
}

/// A number that changes with every change of the schema.
pub(crate) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("pragma schema_version")?;
    statement.query_row([], |row| row.get(0))
}

/// The number of columns `o1`, `o2`, … of `fieldsync_captured`, if it exists.
pub(crate) fn width(connection: &Connection) -> rusqlite::Result<Option<usize>> {
    let sql = "select count(*) from pragma_table_info('fieldsync_captured')";
    let columns: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    let columns = usize::try_from(columns).unwrap_or_default();
    Ok(columns.checked_sub(4).map(|values| values / 2))
}

/// The number of the last row of `fieldsync_captured`.
pub(crate) fn last_noted(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "select coalesce(max(seq), 0) from fieldsync_captured";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}

/// What `fieldsync_tables` remembers of a table and its triggers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// The columns that are noted, in their order.
    pub(crate) columns: Vec<String>,
    /// The SQL of the table.
    pub(crate) table: String,
    pub(crate) triggers: Vec<Trigger>,
}

impl Saved {
    pub(crate) fn read(connection: &Connection, log: &str) -> rusqlite::Result<Option<Self>> {
        let sql = "select capture from fieldsync_tables where log = ?1";
        let saved = connection.query_row(sql, [log], |row| row.get::<_, Option<String>>(0));
        Ok(saved
            .optional()?
            .flatten()
            .and_then(|text| Self::parse(&text)))
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let triggers = value["triggers"].as_object()?.iter();
        Some(Self {
            columns: value["columns"]
                .as_array()?
                .iter()
                .map(text)
                .collect::<Option<_>>()?,
            table: text(&value["table"])?,
            triggers: triggers
                .map(|(name, sql)| {
                    Some(Trigger {
                        name: name.clone(),
                        sql: text(sql)?,
                    })
                })
                .collect::<Option<_>>()?,
        })
    }

    pub(crate) fn write(&self, connection: &Connection, log: &str) -> rusqlite::Result<()> {
        let triggers = self.triggers.iter();
        let triggers: serde_json::Map<_, _> = triggers
            .map(|trigger| (trigger.name.clone(), trigger.sql.clone().into()))
            .collect();
        let saved = json!({"columns": self.columns, "table": self.table, "triggers": triggers});
        let sql = "update fieldsync_tables set capture = ?2 where log = ?1";
        connection.execute(sql, (log, saved.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triggers::CapturedTable;

    /// Otherwise each start would write.
    #[test]
    fn what_is_saved_is_read_back_in_the_same_order() {
        let connection = Connection::open_in_memory().unwrap();
        let table = "create table fieldsync_tables (log, capture); insert into fieldsync_tables values ('t', null)";
        connection.execute_batch(table).unwrap();
        let columns = vec!["b".to_owned(), "a".to_owned()];
        let table = CapturedTable {
            name: "t",
            key: &["id".to_owned()],
            columns: &columns,
            unique: &[],
        };
        let saved = Saved {
            triggers: table.triggers(),
            columns: columns.clone(),
            table: "create table t (id, a, b)".to_owned(),
        };
        assert_eq!(Saved::read(&connection, "t").unwrap(), None);
        saved.write(&connection, "t").unwrap();
        assert_eq!(Saved::read(&connection, "t").unwrap(), Some(saved));
    }
}
