//! PostgreSQL's errors: those that may pass, those of other transactions' locks, and those that refuse an edit.

use std::borrow::Cow;
use std::fmt;

use fieldsync::backend::StoreError;
use tokio_postgres::error::{DbError, SqlState};

/// A URL that cannot be used, or a database that cannot be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL cannot be used as it is.
    #[error("invalid PostgreSQL URL: {0}")]
    Url(String),
    /// The database does not answer, or refuses this user.
    #[error("can't connect to PostgreSQL at {address}")]
    Unreachable {
        /// Host and port, or several.
        address: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pooler gives sessions of the server to one transaction after the other.
    #[error(
        "{address} is a pooler in transaction mode, in which prepared statements and the settings of a session get lost: set \
         pool_mode = session for this database, or name the server itself"
    )]
    TransactionPooling {
        /// Host and port, or several.
        address: String,
    },
}

/// A statement that a start must run, and whose lock other transactions hold.
#[derive(Debug, thiserror::Error)]
#[error(
    "another transaction holds a lock that this statement needs: {statement}\n\
     Each of several tries waited half a second, so that readers of the table go on. Find the transaction with `select pid, query from \
     pg_stat_activity where state <> 'idle' order by xact_start` and wait for it or end it, or run the statement yourself at a quiet time; \
     then start again"
)]
pub(crate) struct LockedOut {
    pub(crate) statement: String,
    pub(crate) source: tokio_postgres::Error,
}

/// Why work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Postgres(tokio_postgres::Error),
    Store(StoreError),
    /// This role may not lock the rows that it may read.
    Denied(tokio_postgres::Error),
    /// The server did not answer in time.
    NoAnswer,
}

impl Failure {
    /// Of a statement of ours that was sent before COMMIT: no deferred constraint or trigger is the cause.
    pub(crate) fn before_commit(error: tokio_postgres::Error) -> Self {
        let code = error.code().map_or("", SqlState::code);
        // The server ends the connection, or another transaction is in the way.
        if code.is_empty() || code.starts_with("57P") || Stopped::of(&error).is_some() {
            Self::Postgres(error)
        } else {
            Self::Store(Self::Postgres(error).into())
        }
    }

    /// Of a statement that reads and locks rows of the app's table.
    pub(crate) fn of_row_lock(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            Self::Denied(error)
        } else {
            Self::Postgres(error)
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<deadpool_postgres::PoolError> for Failure {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => Self::Postgres(error),
            error => Self::Store(StoreError::Unavailable(error.into())),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Store(error) => return error,
            Failure::Postgres(error) | Failure::Denied(error) => error,
            Failure::NoAnswer => {
                return Self::Unavailable("PostgreSQL does not answer".into());
            }
        };
        if may_pass(&error) {
            Self::Unavailable(WithoutValues(error).into())
        } else {
            Self::Backend(WithoutValues(error).into())
        }
    }
}

/// Whether the same may succeed later.
pub(crate) fn may_pass(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        // Not an error of the database: the connection is lost, or was never made.
        None => error.is_closed() || std::error::Error::source(error).is_some(),
        // Classes of SQLSTATE: connections, resources, operator intervention, the system.
        Some(code) => {
            ["08", "53", "57", "58"].contains(&&code.code()[..2])
                || *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                || *code == SqlState::LOCK_NOT_AVAILABLE
        }
    }
}

/// Whether the role lacks a privilege, or may only read: by its settings, or because the server is a standby.
pub(crate) fn is_not_allowed(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::INSUFFICIENT_PRIVILEGE || *code == SqlState::READ_ONLY_SQL_TRANSACTION
    })
}

/// What another transaction did to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It holds a lock for longer than the lock timeout.
    Locked,
    /// The two waited for each other, and the database chose this one to fail.
    Deadlock,
}

impl Stopped {
    pub(crate) fn of(error: &tokio_postgres::Error) -> Option<Self> {
        let code = error.code()?;
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return Some(Self::Locked);
        }
        let is_deadlock = *code == SqlState::T_R_DEADLOCK_DETECTED
            || *code == SqlState::T_R_SERIALIZATION_FAILURE;
        is_deadlock.then_some(Self::Deadlock)
    }

    /// The same for a statement that only takes locks. The role's `statement_timeout` may be shorter than the lock timeout.
    pub(crate) fn while_locking(error: &tokio_postgres::Error) -> Option<Self> {
        let is_canceled = error.code() == Some(&SqlState::QUERY_CANCELED);
        Self::of(error).or_else(|| is_canceled.then_some(Self::Locked))
    }
}

/// Whether the error is about the edit: nothing is wrong with the server, and no other transaction is in the way.
pub(crate) fn is_about_edit(error: &tokio_postgres::Error) -> bool {
    if Stopped::of(error).is_some() {
        return false;
    }
    // Raised by a trigger, whatever its code; or the statement, with its triggers, took too long.
    let is_own = |error: &DbError| {
        error.routine() == Some("exec_stmt_raise") || *error.code() == SqlState::QUERY_CANCELED
    };
    error.as_db_error().is_some_and(is_own) || !may_pass(error)
}

/// An error of the server, without the values of rows: it hides the details, which contain them.
#[derive(thiserror::Error)]
#[error("{}", text_of(.0))]
struct WithoutValues(tokio_postgres::Error);

impl fmt::Debug for WithoutValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(&self.0))
    }
}

impl Failure {
    /// The failure for the log, without the values of rows.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Postgres(error) | Self::Denied(error) => text_of(error),
            Self::Store(error) => fieldsync_sql::text_of(error),
            Self::NoAnswer => "PostgreSQL does not answer".to_owned(),
        }
    }
}

/// An error for the log, without the values of the row.
pub(crate) fn text_of(error: &tokio_postgres::Error) -> String {
    let Some(error) = error.as_db_error() else {
        return fieldsync_sql::text_of(error);
    };
    let code = error.code().code();
    let message = match code.starts_with("22") {
        true => without_quoted(error.message()),
        false => error.message().into(),
    };
    let mut text = format!("{message} (SQLSTATE {code})");
    if let Some(place) = error.where_() {
        text = format!("{text}, {}", place.replace('\n', ", "));
    }
    text
}

/// The message of a data exception (class 22), which quotes the value at fault, without it.
fn without_quoted(message: &str) -> Cow<'_, str> {
    match (message.find('"'), message.rfind('"')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}\"…{}", &message[..start], &message[end..]).into()
        }
        _ => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_at_fault_is_cut_out_of_a_message() {
        for (message, expected) in [
            (
                r#"invalid input syntax for type integer: "a "b""#,
                r#"invalid input syntax for type integer: "…""#,
            ),
            (
                r#"value "99999999999" is out of range for type integer"#,
                r#"value "…" is out of range for type integer"#,
            ),
            ("division by zero", "division by zero"),
        ] {
            assert_eq!(without_quoted(message), expected);
        }
    }
}
