//! The layout of a table that fits its collection: its names, its columns, and how they store values.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::backend::{Ids, MAX_ID_BYTES, StoreError, join_composite, split_composite};
use fieldsync::{Collection, Fields, Record, RecordId};

use crate::catalog::{ForeignKeyInfo, IdSource};
use crate::dialect::Dialect;
use crate::value::{Row, SqlValue};

/// A table that fits its collection, as [`prepare`](crate::prepare) found it.
#[derive(Debug)]
pub struct TableLayout<D: Dialect> {
    /// The name of the collection.
    pub collection: Arc<str>,
    /// The collection.
    pub definition: Arc<Collection>,
    /// The name of the log: that of the table, with its schema where the database has schemas.
    pub log: Arc<str>,
    /// Whether changes that the engine did not make are captured.
    pub has_capture: bool,
    /// The name as the catalog has it.
    pub name: String,
    /// The name as SQL: quoted, with its schema where the collection names one.
    pub sql_name: String,
    /// The kind of the ids.
    pub ids: Ids,
    /// The key columns.
    pub key: Vec<Column<D>>,
    /// The columns of the fields.
    pub columns: Vec<Column<D>>,
    /// The foreign keys of the table.
    pub foreign_keys: Vec<ForeignKeyInfo>,
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
    /// The name of the field; `id` for the key.
    pub field: String,
    /// The name of the column.
    pub name: String,
    /// How it stores values.
    pub format: D::Format,
    /// Whether writes name the column.
    pub is_written: bool,
    /// Whether the database has a default for it. An insert without a value leaves the column out.
    pub has_default: bool,
}

impl<D: Dialect> TableLayout<D> {
    /// The expressions that read a record, key first. `qualifier` is the table's SQL name or alias.
    #[must_use]
    pub fn select_list(&self, qualifier: &str) -> Vec<String> {
        let key = self
            .key
            .iter()
            .map(|column| D::key_expression(&column.format, &column.of(qualifier)));
        let columns = self.columns.iter();
        let columns =
            columns.map(|column| D::read_expression(&column.format, &column.of(qualifier)));
        key.chain(columns).collect()
    }

    /// The key columns, separated by commas.
    #[must_use]
    pub fn key_order(&self, qualifier: &str) -> String {
        let columns: Vec<_> = self.key.iter().map(|column| column.of(qualifier)).collect();
        columns.join(", ")
    }

    /// The condition that a row has the id whose values are the parameters from this number on.
    #[must_use]
    pub fn key_is(&self, qualifier: &str, first: usize) -> String {
        self.key_equals(qualifier, |number| D::parameter(first + number))
    }

    /// The condition that a row has the id with these values, by the number of the column from 0 on.
    #[must_use]
    pub fn key_equals(&self, qualifier: &str, value: impl Fn(usize) -> String) -> String {
        let columns = self.key.iter().enumerate();
        let conditions: Vec<_> = columns
            .map(|(number, column)| {
                D::key_condition(&column.format, &column.of(qualifier), &value(number))
            })
            .collect();
        conditions.join(" and ")
    }

    /// The condition that a row follows the id whose values are the parameters from this number on.
    #[must_use]
    pub fn key_follows(&self, qualifier: &str, first: usize) -> String {
        let columns = self.key.iter().enumerate();
        let values: Vec<_> = columns
            .map(|(number, column)| {
                let parameter = D::parameter(first + number);
                D::key_position(&column.format, &column.of(qualifier), qualifier, &parameter)
            })
            .collect();
        match values.as_slice() {
            [value] => format!("{} > {value}", self.key_order(qualifier)),
            values => format!("({}) > ({})", self.key_order(qualifier), values.join(", ")),
        }
    }

    /// The parameters for an id of this table, one for each key column.
    #[must_use]
    pub fn key_values(&self, id: &RecordId) -> Vec<SqlValue<'static>> {
        match self.key.as_slice() {
            [key] => vec![D::encode_key(&key.format, id)],
            key => {
                let parts = id.as_text().and_then(split_composite).unwrap_or_default();
                // The core has checked that there are as many parts as columns.
                let parts = parts.into_iter().map(|part| RecordId::Text(part.into()));
                let columns = key.iter().zip(parts);
                columns
                    .map(|(column, part)| D::encode_key(&column.format, &part))
                    .collect()
            }
        }
    }

    /// The id in a row of [`select_list`](Self::select_list) that begins at the column `first`.
    ///
    /// # Errors
    /// If the key column holds something else.
    pub fn id<R: Row + ?Sized>(&self, row: &R, first: usize) -> Result<RecordId, StoreError> {
        let value = |number: usize| row.value(first + number).map_err(StoreError::Backend);
        if let (Ids::Integer, SqlValue::Integer(number)) = (self.ids, value(0)?) {
            return Ok(RecordId::Integer(number));
        }
        let mut parts = Vec::with_capacity(self.key.len());
        for (number, column) in self.key.iter().enumerate() {
            let value = value(number)?;
            let part = D::decode_key(&column.format, &value);
            parts.push(part.ok_or_else(|| self.unreadable(column, &value))?);
        }
        let text = match parts.as_slice() {
            [part] => part.clone(),
            parts => join_composite(parts),
        };
        let id = decode_id(self.ids, &SqlValue::Text(text.as_str().into()));
        id.ok_or_else(|| self.unreadable(&self.key[0], &SqlValue::text(text)))
    }

    /// The id that a trigger noted: the value of a single key column, or the text of several.
    #[must_use]
    pub fn id_of_noted(&self, value: &SqlValue<'_>) -> Option<RecordId> {
        match self.key.as_slice() {
            [key] => self.id_of_text(&D::decode_key(&key.format, value)?),
            _ => decode_id(self.ids, value),
        }
    }

    /// The id with this text. `None` if it is not an id of this table.
    #[must_use]
    pub fn id_of_text(&self, text: &str) -> Option<RecordId> {
        decode_id(self.ids, &SqlValue::text(text))
    }

    fn unreadable(&self, column: &Column<D>, value: &SqlValue<'_>) -> StoreError {
        let (table, column) = (&self.name, &column.name);
        let shown = match value {
            SqlValue::Text(text) => format!("{text:?}"),
            other => format!("{other:?}"),
        };
        let error = format!("table {table}, column {column}: {shown} is not a valid id");
        StoreError::Backend(error.into())
    }

    /// The record in a row of [`select_list`](Self::select_list) that begins at the column `first`.
    ///
    /// # Errors
    /// If the key column holds something that is not an id.
    pub fn record<R: Row + ?Sized>(&self, row: &R, first: usize) -> Result<Record, StoreError> {
        let mut fields = Fields::new();
        let first_field = first + self.key.len();
        for (number, column) in self.columns.iter().enumerate() {
            let value = row
                .value(first_field + number)
                .map_err(StoreError::Backend)?;
            fields.insert(column.field.clone(), D::decode(&column.format, value));
        }
        Ok(Record {
            id: self.id(row, first)?,
            fields,
        })
    }

    /// The record in a row, or `None` if its key or a value can't be read: the row is then skipped, and logged.
    pub fn readable<R: Row + ?Sized>(&self, row: &R, first: usize) -> Option<Record> {
        let record = self.record(row, first);
        let warn = |error: &StoreError| {
            let shown = |column| match row.value(column) {
                Ok(value) => format!("{value:?}"),
                Err(error) => error.to_string(),
            };
            let key = first..first + self.key.len();
            let key: Vec<_> = key.map(shown).collect();
            tracing::warn!(
                table = self.name,
                key = key.join(", "),
                error = error as &dyn std::error::Error,
                "a row can't be read, and is left out"
            );
        };
        record.inspect_err(warn).ok()
    }

    /// The size of a record's values in bytes. The row's columns are as for [`TableLayout::record`].
    pub fn row_bytes<R: Row + ?Sized>(&self, row: &R, first: usize) -> usize {
        let size = |column| match row.value(column) {
            // What can't be read is left out.
            Ok(SqlValue::Null) | Err(_) => 0,
            Ok(SqlValue::Integer(_) | SqlValue::Real(_)) => 8,
            Ok(SqlValue::Text(text)) => text.len(),
            Ok(SqlValue::Bytes(value)) => value.len(),
        };
        let columns = first..first + self.key.len() + self.columns.len();
        columns.map(size).sum()
    }

    /// The fields whose columns are among these names, and `id` if the key is.
    #[must_use]
    pub fn fields_among(&self, names: &[&str]) -> Vec<String> {
        let is_named =
            |column: &&Column<D>| names.iter().any(|name| D::is_same_name(name, &column.name));
        // Several key columns are fields.
        let key = self.key.iter().filter(|_| self.key.len() == 1);
        let columns = self.columns.iter().chain(key).filter(is_named);
        columns.map(|column| column.field.clone()).collect()
    }

    /// The field of each of these columns, `id` for that of the key.
    pub(crate) fn fields_of(&self, columns: &[String]) -> Vec<Option<String>> {
        let field = |column: &String| self.fields_among(&[column]).pop();
        columns.iter().map(field).collect()
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
        D::write_expression(&self.format, &D::parameter(number))
    }
}

/// An id from a column of a side table, or `None` if the value is not an id of this kind.
pub(crate) fn decode_id(ids: Ids, value: &SqlValue<'_>) -> Option<RecordId> {
    match (ids, value) {
        (Ids::Integer, SqlValue::Integer(number)) => Some(RecordId::Integer(*number)),
        (Ids::Integer, SqlValue::Text(text)) => text.parse().ok().map(RecordId::Integer),
        (Ids::UuidV7, SqlValue::Text(text)) => text.parse().ok().map(RecordId::Uuid),
        (Ids::Text, SqlValue::Integer(number)) => Some(RecordId::Text(number.to_string().into())),
        // Nobody could ask for a record with another one.
        (Ids::Text, SqlValue::Text(text)) if (1..=MAX_ID_BYTES).contains(&text.len()) => {
            Some(RecordId::Text((&**text).into()))
        }
        _ => None,
    }
}
