//! The dialect: everything about a database's SQL that the shared code must know.

use std::fmt::Debug;

use fieldsync::RecordId;
use fieldsync::backend::{FieldType, Ids};
use serde_json::Value;

use crate::catalog::{ColumnInfo, DeclaredType};
use crate::value::SqlValue;

/// How a column compares with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It equals the value.
    Equal,
    /// It is the value, or greater.
    AtLeast,
    /// It is the value, or less.
    AtMost,
}

impl Side {
    /// The operator in SQL.
    #[must_use]
    pub fn operator(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
        }
    }
}

/// A column, as rows are ordered by it.
#[derive(Debug)]
pub struct SortColumn {
    /// The expression that rows are ordered by.
    pub column: String,
    /// The parameter, as it compares with that.
    pub parameter: String,
}

/// The SQL of one database. Implemented by a type without values; all functions are pure.
pub trait Dialect: Debug + Send + Sync + Sized + 'static {
    /// How a column stores the values of its field.
    type Format: Debug + Clone + Send + Sync;

    /// The text of the driver's own statements for a table.
    type TableStatements: Debug + Send + Sync;

    /// The text of the driver's own statements for the side tables.
    type SideStatements: Debug + Send + Sync;

    /// The most bytes of a table's or column's name, if the database cuts longer names off.
    const MAX_NAME_BYTES: Option<usize>;

    /// The query for the id of the last row inserted, if INSERT and UPDATE have no RETURNING clause. The row is then selected
    /// after it was written.
    const LAST_INSERT_ID: Option<&'static str>;

    /// What follows a SELECT that locks its rows, unless one transaction writes at a time.
    const FOR_UPDATE: &'static str;

    /// What follows `insert into …` for a row of defaults.
    const EMPTY_INSERT: &'static str = "default values";

    /// What stands before `values` in an insert that sets a key which the database usually gives.
    const INSERT_WITH_ID: &'static str = "";

    /// Whether the driver captures what others write.
    const CAPTURES: bool;

    /// Whether an ascending order ends with null, unless it says otherwise.
    const NULL_IS_LARGEST: bool;

    /// The types of the side tables' columns.
    const SIDE_TABLE_TYPES: SideTableTypes;

    /// An expression for a random integer of 64 bits that is not zero.
    const RANDOM_INTEGER: &'static str;

    /// An expression for 64 hexadecimal digits from a random number generator that is fit for keys.
    const RANDOM_SECRET: &'static str;

    /// The driver's own statements for the side tables. `render` qualifies the names of the side tables.
    fn side_statements(render: &dyn Fn(&str) -> String) -> Self::SideStatements;

    /// Quotes the name of a column or table.
    fn quote(name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    /// The parameter with this number, counted from 1.
    fn parameter(number: usize) -> String;

    /// Whether two names are the same to the database.
    fn is_same_name(one: &str, other: &str) -> bool {
        one == other
    }

    /// A value as a literal, for the default of a column.
    fn literal(value: &SqlValue<'_>) -> String {
        match value {
            SqlValue::Integer(number) => number.to_string(),
            SqlValue::Real(number) => Value::from(*number).to_string(),
            SqlValue::Text(text) => format!("'{}'", text.replace('\'', "''")),
            SqlValue::Null | SqlValue::Bytes(_) => "null".to_owned(),
        }
    }

    /// The type of a key column that fieldsync creates: `bigint`.
    fn key_type(ids: Ids) -> &'static str;

    /// What follows the name of a key column that fieldsync creates: `bigint … primary key`.
    fn key_declaration(ids: Ids) -> &'static str;

    /// The type of a column that fieldsync creates, and how it stores values. `is_strict`: see [`TableInfo`](crate::TableInfo).
    fn column_type(field: &FieldType, is_strict: bool) -> (String, Self::Format);

    /// How a column of this type stores the values of a field.
    ///
    /// # Errors
    /// If the type does not hold all values of the field: the types that do.
    fn format(field: &FieldType, declared: &DeclaredType) -> Result<Self::Format, String>;

    /// How a key column stores ids. `gives_ids`: whether the database must give ids to new rows.
    ///
    /// # Errors
    /// If the column cannot store the ids, or cannot give any.
    fn key_format(
        ids: Ids,
        column: &ColumnInfo,
        gives_ids: bool,
    ) -> Result<Self::Format, KeyMismatch>;

    /// The expression that reads a column, for [`decode`](Self::decode).
    fn read_expression(_format: &Self::Format, column: &str) -> String {
        column.to_owned()
    }

    /// The expression that turns a parameter of [`encode`](Self::encode) into the column's type.
    fn write_expression(_format: &Self::Format, parameter: &str) -> String {
        parameter.to_owned()
    }

    /// The parameter for a field's value.
    fn encode<'a>(format: &Self::Format, value: &'a Value) -> SqlValue<'a>;

    /// A field's value from its column. A value that does not fit the field is returned as it is stored.
    fn decode(format: &Self::Format, value: SqlValue<'_>) -> Value;

    /// The expression that reads a key column, for [`decode_key`](Self::decode_key).
    fn key_expression(format: &Self::Format, column: &str) -> String {
        Self::read_expression(format, column)
    }

    /// The condition that a key column has the value of a parameter of [`encode_key`](Self::encode_key).
    fn key_condition(format: &Self::Format, column: &str, parameter: &str) -> String {
        format!("{column} = {}", Self::write_expression(format, parameter))
    }

    /// The value of a parameter, as rows are ordered by it. `qualifier` is the table's SQL name.
    fn key_position(
        format: &Self::Format,
        _column: &str,
        _qualifier: &str,
        parameter: &str,
    ) -> String {
        Self::write_expression(format, parameter)
    }

    /// The condition that a column has, or is at least or at most, the value of a parameter of [`encode`](Self::encode). Every row whose
    /// value compares so as fieldsync compares it must meet the condition; other rows may. `None` where the database can't promise that,
    /// or has no such comparison.
    fn comparison(
        _format: &Self::Format,
        _field: &FieldType,
        _column: &str,
        _side: Side,
        _parameter: &str,
    ) -> Option<String> {
        None
    }

    /// A column of a field, as rows are ordered by it, and a parameter of [`encode`](Self::encode), as it compares with that. The order must be
    /// that of fieldsync: by value, and of text by code point. Where an index of the column serves it, that must be found.
    fn sorted(
        format: &Self::Format,
        _field: &FieldType,
        column: &str,
        parameter: &str,
    ) -> SortColumn {
        SortColumn {
            column: column.to_owned(),
            parameter: Self::write_expression(format, parameter),
        }
    }

    /// The condition that a column of a field stands so to a parameter of [`encode_sorted`](Self::encode_sorted), as rows are ordered by it. The
    /// operator is one of `=`, `<`, `<=`, `>` and `>=`.
    fn compare_sorted(
        format: &Self::Format,
        field: &FieldType,
        column: &str,
        operator: &str,
        parameter: &str,
    ) -> String {
        let SortColumn { column, parameter } = Self::sorted(format, field, column, parameter);
        format!("{column} {operator} {parameter}")
    }

    /// The parameter for a value, as rows are ordered by it.
    fn encode_sorted(format: &Self::Format, value: &Value) -> SqlValue<'static> {
        Self::encode(format, value).into_owned()
    }

    /// Whether a value is stored in the form in which the column's other values are, so that they have their order.
    fn is_in_form(_format: &Self::Format, _stored: &SqlValue<'_>, _value: &Value) -> bool {
        true
    }

    /// A key column, as records that are otherwise equal are ordered by it, and a parameter of
    /// [`encode_sorted_key`](Self::encode_sorted_key).
    fn sorted_key(format: &Self::Format, _ids: Ids, column: &str, parameter: &str) -> SortColumn {
        SortColumn {
            column: column.to_owned(),
            parameter: Self::write_expression(format, parameter),
        }
    }

    /// The parameter for the id of a key column, or for its part of an id, as records are ordered by it.
    fn encode_sorted_key(format: &Self::Format, _ids: Ids, id: &RecordId) -> SqlValue<'static> {
        Self::encode_key(format, id)
    }

    /// The parameter for the id of a key column, or for its part of an id.
    fn encode_key(_format: &Self::Format, id: &RecordId) -> SqlValue<'static> {
        Self::encode_id(id)
    }

    /// The text of a key column's value in an id, or `None` if it can't be one.
    fn decode_key(_format: &Self::Format, value: &SqlValue<'_>) -> Option<String> {
        match value {
            SqlValue::Integer(number) => Some(number.to_string()),
            SqlValue::Text(text) => Some(text.to_string()),
            SqlValue::Null | SqlValue::Real(_) | SqlValue::Bytes(_) => None,
        }
    }

    /// The parameter for an id, in the side tables.
    fn encode_id(id: &RecordId) -> SqlValue<'static> {
        SqlValue::text(id.to_string())
    }

    /// The query for several new ids, one per row. The parameter is their number, `next_id` the expression for one. The ids
    /// are used in the same transaction.
    fn reserve_ids(next_id: &str) -> String;

    /// What follows `insert into fieldsync_… (…)`, with a parameter per column.
    fn values(columns: &[ValueKind]) -> String {
        let parameters: Vec<String> = (1..=columns.len()).map(Self::parameter).collect();
        format!("values ({})", parameters.join(", "))
    }

    /// What follows an insert into a side table to replace the row with the same key. The names are quoted.
    fn replace_on_conflict(key: &[String], others: &[String]) -> String {
        let sets = others
            .iter()
            .map(|column| format!("{column} = excluded.{column}"));
        let sets = sets.collect::<Vec<_>>().join(", ");
        format!("on conflict ({}) do update set {sets}", key.join(", "))
    }
}

/// How a database declares the columns of the side tables.
#[derive(Debug, Clone, Copy)]
pub struct SideTableTypes {
    /// A signed integer of 64 bits.
    pub integer: &'static str,
    /// Text of any length.
    pub text: &'static str,
    /// Text in a key, of at most 255 characters.
    pub key: &'static str,
    /// A record's id, as [`Dialect::encode_id`] writes it.
    pub id: &'static str,
    /// What follows the columns of `fieldsync_heads`, for columns of the driver's own.
    pub heads: &'static str,
    /// What follows a table's closing parenthesis.
    pub options: &'static str,
    /// Whether there is `create index if not exists`. Without it the driver creates the side tables only if they are
    /// missing.
    pub has_index_if_not_exists: bool,
}

/// The type of a side table's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Text, or what [`Dialect::encode_id`] makes of an id.
    Text,
    /// A signed integer of 64 bits.
    Integer,
}

/// A key column that does not fit its collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMismatch {
    /// What was found, if more is to say than the column's type.
    pub found: Option<String>,
    /// What would fit, or what to do.
    pub expected: String,
}

impl KeyMismatch {
    /// A column of another type.
    #[must_use]
    pub fn expected(expected: impl Into<String>) -> Self {
        Self {
            found: None,
            expected: expected.into(),
        }
    }
}
