//! The statements that read and write the rows of one collection. Every column is qualified with its table: SQLite takes
//! a quoted name without one that is not a column for text.

use std::borrow::Cow;
use std::ops::Deref;

use fieldsync::backend::{Listing, Write};
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
    /// Selects records, before a condition.
    list: String,
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
        let key_is = layout.key_is(table, 1);
        let returning = if D::LAST_INSERT_ID.is_none() {
            format!(" returning {all}")
        } else {
            String::new()
        };
        let next_id = layout.id_source.as_ref();
        let next_id = next_id.map(|source| (0, source.next.clone()));
        let written = || layout.columns.iter().filter(|column| column.is_written);
        Self {
            lock: format!("select {all} from {table} where {key_is}{}", D::FOR_UPDATE),
            reserve_ids: layout.next_id.as_deref().map(D::reserve_ids),
            select: format!("select {all} from {table} where {key_is}"),
            list: format!("select {all} from {table}"),
            delete: format!("delete from {table} where {key_is}"),
            insert: insert(&layout, written(), next_id, "") + &returning,
            insert_with_id: insert(&layout, written(), given_key(&layout), D::INSERT_WITH_ID)
                + &returning,
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
            Write::Insert { id, fields } => self.insert(id.as_ref(), fields),
            Write::Update { id, fields } => self.update(id, fields),
            Write::Delete { id } => self.of_id(&self.delete, id),
            Write::Refresh { id } => self.of_id(&self.select, id),
        }
    }

    /// The statement that lists records, at most this many, as far as the database can tell only those that a list is narrowed to.
    #[must_use]
    pub fn list(&self, listing: &Listing, limit: usize) -> Statement<'_> {
        let limit = SqlValue::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.page_rows(listing, &self.sql_name, 1);
        let (order, mut parameters) = (rows.order, rows.parameters);
        parameters.push(limit);
        let last = D::parameter(parameters.len());
        let sql = format!(
            "{} {} order by {order} limit {last}",
            self.list, rows.filter
        );
        Statement {
            sql: sql.into(),
            parameters,
        }
    }

    fn of_id<'a>(&self, sql: &'a str, id: &RecordId) -> Statement<'a> {
        Statement {
            sql: sql.into(),
            parameters: self.key_values(id),
        }
    }

    fn insert<'a>(&'a self, id: Option<&RecordId>, fields: &'a Fields) -> Statement<'a> {
        let is_left_out =
            |column: &Column<D>| column.has_default && !fields.contains_key(&column.field);
        let written = || self.columns.iter().filter(|column| column.is_written);
        let columns = || written().filter(|column| !is_left_out(column));
        let whole = if id.is_some() {
            &self.insert_with_id
        } else {
            &self.insert
        };
        let sql = if written().any(is_left_out) {
            let key = match id {
                Some(_) => given_key(&self.layout),
                None => self
                    .id_source
                    .as_ref()
                    .map(|source| (0, source.next.clone())),
            };
            let with_id = if id.is_some() { D::INSERT_WITH_ID } else { "" };
            Cow::Owned(insert(&self.layout, columns(), key, with_id) + &self.returning)
        } else {
            whole.into()
        };
        let values = columns().map(|column| {
            let value = fields.get(&column.field).unwrap_or(&Value::Null);
            D::encode(&column.format, value)
        });
        // Several key columns are fields.
        let id = id.filter(|_| self.key.len() == 1);
        let id = id.map(|id| self.key_values(id)).unwrap_or_default();
        Statement {
            sql,
            parameters: id.into_iter().chain(values).collect(),
        }
    }

    /// Sets the columns of these fields and no others.
    fn update<'a>(&'a self, id: &RecordId, fields: &'a Fields) -> Statement<'a> {
        let mut sql = format!("update {} set ", self.sql_name);
        let mut parameters = Vec::with_capacity(fields.len() + 1);
        for column in &self.columns {
            if let Some(value) = fields.get(&column.field) {
                if !parameters.is_empty() {
                    sql += ", ";
                }
                parameters.push(D::encode(&column.format, value));
                sql += &D::quote(&column.name);
                sql += " = ";
                sql += &column.parameter(parameters.len());
            }
        }
        sql += " where ";
        sql += &self.key_is(&self.sql_name, parameters.len() + 1);
        parameters.extend(self.key_values(id));
        sql += &self.returning;
        Statement {
            sql: sql.into(),
            parameters,
        }
    }
}

/// The key whose value is a parameter. Several key columns are fields.
fn given_key<D: Dialect>(layout: &TableLayout<D>) -> Option<(usize, String)> {
    match layout.key.as_slice() {
        [key] => Some((1, key.parameter(1))),
        _ => None,
    }
}

/// An insert of these columns, and of the key where its value is given: the number of parameters that it has, and the
/// expression.
fn insert<'a, D: Dialect>(
    layout: &TableLayout<D>,
    columns: impl Iterator<Item = &'a Column<D>>,
    key: Option<(usize, String)>,
    before_values: &str,
) -> String {
    let before = key.as_ref().map_or(0, |(parameters, _)| *parameters);
    let (mut names, mut values) = (Vec::new(), Vec::new());
    if let (Some((_, expression)), [key]) = (key, layout.key.as_slice()) {
        names.push(D::quote(&key.name));
        values.push(expression);
    }
    for (number, column) in columns.enumerate() {
        names.push(D::quote(&column.name));
        values.push(column.parameter(before + number + 1));
    }
    let table = &layout.sql_name;
    if names.is_empty() {
        return format!("insert into {table} {}", D::EMPTY_INSERT);
    }
    format!(
        "insert into {table} ({}) {before_values}values ({})",
        names.join(", "),
        values.join(", ")
    )
}
