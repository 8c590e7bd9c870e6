//! The tables of the in-memory store.

use std::collections::BTreeMap;
use std::mem::discriminant;

use serde_json::Value;

use crate::model::record::{Fields, Record, RecordId};
use crate::schema::collection::Collection;
use crate::schema::field::{Field, Ids};
use crate::store::error::SchemaMismatch;

/// A table: its columns and its rows.
#[derive(Debug)]
pub(crate) struct MemoryTable {
    pub(crate) key_columns: Vec<String>,
    pub(crate) ids: Ids,
    /// The highest integer id so far, also of deleted rows. Ids are never reused.
    pub(crate) last_id: i64,
    pub(crate) columns: BTreeMap<String, Field>,
    pub(crate) rows: BTreeMap<RecordId, Fields>,
}

/// The row as a record of this collection.
pub(crate) fn record(collection: &Collection, id: RecordId, row: &Fields) -> Record {
    let fields = collection.fields().iter().map(|field| {
        let value = row.get(&field.name).cloned().unwrap_or(Value::Null);
        (field.name.clone(), value)
    });
    Record {
        id,
        fields: fields.collect(),
    }
}

impl MemoryTable {
    pub(crate) fn new(collection: &Collection) -> Self {
        Self {
            key_columns: collection.key_columns().to_vec(),
            ids: collection.ids(),
            last_id: 0,
            columns: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Checks that the table fits the collection, then adds the missing columns.
    pub(crate) fn add_columns(&mut self, collection: &Collection) -> Result<(), SchemaMismatch> {
        let mismatch = |column: &str, found: String, expected: String| SchemaMismatch {
            table: collection.table_name().to_owned(),
            column: Some(column.to_owned()),
            found,
            expected,
        };
        let (key, ids) = (collection.key_columns(), collection.ids());
        if (&*self.key_columns, self.ids) != (key, ids) {
            let found = format!(
                "the key column {} with ids of type {:?}",
                self.key_columns.join(", "),
                self.ids
            );
            let key = key.join(", ");
            let expected = format!("the key column {key} with ids of type {ids:?}");
            return Err(mismatch(&key, found, expected));
        }
        for field in collection.fields() {
            let (wanted, found) = match self.columns.get(&field.name) {
                None if self.rows.is_empty() || default(field).is_some() => continue,
                None => (
                    "a default, or a column that allows null",
                    "records without this field".to_owned(),
                ),
                Some(column)
                    if discriminant(&column.schema.kind) != discriminant(&field.schema.kind) =>
                {
                    ("the same type", format!("{:?}", column.schema.kind))
                }
                Some(column) if field.schema.nullable && !column.schema.nullable => {
                    ("a column that allows null", "not null".to_owned())
                }
                Some(_) => continue,
            };
            return Err(mismatch(&field.name, found, wanted.to_owned()));
        }
        for field in collection.fields() {
            if !self.columns.contains_key(&field.name) {
                for row in self.rows.values_mut() {
                    row.insert(field.name.clone(), default(field).unwrap_or(Value::Null));
                }
                self.columns.insert(field.name.clone(), field.clone());
            }
        }
        Ok(())
    }

    /// Checks that a row can be inserted without the columns that the collection does not know.
    pub(crate) fn check_creatable(&self, collection: &Collection) -> Result<(), SchemaMismatch> {
        let needed = self
            .columns
            .values()
            .find(|column| default(column).is_none() && collection.field(&column.name).is_none());
        match needed {
            Some(column) if collection.is_creatable() => Err(SchemaMismatch {
                table: collection.table_name().to_owned(),
                column: Some(column.name.clone()),
                found: "not null without a default, and no field".to_owned(),
                expected: format!("a default, or .no_create() for {}", collection.name()),
            }),
            _ => Ok(()),
        }
    }

    /// Reserves this many new ids.
    pub(crate) fn reserve_ids(&mut self, count: usize) -> Vec<RecordId> {
        let ids = (0..count).map(|_| {
            self.last_id += 1;
            RecordId::Integer(self.last_id)
        });
        ids.collect()
    }

    /// Inserts a row, with the next id if none is given. Columns that are not given get their defaults.
    pub(crate) fn insert(&mut self, id: Option<RecordId>, fields: &Fields) -> RecordId {
        let id = id.unwrap_or(RecordId::Integer(self.last_id + 1));
        if let RecordId::Integer(number) = id {
            self.last_id = self.last_id.max(number);
        }
        let columns = self.columns.values();
        let mut row: Fields = columns
            .map(|column| (column.name.clone(), default(column).unwrap_or(Value::Null)))
            .collect();
        row.extend(fields.clone());
        self.rows.insert(id.clone(), row);
        id
    }

    pub(crate) fn record(&self, collection: &Collection, id: RecordId) -> Option<Record> {
        self.rows.get(&id).map(|row| record(collection, id, row))
    }
}

/// The value of a column in a row that does not give it. `None` if every row must give it.
fn default(field: &Field) -> Option<Value> {
    field
        .default
        .clone()
        .or(field.schema.nullable.then_some(Value::Null))
}
