//! The key that seals cursors, as `fieldsync_secrets` keeps it.

use fieldsync::CursorKey;
use fieldsync::backend::StoreError;

use crate::tables::Tables;
use crate::transaction::{Transaction, first};
use crate::value::{Row, SideTableRow};

/// Gives a row if the key exists.
pub const HAS_CURSOR_KEY: &str = "select 1 from fieldsync_secrets where name = 'cursors'";

/// The key, from the first column of its row.
///
/// # Errors
/// If there is no row, or the column holds something else.
pub fn cursor_key<R: Row + ?Sized>(row: Option<&R>) -> Result<CursorKey, StoreError> {
    let missing = "table fieldsync_secrets has no row named cursors; restart the app to create it";
    let row = row.ok_or_else(|| StoreError::Backend(missing.into()))?;
    let row = SideTableRow::new(row, "fieldsync_secrets", &["secret"], 0);
    row.text(0)?.parse().map_err(|_| row.unreadable(0))
}

/// Reads the key.
///
/// # Errors
/// The driver's.
pub async fn read_cursor_key<T: Transaction>(
    transaction: &mut T,
    tables: &Tables<T::Dialect>,
) -> Result<CursorKey, T::Error> {
    let sql = &tables.log.cursor_key;
    let key = first(transaction, sql, &[], |row| cursor_key(Some(row))).await?;
    Ok(key.map_or_else(|| cursor_key::<dyn Row>(None), Ok)?)
}
