//! The contract between a database and the engine.

use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::record::{Record, RecordId, RecordKey};
use crate::schema::collection::Collection;
use crate::store::error::StoreError;
use crate::write::batch::{Batch, GroupResult};

/// Tables and change logs.
///
/// A store keeps the app's own tables as they are and a log of changes beside them. Every rule about edits is the
/// core's: [`Batch::plan`] decides, the store reads and writes.
///
/// Each sentence below is a case of the suite behind the feature `conformance`; a new store is done when
/// `fieldsync::store_tests!` passes.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Makes what is missing: tables, columns, logs. A table that is there is checked: one whose key or columns do not
    /// fit is [`StoreError::Schema`]. Columns and tables of others are left alone. Doing it again changes nothing, and
    /// two nodes may do it at once. Called before any other method.
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError>;

    /// Commits the groups of a batch, each all or nothing, in one transaction.
    ///
    /// Offsets of one collection rise by one, in commit order, and are never used twice. A group that is refused is
    /// refused alone. A constraint of the database refuses the guilty group with [`Refusal::Conflict`](crate::Refusal)
    /// (unique, foreign key) or [`Refusal::Invalid`](crate::Refusal) (check, not null). An update writes only the
    /// columns that change. The records in the outcomes are what the database returned. A group that somebody else's lock
    /// keeps out until its deadline is refused with [`Refusal::Busy`](crate::Refusal); in a batch of several groups it
    /// may be refused with [`Refusal::Locked`](crate::Refusal) at once, and is then handed in again, alone. When the future is dropped the batch is
    /// committed whole or not at all. After an `Err` nothing is known: the batch may be committed.
    async fn commit(&self, batch: Batch) -> Result<Vec<GroupResult>, StoreError>;

    /// Reads one record and the end of its collection's log, in one consistent read. Readers do not wait for writers.
    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError>;

    /// Reads records in the order of their ids, from the one after `after`, at most `limit`, and the end of the log, in
    /// one consistent read. RowFilter written past fieldsync are among them.
    async fn list(
        &self,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<(Vec<Record>, Position), StoreError>;

    /// Reads the log after a place: the next changes, at least one if there is one, at most `limit`. A place that is
    /// not in the log is told apart: its epoch is another ([`ResetReason::Epoch`]), the log was trimmed beyond it
    /// ([`ResetReason::Trimmed`]), or it is not of this log's past ([`ResetReason::Restored`]).
    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: usize,
    ) -> Result<ChangesSince, StoreError>;

    /// The ends of all collections' logs, in one cheap query.
    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError>;

    /// Forgets changes and idempotency keys beyond the retention, a bounded number in one short transaction; true when
    /// there is more to forget. The end of the log stays, and a cursor at the end of a fully trimmed log still resumes.
    async fn trim(&self, retention: Retention) -> Result<bool, StoreError>;
}

/// How long the log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Changes older than this may be forgotten. 7 days by default.
    pub age: Duration,
    /// Changes beyond this many of a collection may be forgotten. 1,000,000 by default.
    pub count: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(7 * 24 * 3600),
            count: 1_000_000,
        }
    }
}

/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_KEY_RETENTION: Duration = Duration::from_secs(24 * 3600);
