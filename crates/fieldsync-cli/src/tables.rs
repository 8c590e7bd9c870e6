//! The tables of a database, and the collections that are made of them.

use std::collections::HashSet;

use fieldsync::Collection;
use fieldsync::backend::{ColumnDescription, LeftOut, SetBy, TableDescription};
use serde_json::{Map, Value, json};

use crate::arguments::Selection;
use crate::database::Database;

/// A table, and the collection that was made of it or why none was.
pub(crate) struct Table {
    pub(crate) description: TableDescription,
    pub(crate) collection: Result<(Collection, Vec<LeftOut>), String>,
}

/// The tables that the command line selects.
pub(crate) async fn selected(
    database: &Database,
    selection: &Selection,
) -> Result<Vec<Table>, String> {
    let described = database.tables().await?;
    for schema in &selection.schema {
        if !described
            .iter()
            .any(|table| table.schema.as_ref() == Some(schema))
        {
            return Err(format!(
                "--schema {schema}: no such schema, or it has no tables"
            ));
        }
    }
    let is_named = |table: &TableDescription, name: &String| {
        table.name == *name || table.qualified_name() == *name
    };
    for name in &selection.table {
        if !described.iter().any(|table| is_named(table, name)) {
            let names: Vec<_> = described
                .iter()
                .map(TableDescription::qualified_name)
                .collect();
            return Err(format!(
                "--table {name}: no such table; there are {}",
                names.join(", ")
            ));
        }
    }
    let is_selected = |table: &TableDescription| {
        if !selection.table.is_empty() {
            return selection.table.iter().any(|name| is_named(table, name));
        }
        match &table.schema {
            None => true,
            Some(schema) if selection.schema.is_empty() => schema == "public",
            Some(schema) => selection.schema.contains(schema),
        }
    };
    let mut names = HashSet::new();
    let tables = described
        .into_iter()
        .filter(is_selected)
        .map(|description| {
            let collection =
                Collection::from_description(&description).map(|(collection, left_out)| {
                    let mut name = collection.name().to_string();
                    if !names.insert(name.clone()) {
                        let schema = description.schema.as_deref().unwrap_or_default();
                        name = format!("{schema}_{name}");
                        while !names.insert(name.clone()) {
                            name.push('_');
                        }
                    }
                    (collection.named(&name).open_to_everyone(), left_out)
                });
            Table {
                description,
                collection,
            }
        });
    Ok(tables.collect())
}

impl Table {
    /// The number of columns that are served, and of all columns.
    pub(crate) fn columns(&self) -> (usize, usize) {
        let all = self.description.columns.len();
        match &self.collection {
            Ok((_, left_out)) => (all - left_out.len(), all),
            Err(_) => (0, all),
        }
    }

    /// What `GET /api/` says of the table.
    pub(crate) fn to_json(&self) -> Value {
        let description = &self.description;
        let mut json = Map::new();
        json.insert("table".into(), description.qualified_name().into());
        json.insert("rows".into(), json!(description.rows));
        json.insert("view".into(), description.is_view.into());
        json.insert("key".into(), json!(description.key));
        json.insert("effects".into(), json!(description.effects));
        match &self.collection {
            Err(reason) => {
                json.insert("reason".into(), reason.clone().into());
            }
            Ok((collection, left_out)) => {
                let fields = collection.fields().iter().map(|field| {
                    let column = description
                        .columns
                        .iter()
                        .find(|one| one.name == field.column);
                    json!({
                        "name": field.name,
                        "column": field.column,
                        "type": column.map(|column: &ColumnDescription| column.sql_type.as_str()),
                        "schema": field.schema.to_json_schema(),
                        "nullable": field.schema.nullable,
                        "read_only": !matches!(field.set_by, SetBy::Writer),
                        "set_on_create": matches!(field.set_by, SetBy::Writer | SetBy::Creator),
                        "has_default": field.has_database_default || field.default.is_some(),
                    })
                });
                json.insert("name".into(), (**collection.name()).into());
                json.insert("fields".into(), fields.collect());
                json.insert("creatable".into(), collection.is_creatable().into());
                json.insert("writable".into(), collection.is_writable().into());
                json.insert(
                    "ids".into(),
                    json!({
                        "type": format!("{:?}", collection.ids()).to_lowercase(),
                        "given_by": format!("{:?}", collection.ids_given_by()).to_lowercase(),
                    }),
                );
                let left_out = left_out.iter().map(|column| {
                    json!({"column": column.column, "type": column.sql_type, "reason": column.reason})
                });
                json.insert("left_out".into(), left_out.collect());
            }
        }
        Value::Object(json)
    }
}
