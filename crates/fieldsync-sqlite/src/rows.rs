//! Values between JSON and SQLite. Reading never fails: what does not fit its field goes out as it is stored.

use fieldsync::{RecordId, Timestamp};
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use serde_json::Value;
use uuid::Uuid;

use crate::columns::Form;

/// A field's value as its column keeps it.
pub(crate) fn to_sql(value: &Value, form: Form) -> ToSqlOutput<'_> {
    let owned = |value: SqlValue| ToSqlOutput::Owned(value);
    match (form, value) {
        (_, Value::Null) => owned(SqlValue::Null),
        (Form::Json, json) => owned(SqlValue::Text(json.to_string())),
        (Form::Time, Value::String(time)) => owned(SqlValue::Text(sql_text_of_time(time))),
        (Form::SimpleUuid, Value::String(uuid)) => owned(SqlValue::Text(uuid.replace('-', ""))),
        (_, Value::String(text)) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        (_, Value::Bool(value)) => owned(SqlValue::Integer((*value).into())),
        (Form::Integer, Value::Number(number)) if number.is_i64() => {
            owned(SqlValue::Integer(number.as_i64().expect("it is one")))
        }
        (_, Value::Number(number)) => owned(number.as_f64().map_or(SqlValue::Null, SqlValue::Real)),
        (_, json @ (Value::Array(_) | Value::Object(_))) => owned(SqlValue::Text(json.to_string())),
    }
}

/// A field's value from its column.
pub(crate) fn from_sql(value: ValueRef<'_>, form: Form) -> Value {
    match (form, value) {
        (_, ValueRef::Null) => Value::Null,
        (Form::Number, ValueRef::Integer(number)) => Value::from(number as f64),
        (Form::Boolean, ValueRef::Integer(number @ (0 | 1))) => Value::Bool(number == 1),
        (_, ValueRef::Integer(number)) => Value::from(number),
        // JSON has no infinity.
        (_, ValueRef::Real(number)) => Value::from(number),
        (form, ValueRef::Text(text) | ValueRef::Blob(text)) => {
            let text = String::from_utf8_lossy(text);
            let read = match form {
                Form::Time => {
                    Timestamp::from_sql_text(&text).map(|time| Value::from(time.to_string()))
                }
                Form::SimpleUuid => text
                    .parse::<Uuid>()
                    .ok()
                    .map(|uuid| Value::from(uuid.hyphenated().to_string())),
                Form::Json => serde_json::from_str(&text).ok(),
                Form::Text | Form::Integer | Form::Number | Form::Boolean => None,
            };
            read.unwrap_or_else(|| Value::String(text.into_owned()))
        }
    }
}

/// An id as its column keeps it.
pub(crate) fn id_to_sql(id: RecordId, form: Form) -> ToSqlOutput<'static> {
    ToSqlOutput::Owned(match id {
        RecordId::Integer(number) => SqlValue::Integer(number),
        RecordId::Uuid(uuid) if form == Form::SimpleUuid => {
            SqlValue::Text(uuid.simple().to_string())
        }
        RecordId::Uuid(uuid) => SqlValue::Text(uuid.hyphenated().to_string()),
    })
}

/// An id from its column, unless that holds something else.
pub(crate) fn id_from_sql(value: ValueRef<'_>) -> Option<RecordId> {
    match value {
        ValueRef::Integer(number) => Some(RecordId::Integer(number)),
        ValueRef::Text(text) => Uuid::try_parse_ascii(text).ok().map(RecordId::Uuid),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => None,
    }
}

/// RFC 3339 as SQL text.
pub(crate) fn sql_text_of_time(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time.to_sql_text(),
        // The core lets no other text through.
        Err(_) => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tests")]
    fn check_read(form: Form, stored: SqlValue, expected: Value) {
        assert_eq!(from_sql(ValueRef::from(&stored), form), expected);
    }

    #[test]
    fn what_does_not_fit_its_field_goes_out_as_it_is_stored() {
        let text = |text: &str| SqlValue::Text(text.into());
        check_read(Form::Time, text("yesterday"), json!("yesterday"));
        check_read(Form::Time, SqlValue::Integer(7), json!(7));
        check_read(Form::Boolean, SqlValue::Integer(2), json!(2));
        check_read(Form::Boolean, text("yes"), json!("yes"));
        check_read(Form::Integer, text("many"), json!("many"));
        check_read(Form::Number, SqlValue::Real(f64::INFINITY), json!(null));
        check_read(Form::Json, text("{"), json!("{"));
        check_read(Form::SimpleUuid, text("7"), json!("7"));
        check_read(
            Form::Text,
            SqlValue::Blob(vec![b'a', 0xff]),
            json!("a\u{fffd}"),
        );
    }

    #[test]
    fn times_of_other_frameworks_become_rfc_3339() {
        let time = |text: &str| SqlValue::Text(text.into());
        check_read(
            Form::Time,
            time("2026-01-13 10:00:00.123456"),
            json!("2026-01-13T10:00:00.123456Z"),
        );
        check_read(
            Form::Time,
            time("2026-01-13 10:00:00"),
            json!("2026-01-13T10:00:00.000000Z"),
        );
        check_read(
            Form::Time,
            time("2026-01-13T12:00:00+02:00"),
            json!("2026-01-13T10:00:00.000000Z"),
        );
    }

    #[test]
    fn an_integer_in_a_column_of_numbers_is_a_number() {
        check_read(Form::Number, SqlValue::Integer(2), json!(2.0));
    }
}
