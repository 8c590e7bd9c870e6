//! Which fields a constraint error is about.

use fieldsync::backend::Write;
use fieldsync_sql::{Constraint, Dialect as _};
use rusqlite::Connection;

use crate::dialect::{Sqlite, Table};
use crate::error::{Failure, constraint_of};

/// The constraint that a write violated and the fields that it names, or the failure if it is something else.
pub(crate) fn violated(
    connection: &Connection,
    table: &Table,
    write: &Write,
    failure: Failure,
) -> Result<(Constraint, Vec<String>), Failure> {
    let Failure::Sqlite(error) = &failure else {
        return Err(failure);
    };
    let Some(constraint) = constraint_of(error) else {
        return Err(failure);
    };
    let fields = match (constraint, error) {
        // SQLite does not say which foreign key it is.
        (Constraint::ForeignKey, _) => table.referring_fields(write),
        (_, rusqlite::Error::SqliteFailure(_, Some(message))) => {
            named_fields(connection, table, message)
        }
        _ => Vec::new(),
    };
    Ok((constraint, fields))
}

/// The fields that SQLite's message about a constraint names: by column (`UNIQUE constraint failed: users.email`), by
/// a check's own text, or by the name of a check or an index, whose definition names columns.
fn named_fields(connection: &Connection, table: &Table, message: &str) -> Vec<String> {
    let Some((_, subject)) = message.split_once(" failed: ") else {
        return Vec::new();
    };
    let columns: Vec<&str> = subject
        .split(", ")
        .filter_map(|column| {
            let (name, column) = (
                column.get(..table.name.len())?,
                column.get(table.name.len()..)?,
            );
            Sqlite::is_same_name(name, &table.name).then(|| column.strip_prefix('.'))?
        })
        .collect();
    let by_column = table.fields_among(&columns);
    if !by_column.is_empty() {
        return by_column;
    }
    let by_text = table.fields_among(&words(subject));
    if !by_text.is_empty() {
        return by_text;
    }
    let name = subject.strip_prefix("index ").unwrap_or(subject);
    let definition = definition(connection, &table.name, name.trim_matches('\''));
    table.fields_among(&words(&definition.unwrap_or_default()))
}

/// The SQL of an index, or of the constraint with this name in a table.
fn definition(connection: &Connection, table: &str, name: &str) -> Option<String> {
    let index = "select sql from sqlite_schema where type = 'index' and name = ?1 collate nocase";
    if let Ok(sql) = connection.query_row(index, [name], |row| row.get::<_, String>(0)) {
        return sql.split_once('(').map(|(_, columns)| columns.to_owned());
    }
    let created = "select sql from sqlite_schema where type = 'table' and name = ?1 collate nocase";
    let sql: String = connection
        .query_row(created, [table], |row| row.get(0))
        .ok()?;
    // From the constraint's name to the end of its parentheses.
    let after = &sql[sql.find(name)? + name.len()..];
    let mut depth = 0;
    let end = after.find(|letter| {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        letter == ')' && depth <= 0
    });
    Some(after[..end.unwrap_or(after.len())].to_owned())
}

fn words(sql: &str) -> Vec<&str> {
    sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .collect()
}
