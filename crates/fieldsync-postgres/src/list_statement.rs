//! The statement that reads a page of records.

use fieldsync::RecordId;
use fieldsync::backend::{Narrowing, PageLimit};

use crate::dialect::Table;
use crate::value::Parameter;

/// The statement, and its parameters.
pub(crate) fn list_statement(
    table: &Table,
    after: Option<&RecordId>,
    limit: PageLimit,
    narrowing: Option<&Narrowing>,
) -> (String, Vec<Parameter<'static>>) {
    let integer = |limit: usize| Parameter::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
    let mut parameters = vec![
        Parameter::text(table.log.to_string()),
        integer(limit.rows),
        integer(limit.bytes),
    ];
    let mut conditions = Vec::new();
    if let Some(after) = after {
        parameters.extend(table.key_values(after).into_iter().map(Parameter::from));
        conditions.push(table.own.follows.clone());
    }
    let first = parameters.len() + 1;
    let condition =
        narrowing.and_then(|narrowing| table.condition(narrowing, &table.sql_name, first));
    if let Some(condition) = condition {
        parameters.extend(condition.parameters.into_iter().map(Parameter::from));
        conditions.push(condition.sql);
    }
    let word = if conditions.is_empty() { "" } else { "where " };
    let [before, behind] = &table.own.list;
    let sql = format!("{before}{word}{}{behind}", conditions.join(" and "));
    (sql, parameters)
}
