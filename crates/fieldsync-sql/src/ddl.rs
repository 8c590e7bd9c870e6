//! The statements that create the app's tables and columns.

use fieldsync::Collection;
use fieldsync::backend::{Field, SchemaMismatch};

use crate::catalog::TableInfo;
use crate::dialect::Dialect;
use crate::mismatch::mismatch;

/// The statement that creates a collection's table.
pub(crate) fn create_table<D: Dialect>(
    collection: &Collection,
    sql_name: &str,
) -> Result<String, SchemaMismatch> {
    check_names::<D>(collection)?;
    let mut columns = Vec::new();
    if let [key] = collection.key_columns() {
        let declaration = D::key_declaration(collection.ids());
        columns.push(format!("{} {declaration}", D::quote(key)));
    }
    for field in collection.fields() {
        let null = if is_nullable(field) { "" } else { " not null" };
        columns.push(column::<D>(field, null, false));
    }
    if let key @ [_, _, ..] = collection.key_columns() {
        let key: Vec<_> = key.iter().map(|name| D::quote(name)).collect();
        columns.push(format!("primary key ({})", key.join(", ")));
    }
    Ok(format!(
        "create table {sql_name} (\n  {}\n)",
        columns.join(",\n  ")
    ))
}

/// The statements that add the columns of new fields to an existing table, or why one can't be added: rows that exist would
/// have no value for it.
pub(crate) fn missing_columns<D: Dialect>(
    collection: &Collection,
    table: &TableInfo,
) -> Vec<Result<String, SchemaMismatch>> {
    if let Err(too_long) = check_names::<D>(collection) {
        return vec![Err(too_long)];
    }
    let fields = collection.fields().iter();
    let missing = fields.filter(|field| table.column(&field.column, D::is_same_name).is_none());
    let add = |field: &Field| {
        // The times of rows that exist are not known. Null says so; any other default would be wrong.
        let null = if is_nullable(field) || field.is_timestamp() {
            ""
        } else if default_value(field).is_none() {
            let expected = "a default for the records that exist: #[serde(default)] on the field, or a field that may be null";
            return Err(mismatch(
                collection,
                &*field.name,
                "no such column",
                expected,
            ));
        } else {
            " not null"
        };
        let column = column::<D>(field, null, table.is_strict);
        Ok(format!(
            "alter table {} add column {column}",
            table.sql_name
        ))
    };
    missing.map(add).collect()
}

/// Whether the field's column must allow null.
pub(crate) fn is_nullable(field: &Field) -> bool {
    field.schema.nullable
}

fn default_value(field: &Field) -> Option<&serde_json::Value> {
    field.default.as_ref().filter(|default| !default.is_null())
}

/// A column as CREATE and ALTER TABLE declare it.
fn column<D: Dialect>(field: &Field, null: &str, is_strict: bool) -> String {
    let (kind, format) = D::column_type(&field.schema.kind, is_strict);
    let name = D::quote(&field.column);
    let default = default_value(field).map_or_else(String::new, |value| {
        format!(" default {}", D::literal(&D::encode(&format, value)))
    });
    format!("{name} {kind}{null}{default}")
}

/// The database cuts longer names off, and two of them may then be one.
fn check_names<D: Dialect>(collection: &Collection) -> Result<(), SchemaMismatch> {
    let Some(max) = D::MAX_NAME_BYTES else {
        return Ok(());
    };
    let fields = collection.fields().iter().map(|field| &*field.column);
    let tables = collection.table_name().split('.');
    let key = collection.key_columns().iter().map(String::as_str);
    let names = tables.chain(key).chain(fields);
    match names.into_iter().find(|name| name.len() > max) {
        None => Ok(()),
        Some(name) => {
            let found = format!("a name of {} bytes", name.len());
            let expected = format!("a name of at most {max} bytes");
            Err(mismatch(collection, name, found, expected))
        }
    }
}
