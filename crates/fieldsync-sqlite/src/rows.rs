//! Rows of the app's own tables: read and written by named columns, never `*`.

use fieldsync::{FieldType, Fields, Record, RecordId, Timestamp};
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use serde_json::Value;

use crate::table::{Column, Table, quote};

pub(crate) fn get(
    connection: &Connection,
    table: &Table,
    id: RecordId,
) -> rusqlite::Result<Option<Record>> {
    let mut statement = connection.prepare_cached(&table.select_one)?;
    statement
        .query_row([key(id)], |row| record(table, row))
        .optional()
}

pub(crate) fn list(
    connection: &Connection,
    table: &Table,
    after: Option<RecordId>,
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    let limit = Sql::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
    match after {
        Some(after) => {
            let mut statement = connection.prepare_cached(&table.select_after)?;
            statement
                .query_map([key(after), limit], |row| record(table, row))?
                .collect()
        }
        None => {
            let mut statement = connection.prepare_cached(&table.select_first)?;
            statement
                .query_map([limit], |row| record(table, row))?
                .collect()
        }
    }
}

pub(crate) fn insert(
    connection: &Connection,
    table: &Table,
    id: Option<RecordId>,
    fields: &Fields,
) -> rusqlite::Result<Record> {
    let id = id.map_or(Sql::Null, key);
    let values = table
        .columns
        .iter()
        .map(|column| to_sql(column, fields.get(&column.name).unwrap_or(&Value::Null)));
    let mut statement = connection.prepare_cached(&table.insert)?;
    statement.query_row(params_from_iter(std::iter::once(id).chain(values)), |row| {
        record(table, row)
    })
}

/// Sets these columns and no others.
pub(crate) fn update(
    connection: &Connection,
    table: &Table,
    id: RecordId,
    fields: &Fields,
) -> rusqlite::Result<Option<Record>> {
    let changed: Vec<&Column> = table
        .columns
        .iter()
        .filter(|column| fields.contains_key(&column.name))
        .collect();
    let set: Vec<String> = changed
        .iter()
        .map(|column| format!("{} = ?", quote(&column.name)))
        .collect();
    let sql = format!(
        "update {} set {} where {} = ? returning {}",
        quote(table.collection.table_name()),
        set.join(", "),
        quote(table.collection.key_column()),
        table.column_list,
    );
    let values = changed
        .iter()
        .map(|column| to_sql(column, &fields[&column.name]));
    let mut statement = connection.prepare_cached(&sql)?;
    statement
        .query_row(params_from_iter(values.chain([key(id)])), |row| {
            record(table, row)
        })
        .optional()
}

pub(crate) fn delete(connection: &Connection, table: &Table, id: RecordId) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&table.delete)?
        .execute([key(id)])
        .map(drop)
}

/// An id as it is stored.
pub(crate) fn key(id: RecordId) -> Sql {
    match id {
        RecordId::Integer(number) => Sql::Integer(number),
        RecordId::Uuid(uuid) => Sql::Text(uuid.hyphenated().to_string()),
    }
}

/// An id as it is read back.
pub(crate) fn read_id(row: &Row<'_>, index: usize) -> rusqlite::Result<RecordId> {
    match row.get_ref(index)? {
        ValueRef::Integer(number) => Ok(RecordId::Integer(number)),
        ValueRef::Text(text) => {
            let uuid = std::str::from_utf8(text)
                .ok()
                .and_then(|text| uuid::Uuid::parse_str(text).ok());
            uuid.map(RecordId::Uuid).ok_or_else(|| {
                rusqlite::Error::FromSqlConversionFailure(
                    index,
                    rusqlite::types::Type::Text,
                    "the id is not a UUID".into(),
                )
            })
        }
        other => Err(rusqlite::Error::InvalidColumnType(
            index,
            "id".into(),
            other.data_type(),
        )),
    }
}

fn record(table: &Table, row: &Row<'_>) -> rusqlite::Result<Record> {
    let id = read_id(row, 0)?;
    let mut fields = Fields::new();
    for (index, column) in table.columns.iter().enumerate() {
        fields.insert(
            column.name.clone(),
            from_sql(column, row.get_ref(index + 1)?),
        );
    }
    Ok(Record { id, fields })
}

fn to_sql(column: &Column, value: &Value) -> Sql {
    match (&column.kind, value) {
        (FieldType::Json(_), Value::Null) if column.nullable => Sql::Null,
        (FieldType::Json(_), value) => Sql::Text(value.to_string()),
        (_, Value::Null) => Sql::Null,
        (FieldType::DateTime, Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => Sql::Text(time.to_sql_text()),
            Err(_) => Sql::Text(text.clone()),
        },
        (FieldType::Uuid, Value::String(text)) if column.simple_uuid => {
            Sql::Text(text.replace('-', ""))
        }
        (_, Value::String(text)) => Sql::Text(text.clone()),
        (_, Value::Bool(value)) => Sql::Integer(i64::from(*value)),
        (_, Value::Number(number)) => match number.as_i64() {
            Some(whole) if !matches!(column.kind, FieldType::Number { .. }) => Sql::Integer(whole),
            _ => Sql::Real(number.as_f64().unwrap_or_default()),
        },
        (_, Value::Array(_) | Value::Object(_)) => Sql::Text(value.to_string()),
    }
}

/// What others wrote and does not fit the field's type is passed on as it is.
fn from_sql(column: &Column, value: ValueRef<'_>) -> Value {
    match (&column.kind, value) {
        (_, ValueRef::Null) => Value::Null,
        (FieldType::Boolean, ValueRef::Integer(number @ (0 | 1))) => Value::Bool(number == 1),
        (FieldType::Number { .. }, ValueRef::Integer(number)) => (number as f64).into(),
        (_, ValueRef::Integer(number)) => number.into(),
        (_, ValueRef::Real(number)) => number.into(),
        (_, ValueRef::Blob(bytes)) => String::from_utf8_lossy(bytes).into_owned().into(),
        (kind, ValueRef::Text(text)) => {
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                FieldType::DateTime => Timestamp::from_sql_text(&text)
                    .map_or(text, |time| time.to_string())
                    .into(),
                FieldType::Uuid => uuid::Uuid::parse_str(&text)
                    .map_or(text, |uuid| uuid.hyphenated().to_string())
                    .into(),
                FieldType::Json(_) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                _ => text.into(),
            }
        }
    }
}
