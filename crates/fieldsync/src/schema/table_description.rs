//! Collections that are made of tables as the database has them.

use serde_json::Value;

use crate::schema::collection::Collection;
use crate::schema::field::{Field, Ids, IdsGivenBy, SetBy};
use crate::schema::field_type::{FieldType, Schema};

/// A table or a view, as its database describes it: what [`Collection::from_table`] makes a collection of.
#[derive(Debug, Clone)]
pub struct TableDescription {
    /// The schema, if the database has schemas.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
    /// Whether it can only be read: a view.
    pub is_view: bool,
    /// The columns, in their order.
    pub columns: Vec<ColumnDescription>,
    /// The columns that identify a row: the primary key, or else those of a unique index that allow no null.
    pub key: Vec<String>,
    /// The approximate number of rows, if the database knows it.
    pub rows: Option<u64>,
    /// What the database itself changes when rows of this table change: foreign keys such as `books: on delete cascade`, and
    /// triggers.
    pub effects: Vec<String>,
}

/// A column, as its database describes it.
#[derive(Debug, Clone)]
pub struct ColumnDescription {
    /// The name.
    pub name: String,
    /// The type, as SQL writes it.
    pub sql_type: String,
    /// The field that fits the column. `None` if none does, or if the role may not read the column.
    pub field: Option<FieldType>,
    /// The ids that the column can hold as a key, if each value has one text.
    pub ids: Option<Ids>,
    /// Whether the column also holds values that its field has no standard form for: see [`Schema::special_values`].
    pub has_special_values: bool,
    /// Whether the column allows null.
    pub is_nullable: bool,
    /// Whether the database gives a value where an insert leaves the column out.
    pub has_default: bool,
    /// Whether nobody but the database sets the column.
    pub is_generated: bool,
}

impl TableDescription {
    /// The name of the table for [`Collection::table`].
    #[must_use]
    pub fn qualified_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Why no collection can be made of the table.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let key = self.key.iter().map(|name| self.column(name));
        if self.name.contains('.') || self.schema.as_ref().is_some_and(|name| name.contains('.')) {
            return Some("its name has a dot".to_owned());
        }
        if self.key.is_empty() {
            return Some(if self.is_view {
                "a view has no key: name its key columns with .key([…])".to_owned()
            } else {
                "it has neither a primary key nor a unique index on columns that are not null"
                    .to_owned()
            });
        }
        for column in key {
            match column {
                Some(column) if column.ids.is_some() => {}
                Some(column) => {
                    return Some(format!(
                        "its key column {:?} has the type {}",
                        column.name, column.sql_type
                    ));
                }
                None => return Some("its key is not among its columns".to_owned()),
            }
        }
        None
    }

    fn column(&self, name: &str) -> Option<&ColumnDescription> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Why a column is no field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The column.
    pub column: String,
    /// Its type.
    pub sql_type: String,
    /// The reason.
    pub reason: String,
}

impl Collection {
    /// Makes a collection of a table as its database describes it, with every column that a field fits. The collection has the
    /// name of the table; characters that a path can't have become `_`. Its key columns, types, defaults and generated columns
    /// are those of the table.
    ///
    /// # Errors
    /// Why the table can't be a collection.
    pub fn from_description(table: &TableDescription) -> Result<(Self, Vec<LeftOut>), String> {
        if let Some(fault) = table.fault() {
            return Err(fault);
        }
        let (mut fields, mut left_out) = (Vec::new(), Vec::new());
        let single_key = match table.key.as_slice() {
            [key] => table.column(key),
            _ => None,
        };
        for column in &table.columns {
            if single_key.is_some_and(|key| key.name == column.name) {
                continue;
            }
            match field(table, column) {
                Ok(field) => fields.push(field),
                Err(reason) => left_out.push(LeftOut {
                    column: column.name.clone(),
                    sql_type: column.sql_type.clone(),
                    reason,
                }),
            }
        }
        let gives = single_key.is_some_and(|key| key.has_default || key.is_generated);
        let (ids, given_by) = match single_key.and_then(|key| key.ids) {
            Some(Ids::Integer) if gives => (Ids::Integer, IdsGivenBy::Database),
            Some(Ids::Integer) => (Ids::Integer, IdsGivenBy::Creator),
            Some(Ids::UuidV7) => (Ids::UuidV7, IdsGivenBy::Engine),
            _ if gives => (Ids::Text, IdsGivenBy::Database),
            _ => (Ids::Text, IdsGivenBy::Creator),
        };
        let name: String = table.name.chars().map(in_path).collect();
        let collection = Self::with_fields_of_table(
            &name,
            table.qualified_name(),
            table.key.clone(),
            (ids, given_by),
            fields,
        );
        let collection = if table.is_view {
            collection.read_only()
        } else {
            collection
        };
        match collection.fault() {
            Some(fault) => Err(fault.to_owned()),
            None => Ok((collection, left_out)),
        }
    }
}

fn in_path(character: char) -> char {
    if character.is_ascii_alphanumeric() || matches!(character, '_' | '-') {
        character
    } else {
        '_'
    }
}

/// The field of a column, or why it has none.
fn field(table: &TableDescription, column: &ColumnDescription) -> Result<Field, String> {
    let Some(kind) = column.field.clone() else {
        return Err("the role may not read the column".to_owned());
    };
    // The id has this name.
    let mut name = column.name.clone();
    while name == "id" || name != column.name && table.column(&name).is_some() {
        name.push('_');
    }
    let schema = Schema {
        special_values: column.has_special_values,
        ..Schema::new(kind, column.is_nullable)
    };
    Ok(Field {
        default: (column.is_nullable && !column.has_default).then_some(Value::Null),
        column: column.name.clone(),
        has_database_default: column.has_default,
        set_by: if column.is_generated {
            SetBy::Database
        } else if table.key.contains(&column.name) {
            SetBy::Creator
        } else {
            SetBy::Writer
        },
        ..Field::new(&name, schema)
    })
}
