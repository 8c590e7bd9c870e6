//! A sequence whose next values are taken: an import has inserted rows with ids of its own.

use deadpool_postgres::Object;
use fieldsync::backend::{IdsGivenBy, Mutation, Write};
use fieldsync_sql::Dialect as _;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::catalog::first;
use crate::dialect::{Postgres, Table};
use crate::error::Failure;
use crate::row_writes::Reason;

/// The values that are taken at once, at most. A sequence gives a few million in a second.
const MAX_DRAW: i64 = 1 << 20;

/// Takes values of the sequence that gives a table's ids until they are beyond its rows, if that is why an insert was refused.
/// Returns whether they are. The role needs no right beyond that to take values.
pub(crate) async fn catch_up(
    client: &Object,
    table: &Table,
    mutation: &Mutation,
    reason: &Reason,
) -> Result<bool, Failure> {
    let (Reason::Error(error), Some(reserve)) = (reason, &table.reserve_ids) else {
        return Ok(false);
    };
    let is_from_sequence = matches!(mutation.write, Write::Insert { .. })
        && mutation.collection.ids_given_by() == IdsGivenBy::Database;
    if !is_from_sequence || !is_about_key(table, error) {
        return Ok(false);
    }
    let key = Postgres::quote(&table.key[0].name);
    let highest = format!("select max({key})::bigint from {}", table.sql_name);
    let highest = first(client, &highest, &[]).await?.unwrap_or(0);
    let take = format!("select max(id::bigint) from ({reserve}) ids (id)");
    let (mut draw, mut last) = (1_i64, i64::MIN);
    while last < highest {
        let taken: Option<i64> = first(client, &take, &[&draw]).await?;
        match taken.filter(|id| *id > last) {
            Some(id) => last = id,
            // It is no sequence, or one that runs downwards.
            None => return Ok(false),
        }
        draw = (draw * 2).min(MAX_DRAW);
    }
    tracing::warn!(
        table = table.name,
        highest,
        "the ids that the database gave were taken: its sequence was behind the table's rows, and has caught up"
    );
    Ok(true)
}

fn is_about_key(table: &Table, error: &Error) -> bool {
    let refused = error.as_db_error();
    let refused = refused.filter(|refused| *refused.code() == SqlState::UNIQUE_VIOLATION);
    let constraint = refused.and_then(|refused| refused.constraint());
    constraint.is_some_and(|name| table.fields_of_constraint(name) == ["id"])
}
