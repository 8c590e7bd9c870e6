//! Reads the heads of all logs, which the engine polls.

use std::sync::Arc;

use fieldsync::backend::Position;
use fieldsync_sql::{read_heads, run_ready};
use rusqlite::TransactionBehavior;

use crate::connection::{KnownHeads, Open};
use crate::dialect::Tables;
use crate::error::Failure;
use crate::transaction::Transaction;

/// The heads of all logs. If nothing was written since they were last read on this connection, that answer.
pub(crate) fn heads(
    open: &mut Open,
    tables: &Tables,
) -> Result<Vec<(Arc<str>, Position)>, Failure> {
    let transaction = open
        .connection
        .transaction_with_behavior(TransactionBehavior::Deferred)?;
    let version = transaction
        .prepare_cached("pragma data_version")?
        .query_row([], |row| row.get::<_, i64>(0))?;
    if let Some(known) = &open.heads
        && known.version == version
        && known.heads.len() == tables.collections().len()
    {
        return Ok(known.heads.clone());
    }
    let heads = run_ready(read_heads(&mut Transaction::new(&transaction), tables))?;
    transaction.commit()?;
    open.heads = Some(KnownHeads {
        version,
        heads: heads.clone(),
    });
    Ok(heads)
}
