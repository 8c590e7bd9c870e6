//! The statement that reads a page of records.

use fieldsync::backend::{Listing, PageLimit};

use crate::dialect::Table;
use crate::value::Parameter;

/// The statement, and its parameters. The limit stands in place of the listing's.
pub(crate) fn list_statement(
    table: &Table,
    listing: &Listing,
    limit: PageLimit,
) -> (String, Vec<Parameter<'static>>) {
    let integer = |limit: usize| Parameter::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
    let mut parameters = vec![
        Parameter::text(table.log.to_string()),
        integer(limit.rows),
        integer(limit.bytes),
    ];
    let rows = table.page_rows(listing, &table.sql_name, parameters.len() + 1);
    parameters.extend(rows.parameters.into_iter().map(Parameter::from));
    let [before, behind] = &table.own.list;
    let (filter, order) = (rows.filter, rows.order);
    let sql = format!("{before}{filter} order by {order}{behind}");
    (sql, parameters)
}
