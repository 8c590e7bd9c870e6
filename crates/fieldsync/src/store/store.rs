//! The contract between a database and the engine. `conformance` has a test for each of its promises.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::change::Change;
use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::cursor_key::CursorKey;
use crate::model::record::{Record, RecordId, RecordKey};
use crate::schema::collection::Collection;
use crate::schema::foreign_key::ForeignKey;
use crate::schema::table_description::TableDescription;
use crate::store::error::StoreError;
use crate::store::listing::Listing;
use crate::store::page::{PageLimit, RecordPage};
use crate::write::batch::{Batch, GroupResult};

/// A database: the app's own tables, and a change log for each collection.
///
/// A store leaves the app's own tables as they are, and keeps the logs beside them. It contains no rules about edits:
/// [`Batch::plan`] decides what to write, and the store reads and writes.
///
/// Each sentence below has a test in the suite behind the feature `conformance`. A new store is complete when
/// `fieldsync::backend::store_tests!` passes.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Creates what is missing: the tables that have the names of their collections, the logs, and the columns that
    /// [`Collection::add_missing_columns`] asks for. The engine calls it before any other method.
    ///
    /// An existing table is checked. If its key or its columns do not fit the collection, the result is
    /// [`StoreError::Schema`], with everything that does not fit in all collections. Where a column is added, existing rows
    /// get the default of its field. Columns and tables that belong to others are not changed. A second call writes nothing.
    /// Two nodes may call it at the same time.
    ///
    /// A log belongs to a table. Collections of two apps share it if, and only if, they have the same table, whatever their
    /// names are.
    async fn prepare(&self, collections: &[Arc<Collection>]) -> Result<(), StoreError>;

    /// Applies the groups of a batch and appends their changes to the logs, in one transaction. Each group is applied
    /// as a whole or not at all. The result has one entry per group, in the order of the batch.
    ///
    /// - The offsets of a collection rise by one, in commit order. An offset is never used twice.
    /// - A refused group does not affect the other groups. Whatever error an edit causes in the database, only its group is
    ///   refused: with [`Refusal::Conflict`](crate::Refusal::Conflict) for a unique or foreign key constraint, with
    ///   [`Refusal::Invalid`](crate::Refusal::Invalid) for a check or not-null constraint, with
    ///   [`Refusal::DatabaseRefused`](crate::Refusal::DatabaseRefused) by a trigger, and otherwise with the variant that fits.
    ///   Errors of the server or the connection are no refusals.
    /// - The records of [`Batch::relied_on`] are as the plan found them until the transaction ends. Those of [`Batch::referred_to`] are read in the
    ///   transaction without locks.
    /// - An update writes only the columns that change.
    /// - The records in the outcomes are as the database returned them.
    /// - If a lock of another transaction keeps a group waiting until its deadline, the group is refused with
    ///   [`Refusal::Busy`](crate::Refusal::Busy). In a batch of several groups the store may refuse it at once with
    ///   [`Refusal::Locked`](crate::Refusal::Locked). The engine then commits the group again, alone.
    /// - If the future is dropped, the batch is committed as a whole or not at all.
    /// - After an `Err` it is unknown whether the batch was committed.
    ///
    /// Where the table has capture:
    /// - Cascades and triggers that an edit set off are logged with it, in the same transaction.
    /// - What others wrote to a record that an edit writes is logged before the edit's change. It counts as changed since the
    ///   edit's base.
    /// - Per record, the previous values of a change are the values after the change before it.
    /// - A row that a trigger rewrote is returned and logged as it is in the table. A delete that did not delete is an update.
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError>;

    /// Logs what others have written and is not yet logged, as one change per record. One call logs a bounded number, in one
    /// transaction per collection. Two nodes may call it at the same time.
    ///
    /// If changes can't be known (the table was truncated or rebuilt, its triggers were disabled, or more was captured than the
    /// retention keeps), cursors from before are out of range from now on, with [`ResetReason::Capture`]. The call also
    /// restores what capture needs, where it may.
    ///
    /// [`ResetReason::Capture`]: crate::ResetReason::Capture
    async fn log_captured(&self, retention: Retention) -> Result<LoggedCaptures, StoreError>;

    /// Resolves when others may have written, if the database tells. Otherwise it never resolves: the engine calls
    /// [`log_captured`](Self::log_captured) once per poll interval. The future may be dropped at any time.
    async fn captured(&self);

    /// Reads one record and the end of its collection's log, in one consistent read. The record is `None` if it does
    /// not exist. A read does not wait for writers.
    async fn get(&self, key: &RecordKey) -> Result<(Option<Record>, Position), StoreError>;

    /// Reads records by their ids, in one consistent read. The result has an entry for each id, in their order, `None` for a
    /// record that does not exist. It ends before it exceeds the limit, but has at least one entry if there is an id.
    async fn get_many(
        &self,
        collection: &str,
        ids: &[RecordId],
        limit: PageLimit,
    ) -> Result<Vec<Option<Record>>, StoreError>;

    /// Reads the records that follow a place in an order, up to a limit, and the end of the collection's log, in one consistent read.
    /// Rows that the app's own SQL has written are included.
    ///
    /// The page has at least one record if any follows. No more of the table is read into memory than the limit and one row.
    ///
    /// Records that do not meet the narrowing may be left out, as far as the database can tell. The indexes that it has for that, and for
    /// the order, should be used.
    async fn list(&self, collection: &str, listing: &Listing) -> Result<RecordPage, StoreError>;

    /// How the database reads such a page, in its own words: which indexes serve it. Without values, since it may be logged.
    async fn explain(&self, collection: &str, listing: &Listing) -> Result<String, StoreError>;

    /// Reads the changes after a position, in order: up to the limit, and at least one if the log contains any.
    ///
    /// If the log does not contain the position, the result says why. [`ResetReason::Epoch`] if the position has
    /// another epoch, [`ResetReason::Trimmed`] if changes after it have been trimmed, and [`ResetReason::Restored`] if
    /// this log never had the position.
    ///
    /// [`ResetReason::Epoch`]: crate::ResetReason::Epoch
    /// [`ResetReason::Trimmed`]: crate::ResetReason::Trimmed
    /// [`ResetReason::Restored`]: crate::ResetReason::Restored
    async fn changes(
        &self,
        collection: &str,
        since: Position,
        limit: PageLimit,
    ) -> Result<ChangesSince, StoreError>;

    /// Reads the changes of one record after a position, as a transaction does for [`Batch::bases`]: all of them, or
    /// [`ChangesSince::OutOfRange`] also where the position is more than [`MAX_BASE_DISTANCE`](crate::backend::MAX_BASE_DISTANCE)
    /// changes behind the end of the log, or the changes take more bytes than a page. It does not keep writers waiting.
    async fn changes_of(
        &self,
        key: &RecordKey,
        since: Position,
    ) -> Result<ChangesSince, StoreError>;

    /// Describes the tables and views of which collections can be made. Empty if the store has none but those of its
    /// collections.
    async fn tables(&self) -> Result<Vec<TableDescription>, StoreError>;

    /// The foreign keys between the tables of the prepared collections, as [`prepare`](Self::prepare) found them. A store without foreign keys has none.
    fn foreign_keys(&self) -> Vec<ForeignKey> {
        Vec::new()
    }

    /// How many reads for subscribers may run at a time, pieces of snapshots and pages of the log. It is a part of what the
    /// store can run at a time, so that reads of records never wait for them.
    fn max_subscriber_reads(&self) -> usize;

    /// Reads the ends of the logs of all collections. It is one cheap query: the engine calls it once per poll
    /// interval.
    async fn heads(&self) -> Result<Vec<(Arc<str>, Position)>, StoreError>;

    /// Reads the key that cursors are sealed with. [`prepare`](Self::prepare) makes it once, by a random number generator that is
    /// fit for keys, and the store keeps it as long as the logs. It is the same on every node, also on nodes that prepared an
    /// empty database at the same time.
    async fn cursor_key(&self) -> Result<CursorKey, StoreError>;

    /// Deletes changes that exceed the retention, and idempotency keys older than [`IDEMPOTENCY_KEY_RETENTION`]. One
    /// call deletes a bounded number, in one short transaction, and returns whether more remain.
    ///
    /// The end of the log is kept: after every change has been trimmed, a cursor at the end of the log still resumes.
    async fn trim(&self, retention: Retention) -> Result<bool, StoreError>;
}

/// What a store has committed.
#[derive(Debug, Default)]
pub struct Committed {
    /// The result of each group, in the order of the batch.
    pub results: Vec<GroupResult>,
    /// The changes that were logged, in log order per collection: those of the edits, and those that were captured.
    pub changes: Vec<Arc<Change>>,
}

impl Committed {
    /// Results of which none has changed anything.
    #[must_use]
    pub fn nothing(results: Vec<GroupResult>) -> Self {
        Self {
            results,
            changes: Vec::new(),
        }
    }
}

/// What a store has logged of the writes of others.
#[derive(Debug, Default)]
pub struct LoggedCaptures {
    /// The changes, in log order per collection.
    pub changes: Vec<Arc<Change>>,
    /// Whether capture was interrupted, so that a log can't be resumed from before.
    pub interrupted: bool,
    /// Whether more remains to be logged.
    pub more: bool,
}

/// How long the changes of a log are kept. A change that exceeds any of the limits may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// The maximum age of a change. 7 days by default.
    pub age: Duration,
    /// The maximum number of changes of a collection. 1,000,000 by default.
    pub count: u64,
    /// The maximum size of the changes of a collection together, in bytes of JSON. 4 GiB by default. Some 64 KiB of changes are deleted at a
    /// time.
    pub bytes: u64,
}

impl Retention {
    /// Keeps changes for this long.
    #[must_use]
    pub fn with_age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Keeps this many bytes of changes of a collection.
    #[must_use]
    pub fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Keeps this many changes of a collection.
    #[must_use]
    pub fn with_count(self, count: u64) -> Self {
        Self { count, ..self }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(7 * 24 * 3600),
            count: 1_000_000,
            bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// How long an idempotency key is kept: 24 hours.
pub const IDEMPOTENCY_KEY_RETENTION: Duration = Duration::from_secs(24 * 3600);
