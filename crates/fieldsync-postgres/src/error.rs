//! PostgreSQL's errors: which say "later", and which refuse an edit.

use fieldsync::{FieldErrors, Refusal, SchemaMismatch, StoreError};
use tokio_postgres::error::{DbError, SqlState};

/// A URL that can't be used, or a database that can't be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL can't be used as it is.
    #[error("not a URL of PostgreSQL that can be used: {0}")]
    Url(String),
    /// The database does not answer, or not to this user.
    #[error("PostgreSQL can't be used at {address}")]
    Unreachable {
        /// Host and port, or several.
        address: String,
        /// What it has against it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Postgres(tokio_postgres::Error),
    Store(StoreError),
    /// Nothing was heard for too long.
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
        let later = match error.code() {
            // No answer from the database: the connection is gone, or was never made.
            None => error.is_closed() || std::error::Error::source(&error).is_some(),
            // Classes of SQLSTATE: connections, resources, an operator's doing, the system.
            Some(code) => {
                ["08", "53", "57", "58"].contains(&&code.code()[..2])
                    || *code == SqlState::READ_ONLY_SQL_TRANSACTION
                    || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                    || *code == SqlState::LOCK_NOT_AVAILABLE
            }
        };
        if later {
            Self::Unavailable(error.into())
        } else {
            Self::Backend(error.into())
        }
    }
}

/// What stopped a transaction without being its fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Somebody else has a lock for longer than was waited.
    Locked,
    /// Two transactions waited for each other, and this one was chosen to give way.
    Deadlock,
}

impl Stopped {
    pub(crate) fn of(error: &tokio_postgres::Error) -> Option<Self> {
        let code = error.code()?;
        if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED {
            return Some(Self::Locked);
        }
        let gave_way = *code == SqlState::T_R_DEADLOCK_DETECTED
            || *code == SqlState::T_R_SERIALIZATION_FAILURE;
        gave_way.then_some(Self::Deadlock)
    }
}

/// What a constraint of the database had against a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constraint {
    Unique,
    ForeignKey,
    NotNull,
    /// A check, an exclusion, a value that its column does not take, or a trigger's `raise`.
    Check,
}

impl Constraint {
    pub(crate) fn of(error: &DbError) -> Option<Self> {
        let code = error.code();
        Some(match code.code() {
            "23505" | "23P01" => Self::Unique,
            "23503" | "23001" => Self::ForeignKey,
            "23502" => Self::NotNull,
            code if ["22", "23", "P0"].contains(&&code[..2]) => Self::Check,
            _ => return None,
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
