//! One collection's table: the SQL that reads and writes its rows. Every column is named with its table, since SQLite
//! takes a lone quoted name that is no column for text.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::{Fields, Record, RecordId, StoreError, Write};
use rusqlite::types::{ToSqlOutput, Value as SqlValue};
use rusqlite::{Connection, Row, ToSql, params_from_iter};
use serde_json::Value;

use crate::columns::{Form, is_same_name, quoted};
use crate::error::Failure;
use crate::rows::{from_sql, id_from_sql, id_to_sql, to_sql};

/// The prepared tables by the names of their collections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables(pub(crate) HashMap<Arc<str>, Arc<Table>>);

impl Tables {
    pub(crate) fn of(&self, collection: &str) -> Result<&Arc<Table>, StoreError> {
        let missing =
            || StoreError::Backend(format!("collection {collection} was not prepared").into());
        self.0.get(collection).ok_or_else(missing)
    }
}

/// A table as it was found or made.
#[derive(Debug)]
pub(crate) struct Table {
    shape: Shape,
    returning: String,
    insert: String,
    insert_with_id: String,
    select: String,
    list: String,
    list_after: String,
    delete: String,
}

/// What is known of a table.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) collection: Arc<str>,
    pub(crate) key: Column,
    pub(crate) columns: Vec<Column>,
    /// Fields whose columns refer to other tables.
    pub(crate) foreign_keys: Vec<String>,
    /// Whether triggers may change a row after `returning` has shown it.
    pub(crate) has_triggers: bool,
    /// Whether SQLite would give the id of the newest row again when that is deleted.
    pub(crate) repeats_ids: bool,
}

/// The column of a field, or of the id.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) form: Form,
}

impl Table {
    pub(crate) fn new(shape: Shape) -> Self {
        let table = quoted(&shape.name);
        let of_table = |column: &Column| format!("{table}.{}", quoted(&column.name));
        let key = of_table(&shape.key);
        let all: Vec<String> = std::iter::once(key.clone())
            .chain(shape.columns.iter().map(of_table))
            .collect();
        let all = all.join(", ");
        let (key_name, names) = (
            quoted(&shape.key.name),
            names(shape.columns.iter().map(|one| &*one.name)),
        );
        let returning = if shape.has_triggers { &key } else { &all };
        let places = |from: usize| places(from, shape.columns.len());
        let comma = if names.is_empty() { "" } else { ", " };
        let insert = match (shape.repeats_ids, names.is_empty()) {
            (false, false) => format!(
                "insert into {table} ({names}) values ({}) returning {returning}",
                places(1)
            ),
            (false, true) => format!("insert into {table} default values returning {returning}"),
            (true, _) => format!(
                "insert into {table} ({key_name}{comma}{names}) values ((select 1 + max(\
                 coalesce((select max({key}) from {table}), 0), \
                 coalesce((select max(last_id) from fieldsync_heads where collection = '{}'), 0)\
                 )){comma}{}) returning {returning}",
                shape.collection,
                places(1)
            ),
        };
        let insert_with_id = format!(
            "insert into {table} ({key_name}{comma}{names}) values (?1{comma}{}) returning {returning}",
            places(2)
        );
        Self {
            insert,
            insert_with_id,
            select: format!("select {all} from {table} where {key} = ?1"),
            list: format!("select {all} from {table} order by {key} limit ?1"),
            list_after: format!(
                "select {all} from {table} where {key} > ?2 order by {key} limit ?1"
            ),
            delete: format!("delete from {table} where {key} = ?1"),
            returning: returning.clone(),
            shape,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.shape.name
    }

    pub(crate) fn get(
        &self,
        connection: &Connection,
        id: RecordId,
    ) -> Result<Option<Record>, Failure> {
        let id = id_to_sql(id, self.shape.key.form);
        self.one(connection, &self.select, [id])
    }

    pub(crate) fn list(
        &self,
        connection: &Connection,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, Failure> {
        let limit = ToSqlOutput::from(i64::try_from(limit).unwrap_or(i64::MAX));
        let (sql, values) = match after {
            None => (&self.list, vec![limit]),
            Some(after) => (
                &self.list_after,
                vec![limit, id_to_sql(after, self.shape.key.form)],
            ),
        };
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(self.record(row)?);
        }
        Ok(records)
    }

    /// Writes, and gives the row as it is then. A row that the database silently did not write is `Ignored`.
    pub(crate) fn write(&self, connection: &Connection, write: &Write) -> Result<Written, Failure> {
        let key_form = self.shape.key.form;
        let row = match write {
            Write::Insert { id, fields } => {
                let id = id.map(|id| id_to_sql(id, key_form));
                let sql = if id.is_some() {
                    &self.insert_with_id
                } else {
                    &self.insert
                };
                let values = self.shape.columns.iter().map(|column| {
                    let value = fields.get(&column.name).unwrap_or(&Value::Null);
                    to_sql(value, column.form)
                });
                self.write_one(connection, sql, id.into_iter().chain(values))?
            }
            Write::Update { id, fields } => {
                let (columns, sql) = self.update(fields);
                let values = columns
                    .into_iter()
                    .filter_map(|column| Some(to_sql(fields.get(&column.name)?, column.form)));
                self.write_one(
                    connection,
                    &sql,
                    std::iter::once(id_to_sql(*id, key_form)).chain(values),
                )?
            }
            Write::Delete { id } => {
                connection
                    .prepare_cached(&self.delete)?
                    .execute([id_to_sql(*id, key_form)])?;
                self.keep_id(connection, *id)?;
                return Ok(Written::Row(None));
            }
            Write::Touch { id } => return Ok(Written::Row(self.get(connection, *id)?)),
        };
        Ok(row.map_or(Written::Ignored, |row| Written::Row(Some(row))))
    }

    /// An update of only these fields' columns.
    fn update(&self, fields: &Fields) -> (Vec<&Column>, String) {
        let columns: Vec<&Column> = self
            .shape
            .columns
            .iter()
            .filter(|column| fields.contains_key(&column.name))
            .collect();
        let table = quoted(&self.shape.name);
        let key = format!("{table}.{}", quoted(&self.shape.key.name));
        let mut sql = format!("update {table} set ");
        for (at, column) in columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            sql += &format!("{comma}{} = ?{}", quoted(&column.name), at + 2);
        }
        sql += &format!(" where {key} = ?1 returning {}", self.returning);
        (columns, sql)
    }

    fn write_one<'a>(
        &self,
        connection: &Connection,
        sql: &str,
        values: impl Iterator<Item = ToSqlOutput<'a>>,
    ) -> Result<Option<Record>, Failure> {
        if !self.shape.has_triggers {
            return self.one(connection, sql, values);
        }
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let id = self.id(row)?;
        self.get(connection, id)
    }

    fn one<V: ToSql>(
        &self,
        connection: &Connection,
        sql: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Option<Record>, Failure> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(self.record(row)?))
    }

    /// Remembers the id of a deleted row where SQLite would give it again.
    fn keep_id(&self, connection: &Connection, id: RecordId) -> Result<(), Failure> {
        if let (true, RecordId::Integer(id)) = (self.shape.repeats_ids, id) {
            let sql =
                "update fieldsync_heads set last_id = ?2 where collection = ?1 and last_id < ?2";
            connection
                .prepare_cached(sql)?
                .execute((&*self.shape.collection, id))?;
        }
        Ok(())
    }

    fn record(&self, row: &Row<'_>) -> Result<Record, Failure> {
        let mut fields = Fields::new();
        for (at, column) in self.shape.columns.iter().enumerate() {
            fields.insert(
                column.name.clone(),
                from_sql(row.get_ref(at + 1)?, column.form),
            );
        }
        Ok(Record {
            id: self.id(row)?,
            fields,
        })
    }

    fn id(&self, row: &Row<'_>) -> Result<RecordId, Failure> {
        let value = row.get_ref(0)?;
        let unfit = || {
            let (table, column) = (&self.shape.name, &self.shape.key.name);
            let value = SqlValue::try_from(value);
            StoreError::Backend(
                format!("table {table}, column {column}: {value:?} is no id").into(),
            )
        };
        Ok(id_from_sql(value).ok_or_else(unfit)?)
    }

    /// The fields whose columns are among these names; `id` for the key.
    pub(crate) fn fields_among(&self, names: &[&str]) -> Vec<String> {
        let named = |column: &str| names.iter().any(|name| is_same_name(name, column));
        let columns = self.shape.columns.iter().map(|column| &*column.name);
        let mut fields: Vec<String> = columns
            .filter(|column| named(column))
            .map(str::to_owned)
            .collect();
        if named(&self.shape.key.name) {
            fields.push("id".to_owned());
        }
        fields
    }

    /// The fields that this write sets and that refer to other tables.
    pub(crate) fn references_in(&self, fields: &Fields) -> Vec<String> {
        let references = self.shape.foreign_keys.iter();
        references
            .filter(|name| fields.get(*name).is_some_and(|value| !value.is_null()))
            .cloned()
            .collect()
    }
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// The row after it; none after a delete.
    Row(Option<Record>),
    /// A trigger or an `on conflict ignore` of the table skipped it.
    Ignored,
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quoted).collect::<Vec<_>>().join(", ")
}

fn places(from: usize, count: usize) -> String {
    let all: Vec<String> = (from..from + count).map(|at| format!("?{at}")).collect();
    all.join(", ")
}
