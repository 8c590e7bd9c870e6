//! Why PostgreSQL refused a write, and which fields that is about.

use deadpool_postgres::Object;
use fieldsync::backend::Write;
use fieldsync_sql::{Column, Constraint, Dialect as _, Rejection};
use serde_json::Value;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::column_types::Format;
use crate::dialect::{Postgres, Table};
use crate::error::text_of;
use crate::pipeline::{Step, in_order};
use crate::value::Parameter;

/// The smallest values that may not fit an index: a third of a page, which compression may make smaller.
const LONG_VALUE: usize = 2000;

/// Why PostgreSQL refused a write. Its transaction is rolled back.
pub(crate) async fn rejection(
    client: &Object,
    table: &Table,
    write: &Write,
    error: &Error,
) -> Rejection {
    let Some(refused) = error
        .as_db_error()
        .filter(|refused| is_about_value(refused))
    else {
        return deferred(table, write, error);
    };
    let fields = unfit(client, table, write).await;
    // Otherwise a function of the app failed on the values.
    if fields.is_empty() && refused.where_().is_some() {
        return Rejection::Failed(text_of(error));
    }
    Rejection::Constraint(Constraint::Check, fields)
}

/// Why PostgreSQL refused a write at COMMIT, or at the end of its statement.
pub(crate) fn deferred(table: &Table, write: &Write, error: &Error) -> Rejection {
    let Some(refused) = error.as_db_error() else {
        return Rejection::Failed(text_of(error));
    };
    let code = refused.code();
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        Rejection::Denied(text_of(error))
    } else if is_raised(refused) {
        let column = refused.column().filter(|_| is_about(table, refused));
        Rejection::Raised {
            message: refused.message().to_owned(),
            field: column.and_then(|column| table.fields_among(&[column]).pop()),
        }
    } else if *code == SqlState::PROGRAM_LIMIT_EXCEEDED && is_about(table, refused) {
        Rejection::Constraint(Constraint::Check, too_long(table, write, refused))
    } else if let Some(constraint) = constraint_of(code.code()) {
        violated(table, write, refused, constraint, error)
    } else {
        Rejection::Failed(text_of(error))
    }
}

/// The fields of a write that a deferred constraint may be about.
pub(crate) fn deferred_fields(table: &Table, write: &Write, error: &Error) -> Vec<String> {
    let Some(refused) = error.as_db_error() else {
        return Vec::new();
    };
    match write {
        Write::Delete { .. } | Write::Refresh { .. } => vec!["id".to_owned()],
        Write::Insert { fields, .. } | Write::Update { fields, .. } if is_about(table, refused) => {
            let mut named = named_fields(table, refused);
            named.retain(|name| fields.contains_key(name));
            named
        }
        Write::Insert { .. } | Write::Update { .. } => Vec::new(),
    }
}

fn violated(
    table: &Table,
    write: &Write,
    refused: &DbError,
    constraint: Constraint,
    error: &Error,
) -> Rejection {
    match (constraint, write) {
        // The error names the table of the reference.
        (Constraint::ForeignKey, Write::Delete { .. }) => {
            return Rejection::Constraint(constraint, vec!["id".to_owned()]);
        }
        _ if is_about(table, refused) => {}
        (Constraint::NotNull, _) => return Rejection::Failed(text_of(error)),
        _ => return Rejection::ElsewhereConstraint(constraint),
    }
    let fields = named_fields(table, refused);
    // The column is not a field: the caller can't give it a value.
    if constraint == Constraint::NotNull && fields.is_empty() {
        return Rejection::Failed(text_of(error));
    }
    Rejection::Constraint(constraint, fields)
}

/// The constraint that an error with this code is about. An exclusion counts as unique.
fn constraint_of(code: &str) -> Option<Constraint> {
    Some(match code {
        "23505" | "23P01" => Constraint::Unique,
        "23503" | "23001" => Constraint::ForeignKey,
        "23502" => Constraint::NotNull,
        "23514" | "23000" | "44000" => Constraint::Check,
        _ => return None,
    })
}

/// Whether a value may not fit its column. The error does not name the column.
fn is_about_value(refused: &DbError) -> bool {
    let is_of_domain = *refused.code() == SqlState::CHECK_VIOLATION && refused.table().is_none();
    (refused.code().code().starts_with("22") || is_of_domain) && !is_raised(refused)
}

/// Whether a function of the app raised the error, under a code of its choice.
fn is_raised(refused: &DbError) -> bool {
    *refused.code() == SqlState::RAISE_EXCEPTION || refused.routine() == Some("exec_stmt_raise")
}

/// Whether the error is about this table, or does not name one.
fn is_about(table: &Table, refused: &DbError) -> bool {
    let (schema, name) = match table.name.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, &*table.name),
    };
    let is_schema = schema.is_none() || refused.schema().is_none_or(|one| Some(one) == schema);
    refused.table().is_none_or(|one| one == name && is_schema)
}

fn named_fields(table: &Table, refused: &DbError) -> Vec<String> {
    let mut fields = table.fields_of_constraint(refused.constraint().unwrap_or_default());
    fields.extend(table.fields_among(refused.column().as_slice()));
    fields
}

/// The fields whose values do not fit an index.
fn too_long(table: &Table, write: &Write, refused: &DbError) -> Vec<String> {
    let is_long = |name: &String| {
        let values = values(table, write);
        let mut of_name = values.filter(|(column, _)| column.name == *name);
        of_name.any(|(_, value)| value.to_string().len() > LONG_VALUE)
    };
    let mut named = named_fields(table, refused);
    if named.is_empty() {
        let indexed = table.constraints.keys();
        named = indexed
            .flat_map(|name| table.fields_of_constraint(name))
            .collect();
        named.sort();
        named.dedup();
    }
    named.retain(is_long);
    named
}

/// The fields whose values do not fit their columns. Each value is tried alone.
async fn unfit(client: &Object, table: &Table, write: &Write) -> Vec<String> {
    let (mut steps, mut fields) = (Vec::new(), Vec::new());
    for (column, value) in values(table, write) {
        let value = Postgres::encode(&column.format, value);
        let cast = format!("select {}", column.parameter(1));
        let Ok(step) = Step::query(client, &cast, [value.clone()]).await else {
            return Vec::new();
        };
        steps.push(step);
        fields.push(&column.name);
        if column.format.is_json() || column.format == Format::Bytes {
            continue;
        }
        // A cast to `varchar(5)` would cut the value off, and an assignment does not.
        let assign = format!(
            "select jsonb_populate_record(null::{}, jsonb_build_object($1::text, $2::text))",
            table.sql_name
        );
        let parameters = [Parameter::text(&column.name), value.into()];
        let Ok(step) = Step::query(client, &assign, parameters).await else {
            return Vec::new();
        };
        steps.push(step);
        fields.push(&column.name);
    }
    let mut results = in_order(client, &steps).await;
    let mut unfit: Vec<String> = Vec::new();
    for field in fields {
        let is_data = |error: &Error| {
            let code = error.code().map_or("", SqlState::code);
            code.starts_with("22") || code == "23514"
        };
        if results.next().is_err_and(|error| is_data(&error)) && unfit.last() != Some(field) {
            unfit.push(field.clone());
        }
    }
    unfit
}

/// The values that a write sets, with their columns.
fn values<'a>(
    table: &'a Table,
    write: &'a Write,
) -> impl Iterator<Item = (&'a Column<Postgres>, &'a Value)> {
    let fields = match write {
        Write::Insert { fields, .. } | Write::Update { fields, .. } => Some(fields),
        Write::Delete { .. } | Write::Refresh { .. } => None,
    };
    let value = move |name: &str| fields?.get(name).filter(|value| !value.is_null());
    let columns = table.columns.iter();
    columns.filter_map(move |column| Some((column, value(&column.name)?)))
}
