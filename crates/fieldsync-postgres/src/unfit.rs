//! Tables that can't be captured, or written: a start refuses them.

use std::collections::HashSet;

use deadpool_postgres::Transaction;
use fieldsync::Collection;
use fieldsync::backend::SchemaMismatch;
use fieldsync_sql::{TableInfo, TableKind};

use crate::capture_state::{CapturedTable, states};
use crate::catalog::first;
use crate::error::Failure;
use crate::oids::with_oids;

/// Why these tables can't have capture. `row_security`: the logs of those whose rows may be hidden.
pub(crate) async fn capture(
    transaction: &Transaction<'_>,
    schema: &str,
    captured: &[CapturedTable],
    row_security: &HashSet<String>,
) -> Result<Vec<SchemaMismatch>, Failure> {
    let mut unfit = Vec::new();
    let states = states(&**transaction, schema, captured).await?;
    for (table, state) in captured.iter().zip(states) {
        if row_security.contains(&table.log) {
            unfit.push(hidden_rows(&table.log));
        }
        unfit.extend(
            state
                .children
                .map(|children| inherited(&table.log, &children)),
        );
    }
    Ok(unfit)
}

/// Why rules keep a collection's table from being written.
pub(crate) async fn rules(
    transaction: &Transaction<'_>,
    collection: &Collection,
    table: &TableInfo,
) -> Result<Option<SchemaMismatch>, Failure> {
    if !matches!(table.kind, TableKind::Table) {
        return Ok(None);
    }
    let rules = replacing_rules(transaction, table, collection.is_creatable()).await?;
    Ok(rules.map(|rules| replaced(&table.log, &rules)))
}

/// The rules of a table that replace statements which fieldsync runs with RETURNING, with what they are for.
async fn replacing_rules(
    transaction: &Transaction<'_>,
    table: &TableInfo,
    may_insert: bool,
) -> Result<Option<String>, Failure> {
    let sql = "select string_agg(format('%s (on %s)', rulename, case ev_type when '2' then 'update' else 'insert' end), ', ' \
                 order by rulename) \
               from pg_rewrite where ev_class = oid_of($1) and is_instead and ev_enabled <> 'D' \
                 and (ev_type = '2' or ev_type = '3' and $2)";
    first(
        transaction,
        &with_oids(sql),
        &[&table.sql_name, &may_insert],
    )
    .await
}

/// Rows that the role does not see would be announced as deleted.
fn hidden_rows(log: &str) -> SchemaMismatch {
    SchemaMismatch {
        table: log.to_owned(),
        column: None,
        found: "row-level security, which may hide rows from this role".to_owned(),
        expected: "a role with BYPASSRLS for .capture(), or .without_capture()".to_owned(),
    }
}

/// Reads of the table include the rows of what inherits from it, whose changes fire no trigger of the table.
fn inherited(log: &str, children: &str) -> SchemaMismatch {
    SchemaMismatch {
        table: log.to_owned(),
        column: None,
        found: format!("that {children} inherits from it"),
        expected: "no inheritance, or .without_capture(); partitions are captured".to_owned(),
    }
}

/// The database refuses RETURNING where a rule replaces the statement.
fn replaced(log: &str, rules: &str) -> SchemaMismatch {
    SchemaMismatch {
        table: log.to_owned(),
        column: None,
        found: format!("a rule that replaces statements: {rules}"),
        expected: "a trigger instead; of rules, `on delete` may replace the statement, and the others may add to it"
            .to_owned(),
    }
}
