//! Creates the triggers, and finds out whether they have missed something: a table that was rebuilt has lost them.

use fieldsync::Collection;
use fieldsync::backend::{SchemaMismatch, StoreError};
use fieldsync_sql::Dialect as _;
use rusqlite::{Connection, OptionalExtension as _};

use crate::capture::{Saved, width};
use crate::dialect::{Sqlite, Table};
use crate::error::Failure;
use crate::replaced_nulls::{TableColumn, table_columns};
use crate::triggers::{CapturedTable, Trigger};
use crate::unique_indexes;

/// When the triggers are compared with what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The app starts: they note the fields that it has. Whether the log is new, so that nobody has a cursor.
    Start { is_new: bool },
    /// The schema has changed: they note also what other versions of the app need.
    Running,
}

/// Creates `fieldsync_captured` if it does not exist. `true` if it existed.
pub(crate) fn create_captured(connection: &Connection) -> rusqlite::Result<bool> {
    let existed = width(connection)?.is_some();
    connection.execute_batch(include_str!("captured.sql"))?;
    Ok(existed)
}

/// Whether a start has nothing to create or drop for a table.
pub(crate) fn is_set_up(connection: &Connection, table: &Table) -> rusqlite::Result<bool> {
    if !table.has_capture {
        return Ok(Saved::read(connection, &table.log)?.is_none());
    }
    let Some(width) = width(connection)? else {
        return Ok(false);
    };
    let moment = Moment::Start { is_new: false };
    let state = State::read(connection, table, moment)?;
    Ok(state.is_none_or(|state| {
        is_same(&state.existing, &state.wanted.triggers)
            && width >= state.wanted.columns.len()
            && state.saved.as_ref() == Some(&state.wanted)
    }))
}

/// The triggers of a table as they are, as they were, and as they should be.
struct State {
    wanted: Saved,
    existing: Vec<Trigger>,
    saved: Option<Saved>,
}

impl State {
    /// `None` if the table does not exist.
    fn read(
        connection: &Connection,
        table: &Table,
        moment: Moment,
    ) -> rusqlite::Result<Option<Self>> {
        let sql = "select sql from sqlite_schema where type = 'table' and name = ?1";
        let sql = connection
            .query_row(sql, [&table.name], |row| row.get(0))
            .optional()?;
        let Some(sql) = sql else {
            return Ok(None);
        };
        let all = table_columns(connection, &table.name)?;
        let saved = Saved::read(connection, &table.log)?;
        let key: Vec<String> = table.key.iter().map(|column| column.name.clone()).collect();
        let columns = columns(table, saved.as_ref(), &all, moment);
        let wanted = Saved {
            triggers: CapturedTable {
                name: &table.name,
                key: &key,
                columns: &columns,
                unique: &unique_indexes::read(connection, &table.name, &key, &all)?,
            }
            .triggers(),
            columns,
            table: sql,
        };
        Ok(Some(Self {
            wanted,
            existing: existing(connection, &table.name)?,
            saved,
        }))
    }
}

/// What capture would run on an existing table.
pub(crate) fn capture_statements(
    connection: &Connection,
    collection: &Collection,
    table: &str,
) -> rusqlite::Result<Vec<String>> {
    let all = table_columns(connection, table)?;
    let columns = collection.fields().iter().map(|field| field.column.clone());
    let captured = CapturedTable {
        name: table,
        key: collection.key_columns(),
        columns: &columns.collect::<Vec<_>>(),
        unique: &unique_indexes::read(connection, table, collection.key_columns(), &all)?,
    };
    let triggers = captured.triggers().into_iter();
    Ok(triggers.map(|trigger| trigger.sql).collect())
}

/// Creates or replaces the triggers of a table where they differ from what they should be. `true` if writes may have been
/// missed: the log is then interrupted. `had_captured`: whether `fieldsync_captured` existed.
pub(crate) fn ensure(
    connection: &Connection,
    table: &Table,
    moment: Moment,
    had_captured: bool,
) -> Result<bool, Failure> {
    let Some(state) = State::read(connection, table, moment)? else {
        // It is being rebuilt. That changes the schema once more.
        return Ok(false);
    };
    let State {
        wanted,
        existing,
        saved,
    } = state;
    let missed = match &saved {
        None => moment != Moment::Start { is_new: true },
        Some(saved) => {
            !had_captured
                || !is_same(&existing, &saved.triggers)
                || !is_same_table(&saved.table, &wanted.table)
                || !wanted.columns.starts_with(&saved.columns) && has_noted(connection, &table.log)?
                || moment == Moment::Running && wanted.columns.len() > saved.columns.len()
        }
    };
    check_width(table, wanted.columns.len())?;
    // The triggers may be older than the table: something may have dropped it.
    widen(connection, wanted.columns.len())?;
    if !is_same(&existing, &wanted.triggers) {
        drop_triggers(connection, &existing)?;
        for trigger in &wanted.triggers {
            connection.execute_batch(&trigger.sql)?;
        }
    }
    if saved.as_ref() != Some(&wanted) {
        wanted.write(connection, &table.log)?;
    }
    if missed {
        tracing::warn!(
            table = table.name,
            "the table or its triggers were replaced, so that writes may have been missed: subscribers start anew"
        );
        interrupt(connection, &table.log)?;
    }
    Ok(missed)
}

/// The columns to note: those that were noted first, so that what was noted can still be read.
fn columns(
    table: &Table,
    saved: Option<&Saved>,
    all: &[TableColumn],
    moment: Moment,
) -> Vec<String> {
    let fields: Vec<String> = table
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect();
    let kept = match moment {
        Moment::Start { .. } => fields.clone(),
        Moment::Running => all.iter().map(|column| column.name.clone()).collect(),
    };
    let is_in = |name: &String, names: &[String]| {
        names.iter().any(|other| Sqlite::is_same_name(name, other))
    };
    let saved = saved.map_or(&[][..], |saved| &saved.columns);
    let mut columns: Vec<String> = saved
        .iter()
        .filter(|name| is_in(name, &kept))
        .cloned()
        .collect();
    let missing: Vec<String> = fields
        .into_iter()
        .filter(|name| !is_in(name, &columns))
        .collect();
    columns.extend(missing);
    columns
}

/// The triggers of fieldsync on a table.
fn existing(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Trigger>> {
    let sql = "select name, sql from sqlite_schema where type = 'trigger' and tbl_name = ?1 collate nocase \
               and name like 'fieldsync\\_%' escape '\\'";
    let mut statement = connection.prepare(sql)?;
    let trigger = |row: &rusqlite::Row<'_>| {
        Ok(Trigger {
            name: row.get(0)?,
            sql: row.get(1)?,
        })
    };
    statement.query_map([table], trigger)?.collect()
}

fn is_same(one: &[Trigger], other: &[Trigger]) -> bool {
    one.len() == other.len() && one.iter().all(|trigger| other.contains(trigger))
}

/// Whether the SQL is the same but for columns that were added: ALTER TABLE writes them in one place.
fn is_same_table(before: &str, now: &str) -> bool {
    let (before, now) = (before.as_bytes(), now.as_bytes());
    let same =
        |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(a, b)| a == b).count();
    let begin = same(&mut before.iter().zip(now));
    let end = same(&mut before.iter().rev().zip(now.iter().rev()));
    now.len() >= before.len() && begin + end >= before.len()
}

fn has_noted(connection: &Connection, log: &str) -> rusqlite::Result<bool> {
    let sql = "select exists (select 1 from fieldsync_captured where tbl = ?1)";
    connection.query_row(sql, [log], |row| row.get(0))
}

/// The most fields of a table with capture: SQLite allows 2,000 columns, and `fieldsync_captured` has four of its own.
const MAX_FIELDS: usize = (2000 - 4) / 2;

fn check_width(table: &Table, columns: usize) -> Result<(), StoreError> {
    if columns <= MAX_FIELDS {
        return Ok(());
    }
    Err(StoreError::from(SchemaMismatch {
        table: table.name.clone(),
        column: None,
        found: format!("{columns} fields"),
        expected: format!("at most {MAX_FIELDS} fields with capture, or `.without_capture()`"),
    }))
}

fn widen(connection: &Connection, columns: usize) -> rusqlite::Result<()> {
    for number in width(connection)?.unwrap_or_default() + 1..=columns {
        for side in ["o", "n"] {
            let sql = format!("alter table fieldsync_captured add column {side}{number}");
            connection.execute_batch(&sql)?;
        }
    }
    Ok(())
}

fn drop_triggers(connection: &Connection, triggers: &[Trigger]) -> rusqlite::Result<()> {
    for trigger in triggers {
        connection.execute_batch(&format!("drop trigger {}", Sqlite::quote(&trigger.name)))?;
    }
    Ok(())
}

/// Forgets what was noted of a table, so that no cursor from before resumes.
pub(crate) fn interrupt(connection: &Connection, log: &str) -> rusqlite::Result<()> {
    connection.execute("delete from fieldsync_captured where tbl = ?1", [log])?;
    let sql = "update fieldsync_heads set last = last + 1, last_tag = ?2, interrupted = last + 1, interrupted_tag = ?2 \
               where log = ?1";
    connection.execute(sql, (log, fastrand::u32(1..)))?;
    Ok(())
}

/// Ends the capture of a table that had it.
pub(crate) fn remove(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    if Saved::read(connection, &table.log)?.is_some() {
        drop_triggers(connection, &existing(connection, &table.name)?)?;
        connection.execute(
            "delete from fieldsync_captured where tbl = ?1",
            [&table.log],
        )?;
        let sql = "update fieldsync_tables set capture = null where log = ?1";
        connection.execute(sql, [&table.log])?;
    }
    Ok(())
}

/// Ends capture for all tables.
pub(crate) fn remove_all(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "select name, sql from sqlite_schema where type = 'trigger' and name like 'fieldsync\\_%' escape '\\' \
               and sql like '%fieldsync\\_captured%' escape '\\'";
    let mut statement = connection.prepare(sql)?;
    let trigger = |row: &rusqlite::Row<'_>| {
        Ok(Trigger {
            name: row.get(0)?,
            sql: row.get(1)?,
        })
    };
    let triggers: Vec<Trigger> = statement
        .query_map([], trigger)?
        .collect::<rusqlite::Result<_>>()?;
    drop_triggers(connection, &triggers)?;
    connection.execute_batch("drop table if exists fieldsync_captured")?;
    let has_tables = "select exists (select 1 from sqlite_schema where name = 'fieldsync_tables')";
    if connection.query_row(has_tables, [], |row| row.get(0))? {
        connection.execute("update fieldsync_tables set capture = null", [])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_more_columns_is_the_same_table() {
        let before = "CREATE TABLE t (a, b, primary key (a))";
        assert!(is_same_table(before, before));
        assert!(is_same_table(
            before,
            "CREATE TABLE t (a, b, c text, primary key (a))"
        ));
        assert!(!is_same_table(
            before,
            "CREATE TABLE \"t\" (a, b, primary key (a))"
        ));
        assert!(!is_same_table(
            before,
            "CREATE TABLE t (a, c, primary key (a))"
        ));
        assert!(!is_same_table(before, "CREATE TABLE t (a)"));
    }
}
