//! The statements that read and write the rows of one collection. Every column is qualified with its table: SQLite takes
//! a quoted name without one that is not a column for text.

use std::borrow::Cow;
use std::ops::Deref;

use fieldsync::backend::Write;
use fieldsync::{Fields, RecordId};
use serde_json::Value;

use crate::dialect::Dialect;
use crate::layout::{Column, TableLayout};
use crate::value::SqlValue;

/// A table that fits its collection, with the text of its statements.
///
/// Each parameter of a statement occurs once, in ascending order. Dereferences to the [`TableLayout`].
#[derive(Debug)]
pub struct Table<D: Dialect> {
    layout: TableLayout<D>,
    /// Selects the record with an id.
    pub select: String,
    /// Selects and locks the record with an id.
    pub lock: String,
    /// Selects new ids, if the database gives ids. The parameter is their number.
    pub reserve_ids: Option<String>,
    /// Selects records in the order of their ids. The parameter is the most rows.
    pub list: String,
    /// Selects records after an id, in their order. The parameters are the id and the most rows.
    pub list_after: String,
    delete: String,
    insert: String,
    insert_with_id: String,
    returning: String,
    /// The driver's own statements.
    pub own: D::TableStatements,
}

/// A statement and its parameters.
#[derive(Debug, Clone)]
pub struct Statement<'a> {
    /// The SQL.
    pub sql: Cow<'a, str>,
    /// The values of the parameters, in their order.
    pub parameters: Vec<SqlValue<'a>>,
}

impl<D: Dialect> Deref for Table<D> {
    type Target = TableLayout<D>;

    fn deref(&self) -> &TableLayout<D> {
        &self.layout
    }
}

impl<D: Dialect> Table<D> {
    pub(crate) fn new(layout: TableLayout<D>, own: D::TableStatements) -> Self {
        let table = &layout.sql_name;
        let all = layout.select_list(table).join(", ");
        let key = layout.key.of(table);
        let wanted = layout.key.parameter(1);
        let (first, second) = (D::parameter(1), D::parameter(2));
        let returning = if D::LAST_INSERT_ID.is_none() {
            format!(" returning {all}")
        } else {
            String::new()
        };
        let next_id = layout.id_source.as_ref();
        let next_id = next_id.map(|source| (0, source.next.clone()));
        Self {
            lock: format!(
                "select {all} from {table} where {key} = {wanted}{}",
                D::FOR_UPDATE
            ),
            reserve_ids: layout.next_id.as_deref().map(D::reserve_ids),
            select: format!("select {all} from {table} where {key} = {wanted}"),
            list: format!("select {all} from {table} order by {key} limit {first}"),
            list_after: format!(
                "select {all} from {table} where {key} > {wanted} order by {key} limit {second}"
            ),
            delete: format!("delete from {table} where {key} = {wanted}"),
            insert: insert(&layout, next_id, "") + &returning,
            insert_with_id: insert(&layout, Some((1, wanted)), D::INSERT_WITH_ID) + &returning,
            returning,
            own,
            layout,
        }
    }

    /// The statement that performs a write. INSERT and UPDATE return the row, where the database can; the statement for
    /// [`Write::Refresh`] selects it.
    #[must_use]
    pub fn write<'a>(&'a self, write: &'a Write) -> Statement<'a> {
        match write {
            Write::Insert { id, fields } => self.insert(*id, fields),
            Write::Update { id, fields } => self.update(*id, fields),
            Write::Delete { id } => self.of_id(&self.delete, *id),
            Write::Refresh { id } => self.of_id(&self.select, *id),
        }
    }

    /// The statement that lists records.
    #[must_use]
    pub fn list(&self, after: Option<RecordId>, limit: usize) -> Statement<'_> {
        let limit = SqlValue::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
        let (sql, parameters) = match after {
            None => (&self.list, vec![limit]),
            Some(after) => (&self.list_after, vec![self.key_value(after), limit]),
        };
        Statement {
            sql: sql.into(),
            parameters,
        }
    }

    /// The parameter for an id of this table.
    #[must_use]
    pub fn key_value(&self, id: RecordId) -> SqlValue<'static> {
        D::encode_key(self.key.format, id)
    }

    fn of_id<'a>(&self, sql: &'a str, id: RecordId) -> Statement<'a> {
        Statement {
            sql: sql.into(),
            parameters: vec![self.key_value(id)],
        }
    }

    fn insert<'a>(&'a self, id: Option<RecordId>, fields: &'a Fields) -> Statement<'a> {
        let sql = if id.is_some() {
            &self.insert_with_id
        } else {
            &self.insert
        };
        let values = self.columns.iter().map(|column| {
            let value = fields.get(&column.name).unwrap_or(&Value::Null);
            D::encode(column.format, value)
        });
        let id = id.map(|id| self.key_value(id));
        Statement {
            sql: sql.into(),
            parameters: id.into_iter().chain(values).collect(),
        }
    }

    /// Sets the columns of these fields and no others.
    fn update<'a>(&'a self, id: RecordId, fields: &'a Fields) -> Statement<'a> {
        let mut sql = format!("update {} set ", self.sql_name);
        let mut parameters = Vec::with_capacity(fields.len() + 1);
        for column in &self.columns {
            if let Some(value) = fields.get(&column.name) {
                if !parameters.is_empty() {
                    sql += ", ";
                }
                parameters.push(D::encode(column.format, value));
                sql += &D::quote(&column.name);
                sql += " = ";
                sql += &column.parameter(parameters.len());
            }
        }
        parameters.push(self.key_value(id));
        sql += " where ";
        sql += &self.key.of(&self.sql_name);
        sql += " = ";
        sql += &self.key.parameter(parameters.len());
        sql += &self.returning;
        Statement {
            sql: sql.into(),
            parameters,
        }
    }
}

/// An insert of every field's column, and of the key where its value is given: the number of parameters that it has, and
/// the expression.
fn insert<D: Dialect>(
    layout: &TableLayout<D>,
    key: Option<(usize, String)>,
    before_values: &str,
) -> String {
    let before = key.as_ref().map_or(0, |(parameters, _)| *parameters);
    let parameter = |(number, column): (usize, &Column<D>)| column.parameter(before + number + 1);
    let values = layout.columns.iter().enumerate().map(parameter);
    let key_name = key.as_ref().map(|_| D::quote(&layout.key.name));
    let names = layout.columns.iter().map(|column| D::quote(&column.name));
    let names: Vec<String> = key_name.into_iter().chain(names).collect();
    let table = &layout.sql_name;
    if names.is_empty() {
        return format!("insert into {table} {}", D::EMPTY_INSERT);
    }
    let key_value = key.map(|(_, expression)| expression);
    let values: Vec<String> = key_value.into_iter().chain(values).collect();
    format!(
        "insert into {table} ({}) {before_values}values ({})",
        names.join(", "),
        values.join(", ")
    )
}
