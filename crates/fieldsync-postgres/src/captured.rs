//! What the triggers have captured: how it is taken from its table, and how its values are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deadpool_postgres::Object;
use fieldsync::backend::CapturedWrite;
use fieldsync::{Fields, RecordKey, Timestamp};
use fieldsync_sql::{Dialect as _, SqlValue};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::column_types::Format;
use crate::dialect::{Postgres, Table, Tables};
use crate::error::Failure;
use crate::pipeline::Step;
use crate::value::{AnyText, Parameter};

fn names<'a>(
    tables: &Tables,
    records: impl IntoIterator<Item = &'a RecordKey>,
) -> Result<[Parameter<'static>; 2], Failure> {
    let (mut logs, mut keys) = (Vec::new(), Vec::new());
    for record in records {
        let table = tables.of(&record.collection)?;
        if table.has_capture {
            logs.push(table.log.to_string());
            keys.push(record.id.to_string());
        }
    }
    Ok([Parameter::texts(logs), Parameter::texts(keys)])
}

/// The statement that reads what others wrote to these records.
pub(crate) async fn of_others<'a>(
    client: &Object,
    tables: &Tables,
    records: impl IntoIterator<Item = &RecordKey>,
) -> Result<Step<'a>, Failure> {
    Step::query(
        client,
        &tables.own.capture.captured_by_others,
        names(tables, records)?,
    )
    .await
}

/// The statement that takes what was captured.
pub(crate) async fn take<'a>(
    client: &Object,
    tables: &Tables,
    written: impl IntoIterator<Item = &RecordKey>,
) -> Result<Step<'a>, Failure> {
    Step::query(
        client,
        &tables.own.capture.take_captured,
        names(tables, written)?,
    )
    .await
}

/// The writes in the rows of [`of_others`] and [`take`]: those of other transactions, and this transaction's own. Those of
/// tables that this app does not have are skipped.
pub(crate) fn writes(
    tables: &Tables,
    rows: &[Row],
) -> Result<(Vec<CapturedWrite>, Vec<CapturedWrite>), Failure> {
    let (mut others, mut own) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(table) = tables.with_log(row.try_get(0)?) else {
            continue;
        };
        if let Some(write) = write(table, row, 1)? {
            let is_own: bool = row.try_get(4)?;
            if is_own { &mut own } else { &mut others }.push(write);
        }
    }
    Ok((others, own))
}

/// The write in the columns `key, old, new` that begin at the column `first`. `None` if the key is no id.
pub(crate) fn write(
    table: &Table,
    row: &Row,
    first: usize,
) -> Result<Option<CapturedWrite>, Failure> {
    let AnyText(key) = row.try_get(first)?;
    let Some(id) = key.ok().and_then(|key| table.id_of_text(key)) else {
        return Ok(None);
    };
    let values = |column| -> Result<Option<Fields>, Failure> {
        // Nobody sees a row that can't be read.
        let text: Option<AnyText<'_>> = row.try_get(column)?;
        let text = text.and_then(|text| text.0.ok());
        Ok(text.map(|text| fields(table, text)))
    };
    Ok(Some(CapturedWrite {
        key: RecordKey {
            collection: Arc::clone(&table.collection),
            id,
        },
        old: values(first + 1)?,
        new: values(first + 2)?,
    }))
}

/// The fields in a row as JSON.
fn fields(table: &Table, json: &str) -> Fields {
    let columns: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap_or_default();
    let values = table.columns.iter().filter_map(|column| {
        let json = columns.get(&column.name)?.get();
        Some((column.field.clone(), value(&column.format, json)))
    });
    values.collect()
}

/// A field's value from the JSON that `to_jsonb` makes of its column: the same that a read of the column gives.
fn value(format: &Format, json: &str) -> Value {
    if json == "null" {
        return Value::Null;
    }
    if format.is_json() {
        return Postgres::decode(format, SqlValue::text(json));
    }
    // Numbers keep every digit.
    let text = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    let text = match format {
        Format::Time | Format::LocalTime | Format::NaiveTime => time(text),
        Format::Bytes => base64_of(&text),
        Format::Padded => text.trim_end_matches(' ').to_owned(),
        _ => text,
    };
    Postgres::decode(format, SqlValue::text(text))
}

/// The text of bytes as base64: `\\x6869`, or `hi\\377` where the writer's session has `bytea_output = escape`.
fn base64_of(text: &str) -> String {
    let Some(hex) = text.strip_prefix("\\x") else {
        return STANDARD.encode(unescaped(text));
    };
    let digits = hex.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    STANDARD.encode(bytes.unwrap_or_default())
}

/// The bytes of the format `escape`: `\\\\` is a backslash, and `\\377` an octal number.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(first) = rest.bytes().next() {
        let octal = rest
            .get(1..4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, length) = match (first, octal) {
            (b'\\', Some(byte)) => (byte, 4),
            (b'\\', None) => (b'\\', 2),
            (byte, _) => (byte, 1),
        };
        bytes.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    bytes
}

/// `2026-01-13T10:00:00.5+02:00`, or without an offset in UTC, as RFC 3339 in UTC.
fn time(text: String) -> String {
    if let Some(before) = text.strip_suffix(" BC") {
        return format!("{} BC", time(before.to_owned()));
    }
    let has_offset = text.len() > 10 && text[10..].contains(['+', '-', 'Z']);
    let utc = if has_offset {
        text.parse::<Timestamp>()
    } else {
        format!("{text}Z").parse()
    };
    utc.map_or(text, |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tests")]
    fn check(format: Format, json: &str, expected: Value) {
        assert_eq!(value(&format, json), expected);
    }

    #[test]
    fn captured_values_are_those_of_a_read() {
        check(Format::Text, "\"a\\nb\"", json!("a\nb"));
        check(Format::Text, "null", json!(null));
        let bytes = json!("AGH/XGI=");
        check(Format::Bytes, r#""\\x0061ff5c62""#, bytes.clone());
        check(Format::Bytes, r#""\\000a\\377\\\\b""#, bytes);
        check(Format::Padded, "\"ab  \"", json!("ab"));
        check(
            Format::Numeric,
            "12345678901234567890.10",
            json!("12345678901234567890.10"),
        );
        check(Format::Integer, "7", json!(7));
        check(Format::Number, "1", json!(1.0));
        check(Format::Boolean, "true", json!(true));
        check(Format::Jsonb, "{\"a\": [1]}", json!({"a": [1]}));
        let time = json!("2026-01-13T10:00:00.500000Z");
        check(
            Format::Time,
            "\"2026-01-13T12:00:00.5+02:00\"",
            time.clone(),
        );
        check(Format::LocalTime, "\"2026-01-13T10:00:00.5\"", time);
        check(Format::Time, "\"infinity\"", json!("infinity"));
    }
}
