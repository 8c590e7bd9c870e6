//! SQLite's errors: which say "later", which say that the connection is spent, and which refuse an edit.

use fieldsync::{FieldErrors, Refusal, SchemaMismatch, StoreError};
use rusqlite::Connection;
use rusqlite::ffi::{self, ErrorCode};

use crate::columns::is_same_name;
use crate::table::Table;

/// Why work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl Failure {
    /// Whether the connection must be opened anew.
    pub(crate) fn is_broken(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::OutOfMemory
            )
        )
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SchemaMismatch> for Failure {
    fn from(mismatch: SchemaMismatch) -> Self {
        Self::Store(mismatch.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Store(StoreError::Backend(error.into()))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Store(error) => return error,
            Failure::Sqlite(error) => error,
        };
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory,
            ) => Self::Unavailable(error.into()),
            _ => Self::Backend(error.into()),
        }
    }
}

/// What a constraint of the database had against a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constraint {
    Unique,
    ForeignKey,
    NotNull,
    /// A check, a strict type, or a trigger's `raise`.
    Check,
}

impl Constraint {
    pub(crate) fn of(error: &rusqlite::Error) -> Option<Self> {
        let error = error.sqlite_error()?;
        if error.code != ErrorCode::ConstraintViolation {
            return None;
        }
        Some(match error.extended_code {
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Self::ForeignKey,
            ffi::SQLITE_CONSTRAINT_NOTNULL => Self::NotNull,
            ffi::SQLITE_CONSTRAINT_UNIQUE
            | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | ffi::SQLITE_CONSTRAINT_ROWID => Self::Unique,
            _ => Self::Check,
        })
    }

    /// Refuses an edit, and says of these fields what is wrong.
    pub(crate) fn refusal(self, fields: Vec<String>) -> Refusal {
        let message = |name: &str| match self {
            Self::Unique => "is already taken",
            Self::ForeignKey if name == "id" => "is still referred to by another record",
            Self::ForeignKey => "refers to a record that does not exist, or is referred to",
            Self::NotNull => "must not be null",
            Self::Check => "is not allowed by the database",
        };
        let errors: FieldErrors = fields
            .into_iter()
            .map(|name| {
                let messages = vec![message(&name).to_owned()];
                (name, messages)
            })
            .collect();
        match self {
            Self::Unique | Self::ForeignKey => Refusal::Conflict(errors),
            Self::NotNull | Self::Check => Refusal::Invalid(errors),
        }
    }
}

/// The fields that SQLite's message about a constraint names: by column (`UNIQUE constraint failed: users.email`), by
/// a check's own text, or by the name of a check or an index, whose definition names columns.
pub(crate) fn blamed(connection: &Connection, table: &Table, message: &str) -> Vec<String> {
    let Some((_, subject)) = message.split_once(" failed: ") else {
        return Vec::new();
    };
    let columns: Vec<&str> = subject
        .split(", ")
        .filter_map(|column| {
            let (name, column) = (
                column.get(..table.name().len())?,
                column.get(table.name().len()..)?,
            );
            is_same_name(name, table.name()).then(|| column.strip_prefix('.'))?
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
    let definition = definition(connection, table.name(), name.trim_matches('\''));
    table.fields_among(&words(&definition.unwrap_or_default()))
}

/// The SQL of an index, or of the constraint with this name in a table.
fn definition(connection: &Connection, table: &str, name: &str) -> Option<String> {
    let index = "select sql from sqlite_schema where type = 'index' and name = ?1 collate nocase";
    if let Ok(sql) = connection.query_row(index, [name], |row| row.get::<_, String>(0)) {
        return sql.split_once('(').map(|(_, columns)| columns.to_owned());
    }
    let made = "select sql from sqlite_schema where type = 'table' and name = ?1 collate nocase";
    let sql: String = connection.query_row(made, [table], |row| row.get(0)).ok()?;
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
