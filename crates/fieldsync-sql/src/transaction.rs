//! What the shared code needs of a driver's transaction.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fieldsync::RecordKey;
use fieldsync::backend::{CapturedWrite, IdempotencyKey, StoreError, Write};

use crate::constraint::Constraint;
use crate::dialect::Dialect;
use crate::table::Table;
use crate::tables::Tables;
use crate::value::{Row, SqlValue};

/// Takes the rows of a result one by one. Returns whether it wants another.
pub type ReadRow<'a> = dyn FnMut(&dyn Row) -> Result<bool, StoreError> + Send + 'a;

/// A transaction that the driver has begun, and will commit or roll back.
///
/// The functions of this crate run one statement after the other on it. A driver that sends several in one round trip, as
/// PostgreSQL's does, has its own write path. The futures of a driver without async are ready at once: see [`run_ready`].
/// With a driver whose futures are `Send`, those of this crate are, too.
pub trait Transaction {
    /// The database's SQL.
    type Dialect: Dialect;

    /// The driver's errors.
    type Error: From<StoreError>;

    /// Runs a statement and passes its rows to `read`, until there are no more or it wants no other.
    fn query(
        &mut self,
        sql: &str,
        parameters: &[SqlValue<'_>],
        read: &mut ReadRow<'_>,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Runs a statement that returns no rows. Returns the number of rows that it changed.
    fn execute(
        &mut self,
        sql: &str,
        parameters: &[SqlValue<'_>],
    ) -> impl Future<Output = Result<usize, Self::Error>>;

    /// Locks idempotency keys until the end of the transaction, unless the transaction is the only one that writes.
    fn lock_keys(
        &mut self,
        keys: &BTreeSet<IdempotencyKey>,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Reads what other transactions wrote to these records and is not yet logged, where their tables have capture.
    fn captured_by_others(
        &mut self,
        tables: &Tables<Self::Dialect>,
        records: &BTreeSet<RecordKey>,
    ) -> impl Future<Output = Result<Vec<CapturedWrite>, Self::Error>>;

    /// Takes what was captured, so that it is logged: what other transactions wrote to these records and to those that this
    /// transaction wrote, and what this transaction wrote.
    fn take_captured(
        &mut self,
        tables: &Tables<Self::Dialect>,
        records: &BTreeSet<RecordKey>,
    ) -> impl Future<Output = Result<(Vec<CapturedWrite>, Vec<CapturedWrite>), Self::Error>>;

    /// The constraint that a write violated, and the fields that its error names.
    ///
    /// # Errors
    /// The error, if it is not about a constraint.
    fn violated(
        &mut self,
        table: &Table<Self::Dialect>,
        write: &Write,
        error: Self::Error,
    ) -> impl Future<Output = Result<(Constraint, Vec<String>), Self::Error>>;
}

/// Runs shared code on a driver without async.
///
/// # Panics
/// If the future waits for something.
pub fn run_ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("a driver without async has only futures that are ready"),
    }
}

/// Reads the first row.
pub(crate) async fn first<T: Transaction, V: Send>(
    transaction: &mut T,
    sql: &str,
    parameters: &[SqlValue<'_>],
    mut read: impl FnMut(&dyn Row) -> Result<V, StoreError> + Send,
) -> Result<Option<V>, T::Error> {
    let mut found = None;
    let mut read = |row: &dyn Row| {
        found = Some(read(row)?);
        Ok(false)
    };
    transaction.query(sql, parameters, &mut read).await?;
    Ok(found)
}
