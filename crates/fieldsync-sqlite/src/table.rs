//! The app's own tables: made when missing, checked when there.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::{Collection, Field, FieldType, Ids, SchemaMismatch, StoreError};
use rusqlite::{Connection, TransactionBehavior};
use serde_json::Value;

use crate::error::sort;
use crate::log;
use crate::store::Tables;

/// A collection's table, and the statements for it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) collection: Arc<Collection>,
    /// One per field, in the fields' order.
    pub(crate) columns: Vec<Column>,
    /// Whether a foreign key here or to here is checked at the commit only.
    pub(crate) has_deferred_keys: bool,
    pub(crate) column_list: String,
    pub(crate) select_one: String,
    pub(crate) select_first: String,
    pub(crate) select_after: String,
    pub(crate) insert: String,
    pub(crate) delete: String,
}

/// How a field is kept.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: FieldType,
    pub(crate) nullable: bool,
    /// A UUID as 32 digits without hyphens.
    pub(crate) simple_uuid: bool,
}

/// A column as it is in the database.
struct Found {
    name: String,
    declared: String,
    not_null: bool,
    has_default: bool,
    in_key: bool,
    hidden: bool,
}

/// Makes or checks the tables of collections, and begins their logs, in one transaction.
pub(crate) fn prepare(
    connection: &mut Connection,
    collections: &[Arc<Collection>],
) -> Result<Tables, StoreError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sort)?;
    transaction
        .execute_batch(include_str!("schema.sql"))
        .map_err(sort)?;
    let mut tables = HashMap::new();
    for collection in collections {
        let found = columns_in(&transaction, collection.table_name()).map_err(sort)?;
        let found = if found.is_empty() {
            transaction
                .execute_batch(&create(collection))
                .map_err(sort)?;
            columns_in(&transaction, collection.table_name()).map_err(sort)?
        } else {
            check_is_table(&transaction, collection)?;
            check_key(collection, &found)?;
            for field in missing(collection, &found) {
                transaction
                    .execute_batch(&add(collection, field)?)
                    .map_err(sort)?;
            }
            columns_in(&transaction, collection.table_name()).map_err(sort)?
        };
        let table = Table::new(collection, &found, &transaction)?;
        log::begin(&transaction, collection.name()).map_err(sort)?;
        tables.insert(Arc::clone(collection.name()), Arc::new(table));
    }
    transaction.commit().map_err(sort)?;
    Ok(tables)
}

impl Table {
    fn new(
        collection: &Arc<Collection>,
        found: &[Found],
        connection: &Connection,
    ) -> Result<Self, StoreError> {
        let mut columns = Vec::new();
        for field in collection.fields() {
            let column = found.iter().find(|column| same(&column.name, &field.name));
            let column = column.expect("a missing column was added");
            check(collection, field, column)?;
            columns.push(Column {
                name: field.name.clone(),
                kind: field.schema.kind.clone(),
                nullable: field.schema.nullable,
                simple_uuid: field.schema.kind == FieldType::Uuid
                    && length(&column.declared) == Some(32),
            });
        }
        let needed = |column: &&Found| {
            let ours = columns.iter().any(|ours| same(&ours.name, &column.name))
                || same(&column.name, collection.key_column());
            column.not_null && !column.has_default && !column.hidden && !ours
        };
        if let Some(column) = found
            .iter()
            .find(needed)
            .filter(|_| collection.is_creatable())
        {
            let expected =
                "a default, a field for it in the type, or a collection with .no_create()";
            return Err(mismatch(
                collection,
                &column.name,
                "not null without default, which makes creating impossible",
                expected,
            ));
        }
        let (table, key) = (
            quote(collection.table_name()),
            quote(collection.key_column()),
        );
        let names: Vec<String> = std::iter::once(key.clone())
            .chain(columns.iter().map(|column| quote(&column.name)))
            .collect();
        let list = names.join(", ");
        let places = vec!["?"; names.len()].join(", ");
        Ok(Self {
            has_deferred_keys: has_deferred_keys(connection).map_err(sort)?,
            select_one: format!("select {list} from {table} where {key} = ?"),
            select_first: format!("select {list} from {table} order by {key} limit ?"),
            select_after: format!(
                "select {list} from {table} where {key} > ? order by {key} limit ?"
            ),
            insert: format!("insert into {table} ({list}) values ({places}) returning {list}"),
            delete: format!("delete from {table} where {key} = ?"),
            column_list: list,
            collection: Arc::clone(collection),
            columns,
        })
    }

    /// The field that is kept in this column; `id` for the key.
    pub(crate) fn field_of_column(&self, column: &str) -> Option<String> {
        if same(column, self.collection.key_column()) {
            return Some("id".into());
        }
        self.columns
            .iter()
            .find(|ours| same(&ours.name, column))
            .map(|ours| ours.name.clone())
    }

    /// The fields that refer to other tables.
    pub(crate) fn foreign_keys(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let mut statement =
            connection.prepare_cached("select \"from\" from pragma_foreign_key_list(?)")?;
        let columns = statement.query_map([self.collection.table_name()], |row| {
            row.get::<_, String>(0)
        })?;
        let columns = columns.collect::<rusqlite::Result<Vec<String>>>()?;
        Ok(columns
            .iter()
            .filter_map(|column| self.field_of_column(column))
            .collect())
    }
}

/// Quotes a name, the only way in which one gets into an SQL text.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQLite compares the names of columns without regard to the case of ASCII letters.
fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn columns_in(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Found>> {
    let sql = "select name, type, \"notnull\", dflt_value is not null, pk > 0, hidden > 0 from pragma_table_xinfo(?)";
    let mut statement = connection.prepare(sql)?;
    let columns = statement.query_map([table], |row| {
        Ok(Found {
            name: row.get(0)?,
            declared: row.get::<_, String>(1)?.to_lowercase(),
            not_null: row.get(2)?,
            has_default: row.get(3)?,
            in_key: row.get(4)?,
            hidden: row.get(5)?,
        })
    })?;
    columns.collect()
}

fn has_deferred_keys(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "select exists (select 1 from sqlite_schema where type = 'table' and sql like '%deferred%')";
    connection.query_row(sql, [], |row| row.get(0))
}

fn check_is_table(connection: &Connection, collection: &Collection) -> Result<(), StoreError> {
    let sql = "select type, coalesce(sql, '') like 'create virtual%' from sqlite_schema where name = ? collate nocase
               and type in ('table', 'view')";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?));
    let (kind, is_virtual) = connection
        .query_row(sql, [collection.table_name()], read)
        .map_err(sort)?;
    if kind == "table" && !is_virtual {
        return Ok(());
    }
    let kind = if is_virtual {
        "a virtual table"
    } else {
        "a view"
    };
    Err(mismatch(
        collection,
        collection.key_column(),
        kind,
        "a table",
    ))
}

fn check_key(collection: &Collection, found: &[Found]) -> Result<(), StoreError> {
    let key = collection.key_column();
    let wanted = match collection.ids() {
        Ids::UuidV7 => "a text column that is the primary key",
        _ => "integer primary key",
    };
    let refuse = |found: String| Err(mismatch(collection, key, &found, wanted));
    let Some(column) = found.iter().find(|column| same(&column.name, key)) else {
        return refuse("no such column".into());
    };
    if found.iter().filter(|column| column.in_key).count() != 1 || !column.in_key {
        return refuse(format!(
            "{} that is not the whole primary key",
            shown(&column.declared)
        ));
    }
    let fits = match collection.ids() {
        Ids::UuidV7 => {
            affinity(&column.declared) == Affinity::Text
                && length(&column.declared).is_none_or(|length| length >= 36)
        }
        // Only this very type makes the database give the ids.
        _ => column.declared == "integer",
    };
    if fits {
        Ok(())
    } else {
        refuse(format!("{} primary key", shown(&column.declared)))
    }
}

fn missing<'a>(collection: &'a Collection, found: &[Found]) -> Vec<&'a Field> {
    collection
        .fields()
        .iter()
        .filter(|field| !found.iter().any(|column| same(&column.name, &field.name)))
        .collect()
}

/// Whether a column holds all that its field may hold.
fn check(collection: &Collection, field: &Field, column: &Found) -> Result<(), StoreError> {
    let expected = declare(field);
    let refuse = |found: &str| Err(mismatch(collection, &column.name, found, &expected));
    let declared = shown(&column.declared);
    if column.hidden {
        return refuse(&format!("{declared}, generated"));
    }
    if column.not_null && field.schema.nullable {
        return refuse(&format!("{declared} not null, while the field may be null"));
    }
    let (affinity, length) = (affinity(&column.declared), length(&column.declared));
    let text = affinity == Affinity::Text;
    let fits = match &field.schema.kind {
        FieldType::Text { max_length, one_of } => {
            let longest = one_of
                .iter()
                .flatten()
                .map(|value| value.chars().count())
                .max()
                .or(*max_length);
            text && length.is_none_or(|length| longest.is_some_and(|longest| longest <= length))
        }
        FieldType::DateTime => {
            is_named(&column.declared, &["datetime", "timestamp"])
                || (text && length.is_none_or(|length| length >= 26))
        }
        FieldType::Date => {
            is_named(&column.declared, &["date"])
                || (text && length.is_none_or(|length| length >= 10))
        }
        FieldType::Uuid => {
            is_named(&column.declared, &["uuid"])
                || (text && length.is_none_or(|length| length == 32 || length >= 36))
        }
        FieldType::Integer { min, max } => {
            let narrow = match column.declared.as_str() {
                "tinyint" => Some((i64::from(i8::MIN), i64::from(i8::MAX))),
                "smallint" | "int2" => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
                _ => None,
            };
            affinity == Affinity::Integer
                && narrow.is_none_or(|(least, most)| *min >= least && *max <= most)
        }
        FieldType::Number { .. } => {
            matches!(affinity, Affinity::Real)
                || is_named(&column.declared, &["numeric", "decimal"])
        }
        FieldType::Boolean => {
            is_named(&column.declared, &["bool", "boolean"]) || affinity == Affinity::Integer
        }
        FieldType::Json(_) => is_named(&column.declared, &["json"]) || (text && length.is_none()),
        _ => false,
    };
    if fits { Ok(()) } else { refuse(&declared) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

/// The rules of <https://www.sqlite.org/datatype3.html>, section 3.1.
fn affinity(declared: &str) -> Affinity {
    let has = |part: &str| declared.contains(part);
    if has("int") {
        Affinity::Integer
    } else if has("char") || has("clob") || has("text") {
        Affinity::Text
    } else if has("blob") || declared.is_empty() {
        Affinity::Blob
    } else if has("real") || has("floa") || has("doub") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

fn is_named(declared: &str, names: &[&str]) -> bool {
    let name = declared.split('(').next().unwrap_or_default().trim();
    names.contains(&name)
}

/// The number in `varchar(100)`.
fn length(declared: &str) -> Option<usize> {
    declared
        .split_once('(')?
        .1
        .split([')', ','])
        .next()?
        .trim()
        .parse()
        .ok()
}

fn shown(declared: &str) -> String {
    if declared.is_empty() {
        "a column without type".into()
    } else {
        declared.to_owned()
    }
}

fn create(collection: &Collection) -> String {
    let key = quote(collection.key_column());
    let key = match collection.ids() {
        Ids::UuidV7 => format!("{key} varchar(36) primary key not null"),
        // Without the word the ids of the newest records would be used again once these are deleted.
        _ => format!("{key} integer primary key autoincrement"),
    };
    let columns = collection
        .fields()
        .iter()
        .map(|field| format!("{} {}", quote(&field.name), declare(field)));
    let columns: Vec<String> = std::iter::once(key).chain(columns).collect();
    format!(
        "create table {} ({})",
        quote(collection.table_name()),
        columns.join(", ")
    )
}

fn add(collection: &Collection, field: &Field) -> Result<String, StoreError> {
    let table = quote(collection.table_name());
    if field.set_by_server {
        // When the records that are there were made is not known.
        return Ok(format!(
            "alter table {table} add column {} datetime",
            quote(&field.name)
        ));
    }
    if field.default.is_none() && !field.schema.nullable {
        let expected = format!(
            "{}, or a default for the field, so that the column can be added",
            declare(field)
        );
        return Err(mismatch(
            collection,
            &field.name,
            "no such column",
            &expected,
        ));
    }
    Ok(format!(
        "alter table {table} add column {} {}",
        quote(&field.name),
        declare(field)
    ))
}

/// A column's type, nullability and default.
fn declare(field: &Field) -> String {
    let declared = match &field.schema.kind {
        FieldType::Text {
            max_length: Some(length),
            ..
        } => format!("varchar({length})"),
        FieldType::DateTime => "datetime".into(),
        FieldType::Date => "date".into(),
        FieldType::Uuid => "varchar(36)".into(),
        FieldType::Integer { .. } => "integer".into(),
        FieldType::Number { .. } => "real".into(),
        FieldType::Boolean => "boolean".into(),
        FieldType::Json(_) => "json".into(),
        _ => "text".into(),
    };
    let not_null = if field.schema.nullable {
        ""
    } else {
        " not null"
    };
    let default = field.default.as_ref().map_or(String::new(), |default| {
        format!(" default {}", literal(field, default))
    });
    format!("{declared}{not_null}{default}")
}

/// A default as an SQL literal.
fn literal(field: &Field, value: &Value) -> String {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    match (&field.schema.kind, value) {
        (_, Value::Null) if field.schema.nullable => "null".into(),
        (FieldType::Json(_), value) => text(&value.to_string()),
        (FieldType::DateTime, Value::String(time)) => text(
            &time
                .parse::<fieldsync::Timestamp>()
                .map_or(time.clone(), |time| time.to_sql_text()),
        ),
        (_, Value::String(value)) => text(value),
        (_, Value::Bool(value)) => u8::from(*value).to_string(),
        (_, value) => value.to_string(),
    }
}

fn mismatch(collection: &Collection, column: &str, found: &str, expected: &str) -> StoreError {
    let table = collection.table_name().to_owned();
    SchemaMismatch {
        table,
        column: column.into(),
        found: found.into(),
        expected: expected.into(),
    }
    .into()
}
