//! The tables of a database, and the collections that are made of them.

use std::collections::HashSet;

use fieldsync::Collection;
use fieldsync::backend::{
    ColumnDescription, LeftOut, SchemaMismatch, SetBy, StoreError, TableDescription,
};
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
    let described: Vec<_> = described.into_iter().filter(is_selected).collect();
    let mut names = HashSet::new();
    let mut tables = Vec::with_capacity(described.len());
    for description in described {
        let collection = Collection::from_description(&description);
        // A table whose name is one of a collection has it, whatever others are called.
        let has_its_name = |(collection, _): &(Collection, _)| {
            **collection.name() == description.name && names.insert(description.name.clone())
        };
        let is_named = collection.as_ref().is_ok_and(has_its_name);
        tables.push((description, collection, is_named));
    }
    let tables = tables
        .into_iter()
        .map(|(description, collection, is_named)| {
            let collection = collection.map(|(collection, left_out)| {
                let mut name = collection.name().to_string();
                if !is_named && !names.insert(name.clone()) {
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

/// How the collections are served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) is_captured: bool,
    pub(crate) is_read_only: bool,
}

/// Sets how the collections are served, and leaves out those that the database does not let be served so. Returns the SQL that the
/// start would run.
pub(crate) async fn fit(
    database: &Database,
    tables: &mut [Table],
    service: Service,
) -> Result<String, StoreError> {
    for table in &mut *tables {
        let is_view = table.description.is_view;
        table.change(|collection| {
            let collection = match service.is_captured && !is_view {
                true => collection.capture(),
                false => collection.without_capture(),
            };
            match service.is_read_only {
                true => collection.read_only(),
                false => collection,
            }
        });
    }
    loop {
        let collections: Vec<_> = tables.iter().filter_map(Table::served).cloned().collect();
        let mismatches = match database.ddl(&collections).await {
            Err(StoreError::Schema(mismatches)) => mismatches,
            done => return done,
        };
        let mut is_settled = true;
        for table in &mut *tables {
            if let Some(mismatch) = mismatches.iter().find(|one| table.is_meant_by(one)) {
                table.restrict(mismatch);
                is_settled = false;
            }
        }
        if is_settled {
            return Err(StoreError::Schema(mismatches));
        }
    }
}

impl Table {
    /// The collection, if the table can be served.
    pub(crate) fn served(&self) -> Option<&Collection> {
        self.collection
            .as_ref()
            .ok()
            .map(|(collection, _)| collection)
    }

    fn change(&mut self, change: impl FnOnce(Collection) -> Collection) {
        if let Ok((collection, _)) = &mut self.collection {
            *collection = change(collection.clone());
        }
    }

    fn is_meant_by(&self, mismatch: &SchemaMismatch) -> bool {
        let table = self.served().map(Collection::table_name);
        table.is_some_and(|table| {
            table == mismatch.table || self.description.qualified_name() == mismatch.table
        })
    }

    /// Serves a table that does not fit without new records, or not at all.
    fn restrict(&mut self, mismatch: &SchemaMismatch) {
        if self.served().is_some_and(Collection::is_creatable) {
            self.change(Collection::no_create);
            return;
        }
        let SchemaMismatch {
            column,
            found,
            expected,
            ..
        } = mismatch;
        let column = column.as_ref().map(|column| format!("column {column}: "));
        let reason = format!(
            "{}found {found}, expected {expected}",
            column.unwrap_or_default()
        );
        // What an app would write is an option here.
        let reason = reason
            .replace(".without_capture()", "--without-capture")
            .replace(".capture()", "--capture");
        self.collection = Err(reason);
    }

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
