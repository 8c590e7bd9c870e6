//! Creates what is missing and checks what exists.

use std::sync::Arc;

use fieldsync::Collection;
use fieldsync_sql::{check, create_table, missing_columns, new_epoch, side_tables};
use rusqlite::{Connection, TransactionBehavior};

use crate::catalog;
use crate::dialect::{Sqlite, Tables};
use crate::error::Failure;

/// Creates or checks everything in one transaction. Two nodes may do so at the same time.
pub(crate) fn prepare(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<Tables, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&side_tables::<Sqlite>())?;
    for collection in collections {
        let statements = match catalog::read(&transaction, collection)? {
            None => vec![create_table::<Sqlite>(collection)?],
            Some(table) => missing_columns::<Sqlite>(collection, &table)?,
        };
        for sql in statements {
            transaction.execute_batch(&sql)?;
        }
    }
    let mut tables = Tables::default();
    // Read again only now, when every table has its columns.
    for collection in collections {
        let table = catalog::read(&transaction, collection)?;
        tables.insert(check(collection, table, |_| ())?);
        let sql = "insert into fieldsync_heads (collection, epoch) values (?1, ?2) on conflict do nothing";
        transaction.execute(sql, (collection.name(), new_epoch()))?;
    }
    // Only now do all tables exist that the others may refer to.
    for collection in collections {
        catalog::check_foreign_keys(&transaction, collection)?;
    }
    transaction.commit()?;
    Ok(tables)
}
