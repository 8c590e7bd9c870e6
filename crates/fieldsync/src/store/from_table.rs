//! Makes a collection of a table that exists.

use crate::schema::collection::Collection;
use crate::schema::table_description::TableDescription;
use crate::store::error::{SchemaMismatch, StoreError};
use crate::store::store::Store;

impl Collection {
    /// Makes a collection of a table or a view as its database describes it: its key, its columns with their types, defaults and
    /// generated columns. The table may be named with its schema. A column that no field fits is left out;
    /// [`Collection::from_description`] says which, and why.
    ///
    /// # Errors
    /// [`StoreError::Schema`] if there is no such table, or no collection can be made of it.
    pub async fn from_table(store: &dyn Store, table: &str) -> Result<Self, StoreError> {
        let tables = store.tables().await?;
        let is_named = |one: &&TableDescription| one.qualified_name() == table;
        let found = tables.iter().find(is_named);
        // Of several schemas that have the table, the first counts, as they are sorted.
        let found = found.or_else(|| tables.iter().find(|one| one.name == table));
        let mismatch = |found: &str, expected: String| {
            StoreError::Schema(vec![SchemaMismatch {
                table: table.to_owned(),
                column: None,
                found: found.to_owned(),
                expected,
            }])
        };
        let Some(found) = found else {
            let names: Vec<_> = tables
                .iter()
                .map(TableDescription::qualified_name)
                .collect();
            let expected = format!("one of {}", names.join(", "));
            return Err(mismatch("no such table", expected));
        };
        match Self::from_description(found) {
            Ok((collection, _)) => Ok(collection),
            Err(fault) => Err(mismatch(
                &fault,
                "a table that can be a collection".to_owned(),
            )),
        }
    }
}
