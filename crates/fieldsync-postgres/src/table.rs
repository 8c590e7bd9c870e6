//! One collection's table: the SQL that reads and writes its rows. Values go in and come out as text; times come out as they are.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Object;
use fieldsync::{Fields, Position, Record, RecordId, StoreError, Write};
use serde_json::Value;
use tokio_postgres::Row;

use crate::columns::{Form, id_from_text, id_to_text, quoted};
use crate::error::Failure;
use crate::log::{no_log, position};

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
    all: String,
    get: String,
    list: String,
    list_after: String,
    pub(crate) lock: String,
    /// Reads rows that were written, where triggers may have changed them since.
    pub(crate) again: Option<String>,
}

/// What is known of a table.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Quoted, with its schema where it was named with one.
    pub(crate) name: String,
    pub(crate) key: Column,
    pub(crate) columns: Vec<Column>,
    /// The columns that each constraint and unique index names.
    pub(crate) constraints: HashMap<String, Vec<String>>,
    /// Whether a row may be changed after it was written and returned.
    pub(crate) has_after_triggers: bool,
}

/// The column of a field, or of the id.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) form: Form,
}

/// A statement and its parameters, all text.
pub(crate) type Sql = (String, Vec<Option<String>>);
/// A statement, and for each parameter the texts of all records.
pub(crate) type SqlOfMany = (String, Vec<Vec<Option<String>>>);

impl Table {
    pub(crate) fn new(shape: Shape) -> Self {
        let table = &shape.name;
        let of_table = |column: &Column| format!("t.{}", quoted(&column.name));
        let key = of_table(&shape.key);
        let columns = std::iter::once(&shape.key).chain(&shape.columns);
        let all: Vec<String> = columns
            .map(|column| column.form.read(&of_table(column)))
            .collect();
        // Under names of ours: a column may have any.
        let names: Vec<String> = (0..all.len()).map(|at| format!("c{at}")).collect();
        let (all, names) = (all.join(", "), names.join(", "));
        let wanted = shape.key.form.write(2);
        let any = shape.key.form.write_all(1);
        // With the end of the log: one statement is one consistent look at both.
        let end =
            "select h.epoch, h.last, h.last_tag, r.* from fieldsync_heads h left join lateral";
        let page = |condition: &str| {
            format!(
                "{end} (select {all}, row_number() over () as place from \
                 (select * from {table} t {condition} order by {key} limit $3::bigint) t) r ({names}, place) on true \
                 where h.collection = $1 and ($2::text is null or true) order by r.place"
            )
        };
        Self {
            get: format!(
                "{end} (select {all} from {table} t where {key} = {wanted}) r on true where h.collection = $1"
            ),
            list: page(""),
            list_after: page(&format!("where {key} > {wanted}")),
            lock: format!(
                "select {all} from {table} t where {key} = any({any}) order by {key} for update of t"
            ),
            again: shape
                .has_after_triggers
                .then(|| format!("select {all} from {table} t where {key} = any({any})")),
            all,
            shape,
        }
    }

    pub(crate) async fn get(
        &self,
        client: &Object,
        collection: &str,
        id: RecordId,
    ) -> Result<(Option<Record>, Position), Failure> {
        let statement = client.prepare_cached(&self.get).await?;
        let id = Some(id_to_text(id));
        let rows = client.query(&statement, &[&collection, &id]).await?;
        let (mut records, end) = self.records_and_end(&rows, collection)?;
        Ok((records.pop(), end))
    }

    pub(crate) async fn list(
        &self,
        client: &Object,
        collection: &str,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<(Vec<Record>, Position), Failure> {
        let sql = if after.is_some() {
            &self.list_after
        } else {
            &self.list
        };
        let statement = client.prepare_cached(sql).await?;
        let (after, limit) = (
            after.map(id_to_text),
            i64::try_from(limit).unwrap_or(i64::MAX),
        );
        let rows = client
            .query(&statement, &[&collection, &after, &limit])
            .await?;
        self.records_and_end(&rows, collection)
    }

    fn records_and_end(
        &self,
        rows: &[Row],
        collection: &str,
    ) -> Result<(Vec<Record>, Position), Failure> {
        let first = rows.first().ok_or_else(|| no_log(collection))?;
        let end = position(first.try_get(0)?, first.try_get(1)?, first.try_get(2)?);
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            if row.try_get::<_, Option<&str>>(3)?.is_some() {
                records.push(self.record(row, 3)?);
            }
        }
        Ok((records, end))
    }

    /// What writes a mutation and gives the row as it is then.
    pub(crate) fn write(&self, write: &Write) -> Sql {
        let (table, key) = (&self.shape.name, quoted(&self.shape.key.name));
        let key_form = self.shape.key.form;
        let condition = format!("t.{key} = {}", key_form.write(1));
        match write {
            Write::Insert { id, fields } => {
                let mut columns: Vec<(&Column, Option<String>)> = Vec::new();
                columns.extend(id.map(|id| (&self.shape.key, Some(id_to_text(id)))));
                columns.extend(self.shape.columns.iter().map(|column| {
                    let value = fields.get(&column.name).unwrap_or(&Value::Null);
                    (column, column.form.to_text(value))
                }));
                let names = columns.iter().map(|(column, _)| quoted(&column.name));
                let names = names.collect::<Vec<_>>().join(", ");
                let places = columns.iter().enumerate();
                let places = places.map(|(at, (column, _))| column.form.write(at + 1));
                let places = places.collect::<Vec<_>>().join(", ");
                let values = if columns.is_empty() {
                    "default values".to_owned()
                } else {
                    format!("({names}) values ({places})")
                };
                let sql = format!("insert into {table} as t {values} returning {}", self.all);
                (sql, columns.into_iter().map(|(_, text)| text).collect())
            }
            Write::Update { id, fields } => {
                let mut texts = vec![Some(id_to_text(*id))];
                let mut sets = Vec::new();
                for column in &self.shape.columns {
                    if let Some(value) = fields.get(&column.name) {
                        texts.push(column.form.to_text(value));
                        sets.push(format!(
                            "{} = {}",
                            quoted(&column.name),
                            column.form.write(texts.len())
                        ));
                    }
                }
                let sql = format!(
                    "update {table} as t set {} where {condition} returning {}",
                    sets.join(", "),
                    self.all
                );
                (sql, texts)
            }
            Write::Delete { id } => (
                format!(
                    "delete from {table} as t where {condition} returning {}",
                    self.all
                ),
                vec![Some(id_to_text(*id))],
            ),
            Write::Touch { id } => (
                format!("select {} from {table} t where {condition}", self.all),
                vec![Some(id_to_text(*id))],
            ),
        }
    }

    /// What writes the same fields of several records at once, and gives the rows as they are then, in any order.
    pub(crate) fn update_all(&self, updates: &[(RecordId, &Fields)]) -> SqlOfMany {
        let (table, key) = (&self.shape.name, &self.shape.key);
        let mut texts = vec![
            updates
                .iter()
                .map(|(id, _)| Some(id_to_text(*id)))
                .collect(),
        ];
        let (mut sets, mut parameters) = (Vec::new(), vec!["$1::text[]".to_owned()]);
        let written = |column: &&Column| {
            updates
                .iter()
                .any(|(_, fields)| fields.contains_key(&column.name))
        };
        for column in self.shape.columns.iter().filter(written) {
            let place = texts.len();
            let values = updates
                .iter()
                .map(|(_, fields)| column.form.to_text(&fields[&column.name]));
            texts.push(values.collect());
            parameters.push(format!("${}::text[]", place + 1));
            let value = column.form.of_text(&format!("v.c{place}"));
            sets.push(format!("{} = {value}", quoted(&column.name)));
        }
        let names: Vec<String> = (0..texts.len()).map(|place| format!("c{place}")).collect();
        let sql = format!(
            "update {table} as t set {} from unnest({}) as v({}) where t.{} = {} returning {}",
            sets.join(", "),
            parameters.join(", "),
            names.join(", "),
            quoted(&key.name),
            key.form.of_text("v.c0"),
            self.all
        );
        (sql, texts)
    }

    /// The record in a row, from this column on.
    pub(crate) fn record(&self, row: &Row, from: usize) -> Result<Record, Failure> {
        let id: &str = row.try_get(from)?;
        let unfit = || {
            let (table, column) = (&self.shape.name, &self.shape.key.name);
            StoreError::Backend(format!("table {table}, column {column}: {id} is no id").into())
        };
        let id = id_from_text(id).ok_or_else(unfit)?;
        let mut fields = Fields::new();
        for (at, column) in self.shape.columns.iter().enumerate() {
            let value = column.form.value_of(row, from + 1 + at)?;
            fields.insert(column.name.clone(), value);
        }
        Ok(Record { id, fields })
    }

    /// The fields that a constraint or a column of this name is about; `id` for the key.
    pub(crate) fn fields_of(&self, constraint: Option<&str>, column: Option<&str>) -> Vec<String> {
        let of_constraint = constraint.and_then(|name| self.shape.constraints.get(name));
        let named = of_constraint
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain(column);
        let mut fields = Vec::new();
        for name in named {
            if *name == *self.shape.key.name {
                fields.push("id".to_owned());
            } else if self.shape.columns.iter().any(|column| column.name == name) {
                fields.push(name.to_owned());
            }
        }
        fields
    }
}
