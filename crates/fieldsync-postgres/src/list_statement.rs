//! The statement that reads a page of records, and its rows.

use fieldsync::backend::{Listing, PageLimit, RecordPage};
use fieldsync_sql::{Row as _, SqlValue, missing_head};
use tokio_postgres::Row;

use crate::dialect::Table;
use crate::error::Failure;
use crate::value::{Parameter, PostgresRow};

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

/// The page in the rows of such a statement, or of one that reads a single record.
pub(crate) fn record_page(table: &Table, rows: &[Row]) -> Result<RecordPage, Failure> {
    let first = rows.first();
    let first = first.ok_or_else(|| missing_head(&table.collection))?;
    let head = fieldsync_sql::head(&PostgresRow(first), 0)?;
    let (mut records, mut more) = (Vec::with_capacity(rows.len()), false);
    for row in rows {
        // A table without records gives one row, without a record.
        if !matches!(PostgresRow(row).value(4), Ok(SqlValue::Null)) {
            records.extend(table.readable(&PostgresRow(row), 4));
            more = row.try_get::<_, Option<bool>>(3)?.is_some();
        }
    }
    Ok(RecordPage {
        records,
        more,
        head,
    })
}
