//! Why SQLite refused a write, and which fields that is about.

use fieldsync::backend::Write;
use fieldsync_sql::{Constraint, Dialect as _, Rejection, text_of};
use rusqlite::Connection;
use rusqlite::ffi::ErrorCode;

use crate::dialect::{Sqlite, Table};
use crate::error::{Failure, constraint_of, is_about_database, raised};

/// Why SQLite refused a write, with the fields that the error is about. The failure, if it is about the database.
pub(crate) fn rejection(
    connection: &Connection,
    table: &Table,
    write: &Write,
    failure: Failure,
) -> Result<Rejection, Failure> {
    let error = match failure {
        Failure::Sqlite(error) if !is_about_database(&error) => error,
        failure => return Err(failure),
    };
    if let Some(message) = raised(&error).filter(|message| *message != RESTRICTED) {
        return Ok(Rejection::Raised {
            message: message.to_owned(),
            field: None,
        });
    }
    let constraint = match constraint_of(&error) {
        // What an `on delete restrict` raises.
        Some(_) if raised(&error).is_some() => Constraint::ForeignKey,
        Some(constraint) => constraint,
        None if error.sqlite_error_code() == Some(ErrorCode::TooBig) => Constraint::Check,
        None => return Ok(Rejection::Failed(text_of(&error))),
    };
    if constraint == Constraint::ForeignKey {
        // SQLite does not say which foreign key it is.
        return Ok(Rejection::of_foreign_key(table.referring_fields(write)));
    }
    let fields = match &error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => {
            named_fields(connection, table, message)
        }
        _ => Some(Vec::new()),
    };
    Ok(match (constraint, fields) {
        // The column is not a field, or one of another table: the caller can't give it a value.
        (Constraint::NotNull, None) => Rejection::Failed(text_of(&error)),
        (Constraint::NotNull, Some(fields)) if fields.is_empty() => {
            Rejection::Failed(text_of(&error))
        }
        (constraint, Some(fields)) => Rejection::Constraint(constraint, fields),
        (constraint, None) => Rejection::ElsewhereConstraint(constraint),
    })
}

/// The message of a foreign key that restricts.
const RESTRICTED: &str = "FOREIGN KEY constraint failed";

/// The fields that SQLite's message about a constraint names: by column (`UNIQUE constraint failed: users.email`), by
/// a check's own text, or by the name of a check or an index, whose definition names columns. `None` if the constraint is one
/// of another table, into which a trigger writes.
fn named_fields(connection: &Connection, table: &Table, message: &str) -> Option<Vec<String>> {
    let strict = || message.rsplit_once(" column ");
    let Some((_, subject)) = message.split_once(" failed: ").or_else(strict) else {
        return Some(Vec::new());
    };
    let in_table = |column: &'_ str| {
        let (name, column) = column.split_at_checked(table.name.len())?;
        let column = column.strip_prefix('.')?.to_owned();
        Sqlite::is_same_name(name, &table.name).then_some(column)
    };
    let columns: Vec<String> = subject.split(", ").filter_map(in_table).collect();
    if !columns.is_empty() {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        return Some(table.fields_among(&columns));
    }
    let definition = if let Some(index) = subject.strip_prefix("index ") {
        definition_of_index(connection, &table.name, index.trim_matches('\''))?
    } else if message.starts_with("CHECK") {
        let sql = definition_of_table(connection, &table.name)?;
        let by_text = table.fields_among(&words(subject));
        if !by_text.is_empty() && sql.contains(subject) {
            return Some(by_text);
        }
        // From the constraint's name to the end of its parentheses.
        sql[sql.find(subject)? + subject.len()..].to_owned()
    } else {
        return None;
    };
    Some(table.fields_among(&words(first_parentheses(&definition))))
}

/// The SQL of an index of a table, after its name.
fn definition_of_index(connection: &Connection, table: &str, name: &str) -> Option<String> {
    let sql = "select sql from sqlite_schema where type = 'index' and name = ?1 collate nocase \
               and tbl_name = ?2 collate nocase";
    let sql: String = connection
        .query_row(sql, [name, table], |row| row.get(0))
        .ok()?;
    sql.split_once('(')
        .map(|(_, columns)| format!("({columns}"))
}

fn definition_of_table(connection: &Connection, table: &str) -> Option<String> {
    let sql = "select sql from sqlite_schema where type = 'table' and name = ?1 collate nocase";
    let sql: String = connection.query_row(sql, [table], |row| row.get(0)).ok()?;
    // As SQLite quotes it.
    Some(sql.replace(|letter: char| letter.is_ascii_whitespace(), " "))
}

/// The SQL up to the end of its first parentheses.
fn first_parentheses(sql: &str) -> &str {
    let mut depth = 0;
    let end = sql.find(|letter| {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        letter == ')' && depth <= 0
    });
    &sql[..end.unwrap_or(sql.len())]
}

fn words(sql: &str) -> Vec<&str> {
    sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .collect()
}
