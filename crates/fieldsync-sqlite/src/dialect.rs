//! SQLite's SQL, and how its columns store values. Reading never fails: a value that does not fit its field is returned
//! as it is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldsync::backend::{FieldType, Ids, from_json, integer_value};
use fieldsync::{RecordId, Timestamp, to_json};
use fieldsync_sql::{
    ColumnInfo, DeclaredType, Dialect, KeyMismatch, Side, SideTableTypes, SortColumn, SqlValue,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::column_types::{self, Format};
use crate::time_form::{TimeForm, rare};

pub(crate) type Table = fieldsync_sql::Table<Sqlite>;
pub(crate) type Tables = fieldsync_sql::Tables<Sqlite>;

#[derive(Debug)]
pub(crate) enum Sqlite {}

/// The member of the JSON object that stands for a blob in a column without a type.
const BYTES: &str = "base64";

/// Up to here every integer is a double.
const MAX_EXACT: i64 = 1 << 53;

/// The texts that a UUID may be stored as.
fn uuid_texts(uuid: &str) -> String {
    format!("{uuid}, upper({uuid}), replace({uuid}, '-', ''), upper(replace({uuid}, '-', ''))")
}

/// The texts that a UUID may be stored as. The parameter is one without hyphens.
fn simple_uuid_texts(uuid: &str) -> String {
    let parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)];
    let parts = parts.map(|(first, length)| format!("substr({uuid}, {first}, {length})"));
    let hyphenated = parts.join(" || '-' || ");
    format!("{uuid}, upper({uuid}), {hyphenated}, upper({hyphenated})")
}

fn bytes(base64: &str) -> SqlValue<'_> {
    match STANDARD.decode(base64) {
        Ok(bytes) => SqlValue::Bytes(bytes.into()),
        // The core admits no other text.
        Err(_) => SqlValue::text(base64),
    }
}

impl Dialect for Sqlite {
    type Format = Format;
    type TableStatements = ();
    type SideStatements = ();

    const MAX_NAME_BYTES: Option<usize> = None;
    const CAPTURES: bool = true;
    const LAST_INSERT_ID: Option<&'static str> = None;
    const FOR_UPDATE: &'static str = "";
    const NULL_IS_LARGEST: bool = false;
    const RANDOM_INTEGER: &'static str = "random() | 1";
    const RANDOM_SECRET: &'static str = "lower(hex(randomblob(32)))";
    const SIDE_TABLE_TYPES: SideTableTypes = SideTableTypes {
        integer: "integer",
        text: "text",
        key: "text",
        // An integer or the text of a UUID. Without a type SQLite converts neither into the other.
        id: "",
        // The highest id deleted from a table without autoincrement, which would otherwise be given again.
        heads: ",\n  last_id integer not null default 0",
        options: " without rowid",
        has_index_if_not_exists: true,
    };

    fn side_statements(_: &dyn Fn(&str) -> String) {}

    fn parameter(number: usize) -> String {
        format!("?{number}")
    }

    fn is_same_name(one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }

    fn key_type(ids: Ids) -> &'static str {
        match ids {
            Ids::Integer => "integer",
            _ => "text",
        }
    }

    fn key_declaration(ids: Ids) -> &'static str {
        match ids {
            // Without autoincrement SQLite gives the id of a deleted record again.
            Ids::Integer => "integer primary key autoincrement not null",
            _ => "text primary key not null",
        }
    }

    fn column_type(field: &FieldType, is_strict: bool) -> (String, Format) {
        let (declaration, format) = match field {
            FieldType::Text {
                max_length: Some(length),
                ..
            } if !is_strict => return (format!("varchar({length})"), Format::Text),
            FieldType::DateTime => ("datetime", Format::Time(TimeForm::SQL)),
            FieldType::LocalDateTime => ("datetime", Format::NaiveTime(TimeForm::SQL)),
            FieldType::Time | FieldType::Decimal => ("text", Format::LooseText),
            FieldType::Date => ("date", Format::Text),
            FieldType::Uuid => ("varchar(36)", Format::Text),
            FieldType::Integer { .. } => ("integer", Format::Integer),
            FieldType::Number { .. } => ("real", Format::Number),
            FieldType::Boolean => ("boolean", Format::Boolean),
            FieldType::Bytes => ("blob", Format::Bytes),
            // A column declared json would turn the JSON text 1.0 into the number 1.
            FieldType::Json(_) => ("text", Format::Json),
            _ => ("text", Format::Text),
        };
        let declaration = match (is_strict, declaration) {
            (true, "boolean") => "integer",
            (true, "datetime" | "date" | "varchar(36)") => "text",
            (_, other) => other,
        };
        (declaration.to_owned(), format)
    }

    fn format(field: &FieldType, declared: &DeclaredType) -> Result<Format, String> {
        column_types::format(field, declared)
    }

    fn key_format(ids: Ids, column: &ColumnInfo, gives_ids: bool) -> Result<Format, KeyMismatch> {
        column_types::key_format(ids, column, gives_ids)
    }

    fn comparison(
        format: &Format,
        field: &FieldType,
        column: &str,
        side: Side,
        parameter: &str,
    ) -> Option<String> {
        let operator = side.operator();
        match (format, field) {
            (Format::Time(form), FieldType::DateTime)
            | (Format::NaiveTime(form), FieldType::LocalDateTime) => {
                return Some(form.comparison(column, side, parameter));
            }
            (Format::SimpleUuid, FieldType::Uuid) if side == Side::Equal => {
                return Some(format!("{column} in ({})", simple_uuid_texts(parameter)));
            }
            // Text before blobs.
            (Format::BlobUuid, FieldType::Uuid) => {
                return Some(format!(
                    "({column} {operator} {parameter} or ({column} >= '' and {column} < x''))"
                ));
            }
            // Numbers are stored as numbers, whatever their form. Text in such a column is no value of the field.
            (
                Format::Integer | Format::Number,
                FieldType::Integer { .. } | FieldType::Number { .. },
            ) => {}
            (Format::Boolean, FieldType::Boolean) if side == Side::Equal => {}
            // A collation makes more texts equal, not fewer.
            (Format::Text, FieldType::Text { .. }) if side == Side::Equal => {}
            (Format::Text, FieldType::Uuid) if side == Side::Equal => {}
            (Format::Text, FieldType::Date) => {}
            // Others may have stored decimals and times of day in several forms.
            _ => return None,
        }
        let comparison = format!("{column} {operator} {parameter}");
        Some(match side {
            Side::Equal => comparison,
            Side::AtLeast | Side::AtMost => rare(&comparison),
        })
    }

    fn sorted(format: &Format, field: &FieldType, column: &str, parameter: &str) -> SortColumn {
        let column = match (format, field) {
            (Format::LooseText, FieldType::Text { .. }) => format!("cast({column} as text)"),
            (_, FieldType::Text { .. }) => format!("{column} collate binary"),
            _ => column.to_owned(),
        };
        let parameter = parameter.to_owned();
        SortColumn { column, parameter }
    }

    fn compare_sorted(
        format: &Format,
        field: &FieldType,
        column: &str,
        operator: &str,
        parameter: &str,
    ) -> String {
        let form = format.time_form().filter(|form| form.is_bare());
        if form.is_some() {
            return TimeForm::compare_bare(column, operator, parameter);
        }
        let SortColumn { column, parameter } = Self::sorted(format, field, column, parameter);
        format!("{column} {operator} {parameter}")
    }

    fn encode_sorted(format: &Format, value: &Value) -> SqlValue<'static> {
        let format = match format {
            Format::Time(form) => Format::Time(form.in_full()),
            Format::NaiveTime(form) => Format::NaiveTime(form.in_full()),
            other => *other,
        };
        Self::encode(&format, value).into_owned()
    }

    fn is_in_form(format: &Format, stored: &SqlValue<'_>, value: &Value) -> bool {
        match (format.time_form(), format, stored) {
            (_, _, SqlValue::Null) => true,
            (Some(form), _, SqlValue::Text(text)) if form.is_bare() => form.has(text),
            (Some(_), ..) | (None, Format::SimpleUuid | Format::BlobUuid, _) => {
                Self::encode(format, value) == *stored
            }
            _ => true,
        }
    }

    fn sorted_key(format: &Format, ids: Ids, column: &str, parameter: &str) -> SortColumn {
        let column = match (format, ids) {
            (Format::BlobUuid, _) | (_, Ids::Integer) => column.to_owned(),
            (Format::AnyUuid | Format::SimpleUuid, _) => {
                format!("lower(replace({column}, '-', ''))")
            }
            (Format::Text, _) => format!("{column} collate binary"),
            _ => format!("cast({column} as text)"),
        };
        let parameter = parameter.to_owned();
        SortColumn { column, parameter }
    }

    fn encode_sorted_key(format: &Format, ids: Ids, id: &RecordId) -> SqlValue<'static> {
        match (format, ids) {
            (Format::BlobUuid, _) | (_, Ids::Integer) => Self::encode_key(format, id),
            (Format::AnyUuid | Format::SimpleUuid, _) => {
                SqlValue::text(id.to_string().replace('-', ""))
            }
            _ => SqlValue::text(id.to_string()),
        }
    }

    fn encode<'a>(format: &Format, value: &'a Value) -> SqlValue<'a> {
        match (format, value) {
            (_, Value::Null) => SqlValue::Null,
            (Format::Bytes, Value::String(text)) => bytes(text),
            (Format::BlobUuid, Value::String(text)) => match text.parse::<Uuid>() {
                Ok(uuid) => SqlValue::Bytes(uuid.as_bytes().to_vec().into()),
                // The core admits no other text.
                Err(_) => SqlValue::text(text),
            },
            (Format::Any, Value::Object(members)) => match members.get(BYTES) {
                Some(Value::String(text)) if members.len() == 1 => bytes(text),
                _ => SqlValue::text(to_json(value)),
            },
            (Format::Any, Value::String(text)) => match text.strip_prefix('\0') {
                Some(digits) => number(digits),
                None => SqlValue::text(text),
            },
            (Format::Number, Value::String(text)) => match &**text {
                "Infinity" => SqlValue::Real(f64::INFINITY),
                "-Infinity" => SqlValue::Real(f64::NEG_INFINITY),
                text => SqlValue::text(text),
            },
            (Format::Integer, Value::String(digits)) => match digits.parse() {
                Ok(integer) => SqlValue::Integer(integer),
                Err(_) => SqlValue::text(digits),
            },
            (Format::Json, json) => SqlValue::text(to_json(json)),
            (Format::Time(form), Value::String(text)) => {
                time(*form, text.parse().ok()).unwrap_or_else(|| SqlValue::text(text))
            }
            (Format::NaiveTime(form), Value::String(text)) => {
                let utc = format!("{text}Z").parse().ok();
                time(*form, utc).unwrap_or_else(|| SqlValue::text(text))
            }
            (Format::SimpleUuid, Value::String(uuid)) => SqlValue::text(uuid.replace('-', "")),
            (_, Value::String(text)) => SqlValue::text(text),
            (_, Value::Bool(value)) => SqlValue::Integer((*value).into()),
            (_, Value::Number(number)) => match number.as_i64() {
                Some(integer) if matches!(format, Format::Integer | Format::Any) => {
                    SqlValue::Integer(integer)
                }
                _ => number.as_f64().map_or(SqlValue::Null, SqlValue::Real),
            },
            (_, json @ (Value::Array(_) | Value::Object(_))) => SqlValue::text(to_json(json)),
        }
    }

    fn decode(format: &Format, value: SqlValue<'_>) -> Value {
        let text = match (format, value) {
            (_, SqlValue::Null) => return Value::Null,
            (Format::Number, SqlValue::Integer(number))
                if number.unsigned_abs() <= MAX_EXACT.unsigned_abs() =>
            {
                return Value::from(number as f64);
            }
            (Format::Time(form) | Format::NaiveTime(form), SqlValue::Integer(number)) => {
                let time = form.time_of(number).map(|time| time_value(format, time));
                return time.unwrap_or_else(|| integer_value(number));
            }
            (Format::LooseText, SqlValue::Integer(number)) => number.to_string(),
            (Format::LooseText, SqlValue::Real(number)) => Value::from(number).to_string(),
            (Format::Boolean, SqlValue::Integer(number @ (0 | 1))) => {
                return Value::Bool(number == 1);
            }
            (Format::Any, SqlValue::Integer(number)) => {
                return from_json(&number.to_string()).unwrap_or_default();
            }
            (_, SqlValue::Integer(number)) => return integer_value(number),
            (Format::BlobUuid, SqlValue::Bytes(bytes)) if bytes.len() == 16 => {
                let uuid = Uuid::from_slice(&bytes).unwrap_or_default();
                return uuid.hyphenated().to_string().into();
            }
            (Format::Bytes, SqlValue::Bytes(bytes)) => return STANDARD.encode(bytes).into(),
            (Format::Any, SqlValue::Bytes(bytes)) => {
                return json!({BYTES: STANDARD.encode(bytes)});
            }
            // JSON has no infinity.
            (_, SqlValue::Real(number)) if number.is_infinite() => {
                let sign = if number > 0.0 { "" } else { "-" };
                return format!("{sign}Infinity").into();
            }
            (_, SqlValue::Real(number)) => return Value::from(number),
            (_, SqlValue::Text(text)) => text.into_owned(),
            (_, SqlValue::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let read = match format {
            Format::Time(_) | Format::NaiveTime(_) => {
                Timestamp::from_sql_text(&text).map(|time| time_value(format, time))
            }
            Format::SimpleUuid => {
                // In no mixed case, so that an index finds it.
                let is_usual = matches!(text.len(), 32 | 36)
                    && (text == text.to_lowercase() || text == text.to_uppercase());
                let uuid = text.parse::<Uuid>().ok().filter(|_| is_usual);
                uuid.map(|uuid| Value::from(uuid.hyphenated().to_string()))
            }
            Format::Json => from_json(&text).ok(),
            Format::Text
            | Format::AnyUuid
            | Format::BlobUuid
            | Format::LooseText
            | Format::Integer
            | Format::Number
            | Format::Boolean
            | Format::Bytes
            | Format::Any => None,
        };
        read.unwrap_or(Value::String(text))
    }

    /// No other transaction takes ids meanwhile, and the ids follow each other.
    fn reserve_ids(next_id: &str) -> String {
        format!(
            "with recursive ids(id, left) as (select {next_id}, ?1 \
             union all select id + 1, left - 1 from ids where left > 1) select id from ids"
        )
    }

    fn key_condition(format: &Format, column: &str, parameter: &str) -> String {
        match format {
            Format::AnyUuid => format!("{column} in ({})", uuid_texts(parameter)),
            _ => format!("{column} = {parameter}"),
        }
    }

    fn key_position(format: &Format, column: &str, qualifier: &str, parameter: &str) -> String {
        match format {
            Format::AnyUuid => format!(
                "coalesce((select {column} from {qualifier} where {column} in ({})), {parameter})",
                uuid_texts(parameter)
            ),
            _ => parameter.to_owned(),
        }
    }

    fn encode_key(format: &Format, id: &RecordId) -> SqlValue<'static> {
        let uuid = match id {
            RecordId::Uuid(uuid) => Some(*uuid),
            RecordId::Text(text) => text.parse::<Uuid>().ok(),
            _ => None,
        };
        match (format, uuid, id) {
            (Format::SimpleUuid, Some(uuid), _) => SqlValue::text(uuid.simple().to_string()),
            (Format::BlobUuid, Some(uuid), _) => SqlValue::Bytes(uuid.as_bytes().to_vec().into()),
            (Format::Integer, _, RecordId::Text(text)) => match text.parse() {
                Ok(number) => SqlValue::Integer(number),
                Err(_) => SqlValue::text(text.to_string()),
            },
            (_, _, id) => Self::encode_id(id),
        }
    }

    fn decode_key(format: &Format, value: &SqlValue<'_>) -> Option<String> {
        match (format, value) {
            (Format::AnyUuid | Format::SimpleUuid, SqlValue::Text(text)) => {
                let uuid = text.parse::<Uuid>().ok()?;
                Some(uuid.hyphenated().to_string())
            }
            (Format::BlobUuid, SqlValue::Bytes(bytes)) => {
                let uuid = Uuid::from_slice(bytes).ok()?;
                Some(uuid.hyphenated().to_string())
            }
            (_, SqlValue::Integer(number)) => Some(number.to_string()),
            (_, SqlValue::Text(text)) => Some(text.to_string()),
            (_, SqlValue::Null | SqlValue::Real(_) | SqlValue::Bytes(_)) => None,
        }
    }

    fn encode_id(id: &RecordId) -> SqlValue<'static> {
        match id {
            RecordId::Integer(number) => SqlValue::Integer(*number),
            other => SqlValue::text(other.to_string()),
        }
    }
}

/// A time in the form of its column. The core admits no text that is no time.
fn time(form: TimeForm, time: Option<Timestamp>) -> Option<SqlValue<'static>> {
    let time = time?;
    Some(match form.text(time) {
        Some(text) => SqlValue::text(text),
        None => SqlValue::Integer(form.number(time)),
    })
}

fn time_value(format: &Format, time: Timestamp) -> Value {
    let text = time.to_string();
    match format {
        Format::NaiveTime(_) => text.trim_end_matches('Z').into(),
        _ => text.into(),
    }
}

/// A number in a column without a type, as SQLite reads it in SQL.
fn number(digits: &str) -> SqlValue<'static> {
    match digits.parse() {
        Ok(integer) => SqlValue::Integer(integer),
        Err(_) => digits.parse().map_or(SqlValue::Null, SqlValue::Real),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tests")]
    fn check_read(format: Format, stored: SqlValue<'_>, expected: Value) {
        assert_eq!(Sqlite::decode(&format, stored), expected);
    }

    #[test]
    fn a_value_that_does_not_fit_its_field_is_returned_as_it_is_stored() {
        let text = |text: &'static str| SqlValue::text(text);
        check_read(
            Format::Time(TimeForm::SQL),
            text("yesterday"),
            json!("yesterday"),
        );
        check_read(Format::Time(TimeForm::SQL), SqlValue::Integer(7), json!(7));
        check_read(Format::Boolean, SqlValue::Integer(2), json!(2));
        check_read(Format::Boolean, text("yes"), json!("yes"));
        check_read(Format::Integer, text("many"), json!("many"));
        check_read(
            Format::Number,
            SqlValue::Real(f64::INFINITY),
            json!("Infinity"),
        );
        check_read(Format::Json, text("{"), json!("{"));
        check_read(Format::SimpleUuid, text("7"), json!("7"));
        let bytes = SqlValue::Bytes(vec![b'a', 0xff].into());
        check_read(Format::Text, bytes, json!("a\u{fffd}"));
    }

    #[test]
    fn times_of_other_frameworks_become_rfc_3339() {
        for (stored, expected) in [
            ("2026-01-13 10:00:00.123456", "2026-01-13T10:00:00.123456Z"),
            ("2026-01-13 10:00:00", "2026-01-13T10:00:00.000000Z"),
            ("2026-01-13T12:00:00+02:00", "2026-01-13T10:00:00.000000Z"),
        ] {
            check_read(
                Format::Time(TimeForm::SQL),
                SqlValue::text(stored),
                json!(expected),
            );
        }
    }

    #[test]
    fn an_integer_in_a_column_of_numbers_is_a_number() {
        check_read(Format::Number, SqlValue::Integer(2), json!(2.0));
    }
}
