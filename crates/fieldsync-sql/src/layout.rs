//! The layout of a table that fits its collection: its names, its columns, and how they store values.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::backend::StoreError;
use fieldsync::{Fields, Record, RecordId};

use crate::catalog::IdSource;
use crate::dialect::Dialect;
use crate::value::{Row, SqlValue};

/// A table that fits its collection, as [`prepare`](crate::prepare) found it.
#[derive(Debug)]
pub struct TableLayout<D: Dialect> {
    /// The name of the collection.
    pub collection: Arc<str>,
    /// The name of the log: that of the table, with its schema where the database has schemas.
    pub log: Arc<str>,
    /// Whether changes that the engine did not make are captured.
    pub has_capture: bool,
    /// The name as the catalog has it.
    pub name: String,
    /// The name as SQL: quoted, with its schema where the collection names one.
    pub sql_name: String,
    /// The key column.
    pub key: Column<D>,
    /// The columns of the fields.
    pub columns: Vec<Column<D>>,
    /// The fields whose columns refer to other tables.
    pub foreign_keys: Vec<String>,
    /// The columns of each constraint and unique index whose errors contain its name.
    pub constraints: HashMap<String, Vec<String>>,
    /// How new rows get ids, if those of the database itself repeat after a delete.
    pub id_source: Option<IdSource>,
    /// An expression for the id of a new row, if the database gives ids.
    pub next_id: Option<String>,
}

/// The column of a field, or of the id.
#[derive(Debug, Clone)]
pub struct Column<D: Dialect> {
    /// The name. That of a field's column is the field's.
    pub name: String,
    /// How it stores values.
    pub format: D::Format,
}

impl<D: Dialect> TableLayout<D> {
    /// The expressions that read a record, key first. `qualifier` is the table's SQL name or alias.
    #[must_use]
    pub fn select_list(&self, qualifier: &str) -> Vec<String> {
        let columns = std::iter::once(&self.key).chain(&self.columns);
        columns
            .map(|column| D::read_expression(column.format, &column.of(qualifier)))
            .collect()
    }

    /// The id in a row of [`select_list`](Self::select_list) that begins at the column `first`.
    ///
    /// # Errors
    /// If the key column holds something else.
    pub fn id<R: Row + ?Sized>(&self, row: &R, first: usize) -> Result<RecordId, StoreError> {
        let value = row.value(first).map_err(StoreError::Backend)?;
        D::decode_id(&value).ok_or_else(|| {
            let (table, column) = (&self.name, &self.key.name);
            let shown = match &value {
                SqlValue::Text(text) => format!("{text:?}"),
                other => format!("{other:?}"),
            };
            let error = format!("table {table}, column {column}: {shown} is not a valid id");
            StoreError::Backend(error.into())
        })
    }

    /// The record in a row of [`select_list`](Self::select_list) that begins at the column `first`.
    ///
    /// # Errors
    /// If the key column holds something that is not an id.
    pub fn record<R: Row + ?Sized>(&self, row: &R, first: usize) -> Result<Record, StoreError> {
        let mut fields = Fields::new();
        for (number, column) in self.columns.iter().enumerate() {
            let value = row.value(first + 1 + number).map_err(StoreError::Backend)?;
            fields.insert(column.name.clone(), D::decode(column.format, value));
        }
        Ok(Record {
            id: self.id(row, first)?,
            fields,
        })
    }

    /// The size of a record's values in bytes. The row's columns are as for [`TableLayout::record`].
    ///
    /// # Errors
    /// If the driver can't read a value.
    pub fn row_bytes<R: Row + ?Sized>(&self, row: &R, first: usize) -> Result<usize, StoreError> {
        let mut bytes = 0;
        for column in first..=first + self.columns.len() {
            bytes += match row.value(column).map_err(StoreError::Backend)? {
                SqlValue::Null => 0,
                SqlValue::Integer(_) | SqlValue::Real(_) => 8,
                SqlValue::Text(text) => text.len(),
                SqlValue::Bytes(value) => value.len(),
            };
        }
        Ok(bytes)
    }

    /// The fields whose columns are among these names, and `id` if the key is.
    #[must_use]
    pub fn fields_among(&self, names: &[&str]) -> Vec<String> {
        let is_named = |column: &str| names.iter().any(|name| D::is_same_name(name, column));
        let columns = self.columns.iter().map(|column| &*column.name);
        let mut fields: Vec<String> = columns
            .filter(|column| is_named(column))
            .map(str::to_owned)
            .collect();
        if is_named(&self.key.name) {
            fields.push("id".to_owned());
        }
        fields
    }

    /// The fields that a constraint or unique index with this name covers.
    #[must_use]
    pub fn fields_of_constraint(&self, name: &str) -> Vec<String> {
        let columns = self.constraints.get(name).into_iter().flatten();
        self.fields_among(&columns.map(String::as_str).collect::<Vec<_>>())
    }
}

impl<D: Dialect> Column<D> {
    /// The column of this table or alias as SQL.
    #[must_use]
    pub fn of(&self, qualifier: &str) -> String {
        format!("{qualifier}.{}", D::quote(&self.name))
    }

    /// The parameter with this number, as a value of the column.
    #[must_use]
    pub fn parameter(&self, number: usize) -> String {
        D::write_expression(self.format, &D::parameter(number))
    }
}
