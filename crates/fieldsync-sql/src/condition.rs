//! The part of a query that the database decides.

use fieldsync::RecordId;
use fieldsync::backend::{FieldType, Narrowing};
use serde_json::Value;

use crate::dialect::{Dialect, Side};
use crate::layout::{Column, TableLayout};
use crate::value::SqlValue;

/// The most values that a database is asked for at once: the number of parameters is limited.
const MAX_VALUES: usize = 1000;

/// A condition on the rows of a table, and its parameters.
#[derive(Debug)]
pub struct Condition {
    /// The SQL.
    pub sql: String,
    /// The values of the parameters, in their order.
    pub parameters: Vec<SqlValue<'static>>,
}

impl<D: Dialect> TableLayout<D> {
    /// The condition that a row meets what a list is narrowed to. `None` if the database can't tell.
    ///
    /// `qualifier` is the table's SQL name, and `first` the number of the first parameter.
    #[must_use]
    pub fn condition(
        &self,
        narrowing: &Narrowing,
        qualifier: &str,
        first: usize,
    ) -> Option<Condition> {
        let mut parameters = Vec::new();
        let sql = self.narrowed(narrowing, qualifier, first, &mut parameters)?;
        Some(Condition { sql, parameters })
    }

    fn narrowed(
        &self,
        narrowing: &Narrowing,
        qualifier: &str,
        first: usize,
        parameters: &mut Vec<SqlValue<'static>>,
    ) -> Option<String> {
        let column = |field: &str| self.columns.iter().find(|column| column.field == field);
        match narrowing {
            Narrowing::IsNull(field) | Narrowing::IsNotNull(field) if field == "id" => None,
            Narrowing::OneOf(_, values) if values.len() > MAX_VALUES => None,
            // JSON has a null of its own.
            Narrowing::IsNull(field) if self.is_json(field) => None,
            Narrowing::IsNull(field) => Some(format!("{} is null", column(field)?.of(qualifier))),
            Narrowing::IsNotNull(field) => {
                Some(format!("{} is not null", column(field)?.of(qualifier)))
            }
            Narrowing::OneOf(field, ids) if field == "id" => {
                let [key] = self.key.as_slice() else {
                    return None;
                };
                let ids: Option<Vec<RecordId>> = ids.iter().map(id_of).collect();
                let conditions = ids?.into_iter().map(|id| {
                    let parameter = D::parameter(first + parameters.len());
                    parameters.push(D::encode_key(&key.format, &id));
                    D::key_condition(&key.format, &key.of(qualifier), &parameter)
                });
                Some(one_of(&key.of(qualifier), conditions.collect()))
            }
            Narrowing::OneOf(field, values) => {
                let column = column(field)?;
                let conditions = values.iter().map(|value| {
                    self.compared(column, Side::Equal, value, qualifier, first, parameters)
                });
                let conditions = conditions.collect::<Option<_>>()?;
                Some(one_of(&column.of(qualifier), conditions))
            }
            Narrowing::AtLeast(field, value) => {
                let side = Side::AtLeast;
                self.compared(column(field)?, side, value, qualifier, first, parameters)
            }
            Narrowing::AtMost(field, value) => {
                let side = Side::AtMost;
                self.compared(column(field)?, side, value, qualifier, first, parameters)
            }
            Narrowing::All(parts) => {
                let parts = parts
                    .iter()
                    .filter_map(|part| self.narrowed(part, qualifier, first, parameters));
                let parts: Vec<_> = parts.collect();
                (!parts.is_empty()).then(|| joined(parts, "and"))
            }
            Narrowing::Any(parts) => {
                let before = parameters.len();
                let parts = parts
                    .iter()
                    .map(|part| self.narrowed(part, qualifier, first, parameters));
                let parts: Option<Vec<_>> = parts.collect();
                if parts.is_none() {
                    parameters.truncate(before);
                }
                Some(joined(parts?, "or"))
            }
            _ => None,
        }
    }

    fn is_json(&self, field: &str) -> bool {
        let mut fields = self.definition.fields().iter();
        let found = fields.find(|known| known.name == field);
        found.is_some_and(|field| matches!(field.schema.kind, FieldType::Json(_)))
    }

    fn compared(
        &self,
        column: &Column<D>,
        side: Side,
        value: &Value,
        qualifier: &str,
        first: usize,
        parameters: &mut Vec<SqlValue<'static>>,
    ) -> Option<String> {
        let mut fields = self.definition.fields().iter();
        let field = fields.find(|field| field.name == column.field)?;
        let parameter = D::parameter(first + parameters.len());
        let name = column.of(qualifier);
        let sql = D::comparison(&column.format, &field.schema.kind, &name, side, &parameter)?;
        parameters.push(D::encode(&column.format, value).into_owned());
        Some(sql)
    }
}

/// The condition that one of these holds, of which each says that the column equals something.
fn one_of(column: &str, conditions: Vec<String>) -> String {
    let value = |condition: &String| {
        let rest = condition.strip_prefix(column)?.strip_prefix(" = ");
        rest.map(str::to_owned)
    };
    let values: Option<Vec<_>> = conditions.iter().map(value).collect();
    match values {
        // Databases read an index once for a list, but once for each part of an `or`.
        Some(values) if values.len() > 1 => format!("{column} in ({})", values.join(", ")),
        _ => joined(conditions, "or"),
    }
}

/// The conditions in parentheses. None of them is true if there is none.
fn joined(conditions: Vec<String>, word: &str) -> String {
    match conditions.len() {
        0 => "1 = 0".to_owned(),
        1 => conditions.into_iter().collect(),
        // In halves: databases limit how deep an expression is.
        count => {
            let mut first = conditions;
            let second = first.split_off(count / 2);
            format!("({} {word} {})", joined(first, word), joined(second, word))
        }
    }
}

fn id_of(value: &Value) -> Option<RecordId> {
    serde_json::from_value(value.clone()).ok()
}
