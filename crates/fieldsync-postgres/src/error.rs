//! PostgreSQL's errors: those that may pass, those of other transactions' locks, and those that refuse an edit.

use fieldsync::backend::StoreError;
use fieldsync_sql::Constraint;
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
    /// The server did not answer in time.
    NoAnswer,
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
            Failure::Postgres(error) => error,
            Failure::NoAnswer => {
                return Self::Unavailable("PostgreSQL does not answer".into());
            }
        };
        let may_pass = match error.code() {
            // Not an error of the database: the connection is lost, or was never made.
            None => error.is_closed() || std::error::Error::source(&error).is_some(),
            // Classes of SQLSTATE: connections, resources, operator intervention, the system.
            Some(code) => {
                ["08", "53", "57", "58"].contains(&&code.code()[..2])
                    || *code == SqlState::READ_ONLY_SQL_TRANSACTION
                    || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                    || *code == SqlState::LOCK_NOT_AVAILABLE
            }
        };
        if may_pass {
            Self::Unavailable(error.into())
        } else {
            Self::Backend(error.into())
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
        if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED {
            return Some(Self::Locked);
        }
        let is_deadlock = *code == SqlState::T_R_DEADLOCK_DETECTED
            || *code == SqlState::T_R_SERIALIZATION_FAILURE;
        is_deadlock.then_some(Self::Deadlock)
    }
}

/// The constraint that an error is about. An exclusion counts as unique; a value that its column does not take and an
/// error that a trigger raises count as checks.
pub(crate) fn constraint_of(error: &DbError) -> Option<Constraint> {
    Some(match error.code().code() {
        "23505" | "23P01" => Constraint::Unique,
        "23503" | "23001" => Constraint::ForeignKey,
        "23502" => Constraint::NotNull,
        code if ["22", "23", "P0"].contains(&&code[..2]) => Constraint::Check,
        _ => return None,
    })
}
