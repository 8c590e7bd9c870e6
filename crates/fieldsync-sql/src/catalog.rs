//! What a database's catalog says about a table. The driver reads it; the shared code decides on it.

use std::collections::HashMap;

/// A table, or what else has its name.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// The name as the catalog has it.
    pub name: String,
    /// The name of its log: the name, with the schema where the database has schemas.
    pub log: String,
    /// The name as SQL: quoted, with the schema where the database has schemas.
    pub sql_name: String,
    /// What it is.
    pub kind: TableKind,
    /// Whether the database allows few types for its columns: SQLite's STRICT.
    pub is_strict: bool,
    /// The columns, in their order.
    pub columns: Vec<ColumnInfo>,
    /// The columns of the primary key.
    pub primary_key: Vec<String>,
    /// The columns of each unique index that covers all rows and is checked at once.
    pub unique_keys: Vec<Vec<String>>,
    /// The foreign keys of the table.
    pub foreign_keys: Vec<ForeignKeyInfo>,
    /// The columns of each constraint and unique index whose errors contain its name.
    pub constraints: HashMap<String, Vec<String>>,
    /// What capture would run on the table, for the message that asks for a choice.
    pub capture: Vec<String>,
    /// How new rows get ids, if those of the database itself repeat after a delete.
    pub id_source: Option<IdSource>,
    /// An expression for the id of a new row, if the database gives ids.
    pub next_id: Option<String>,
}

/// A foreign key of a table.
#[derive(Debug, Clone)]
pub struct ForeignKeyInfo {
    /// The columns that refer to another table.
    pub columns: Vec<String>,
    /// The name of the log that the other table has as a collection's.
    pub target: String,
    /// The columns of the other table that have the same values, in the order of `columns`.
    pub target_columns: Vec<String>,
}

/// SQL that gives ids where the database would give the id of a deleted row again.
#[derive(Debug, Clone)]
pub struct IdSource {
    /// An expression for the id of a new row.
    pub next: String,
    /// A statement that runs after a delete. The parameter is the id of the deleted row.
    pub keep: String,
}

/// What a name in the catalog stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// An ordinary table.
    Table,
    /// Something that can only be read, with its article: `a view`.
    View(&'static str),
    /// Something that fieldsync cannot use, with its article.
    Other(&'static str),
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct ColumnInfo {
    /// The name.
    pub name: String,
    /// The type.
    pub declared: DeclaredType,
    /// Whether the column refuses null.
    pub is_not_null: bool,
    /// Whether an insert may leave the column out although it refuses null.
    pub has_default: bool,
    /// Whether an insert or update cannot set the column.
    pub is_generated: bool,
}

/// The type of a column: `varchar(100)` is `varchar` with the length 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredType {
    /// The name, in lower case.
    pub name: String,
    /// The length or precision.
    pub length: Option<usize>,
    /// The type as messages show it, and as SQL names it.
    pub shown: String,
    /// What kind of type it is.
    pub kind: TypeKind,
    /// A value that the column holds, as text, where the type does not say how the column stores its values.
    pub sample: Option<String>,
}

/// The kind of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// One value.
    Scalar,
    /// One of these labels.
    Enum(Vec<String>),
    /// An array.
    Array,
    /// A row of named values.
    Composite,
}

impl DeclaredType {
    /// Takes a declaration apart: `VARCHAR(100)`, `integer unsigned`, `numeric(10, 2)`.
    #[must_use]
    pub fn parse(declared: &str) -> Self {
        let declared = declared.to_ascii_lowercase();
        let (before, rest) = declared.split_once('(').unwrap_or((&declared, ""));
        let (arguments, after) = rest.split_once(')').unwrap_or((rest, ""));
        let words = before.split_whitespace().chain(after.split_whitespace());
        let length = arguments.split(',').next();
        Self {
            name: words.collect::<Vec<_>>().join(" "),
            length: length.and_then(|length| length.trim().parse().ok()),
            shown: if declared.is_empty() {
                "a column without a type".to_owned()
            } else {
                declared
            },
            kind: TypeKind::Scalar,
            sample: None,
        }
    }

    /// Whether the column's length admits every text of at most `length` code points, or of any length for `None`.
    #[must_use]
    pub fn admits_length(&self, length: Option<usize>) -> bool {
        self.length
            .is_none_or(|max| length.is_some_and(|length| length <= max))
    }
}

/// The most code points that a text field may have: its `maxLength`, or the length of its longest enum value.
#[must_use]
pub fn text_length(max_length: Option<usize>, one_of: Option<&[String]>) -> Option<usize> {
    max_length.or_else(|| one_of?.iter().map(|value| value.chars().count()).max())
}

impl TableInfo {
    pub(crate) fn column(
        &self,
        name: &str,
        is_same_name: fn(&str, &str) -> bool,
    ) -> Option<&ColumnInfo> {
        self.columns
            .iter()
            .find(|column| is_same_name(&column.name, name))
    }
}
