//! The names of a collection: which ones a path, a table or a column can't have.

use std::collections::HashSet;

use crate::schema::field::Field;

/// Why a collection can't have these names.
pub(crate) fn name_fault(
    name: &str,
    table: &str,
    key_columns: &[String],
    fields: &[Field],
) -> Option<String> {
    let mut names = HashSet::new();
    // Several key columns are fields.
    if let [key_column] = key_columns {
        names.insert(key_column.to_lowercase());
    }
    let duplicate = fields
        .iter()
        .find(|field| !names.insert(field.column.to_lowercase()));
    if !is_path_segment(name) {
        Some(format!(
            "the name {name:?} must consist of letters, digits, '_' and '-'"
        ))
    } else if table.to_lowercase().starts_with("fieldsync_") {
        Some(format!(
            "the table name {table:?} begins with fieldsync_, which is reserved for fieldsync's own tables"
        ))
    } else if let Some(field) = fields.iter().find(|field| field.name == "id") {
        Some(format!(
            "field {:?} is reserved for the id, which fieldsync adds: leave it out of the type",
            field.name
        ))
    } else if let Some(field) = duplicate {
        Some(format!(
            "field {:?} is defined twice, ignoring case; the key column, created_at and updated_at count as fields",
            field.name
        ))
    } else {
        let unusable = fields.iter().find(|field| {
            field.name.is_empty() || field.name.len() > 63 || field.name.contains('\0')
        });
        unusable.map(|field| {
            format!(
                "field {:?} can't be a column: its name must have 1 to 63 bytes and no NUL",
                field.name
            )
        })
    }
}

fn is_path_segment(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
