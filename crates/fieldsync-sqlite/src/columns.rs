//! Which columns hold which fields: the declared types that fit, those that we make, and the quoting of names.

use fieldsync::{Field, FieldType, Ids, JsonShape};
use serde_json::Value;

use crate::rows::sql_text_of_time;

/// Quotes a table's or column's name: the one way in which names get into SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names in SQLite are the same in lower and upper case.
pub(crate) fn is_same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// In which form a column keeps the values of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is: text, days, hyphenated UUIDs.
    Text,
    /// A UUID of 32 digits, as frameworks keep it in `char(32)`.
    SimpleUuid,
    /// A time as text in UTC, `2026-01-13 10:00:00.123456`.
    Time,
    Integer,
    Number,
    /// 0 or 1.
    Boolean,
    /// The text of JSON.
    Json,
}

/// A declared type, taken apart: `varchar(100)` is `varchar` and 100.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    words: String,
    length: Option<usize>,
}

impl Declared {
    fn parse(declared: &str) -> Self {
        let declared = declared.to_ascii_lowercase();
        let (before, rest) = declared.split_once('(').unwrap_or((&declared, ""));
        let (arguments, after) = rest.split_once(')').unwrap_or((rest, ""));
        let words: Vec<&str> = before
            .split_whitespace()
            .chain(after.split_whitespace())
            .collect();
        Self {
            words: words.join(" "),
            length: arguments
                .split(',')
                .next()
                .and_then(|one| one.trim().parse().ok()),
        }
    }

    /// A column without a type keeps every value as it is.
    fn is_untyped(&self) -> bool {
        self.words.is_empty() || self.words == "any"
    }

    /// SQLite's own rule for text affinity. `point` and `int` come first there.
    fn is_text(&self) -> bool {
        !self.is_integer()
            && ["char", "clob", "text"]
                .iter()
                .any(|part| self.words.contains(part))
    }

    fn is_integer(&self) -> bool {
        self.words.contains("int")
    }

    fn holds_text_of(&self, length: Option<usize>) -> bool {
        self.is_untyped()
            || self.is_text()
                && self
                    .length
                    .is_none_or(|max| length.is_some_and(|length| length <= max))
    }

    /// The integers that the type is meant for, whatever SQLite would let pass.
    fn integers(&self) -> Option<(i64, i64)> {
        let (min, max) = match self.words.split(' ').next()? {
            "tinyint" | "int1" => (i8::MIN.into(), i8::MAX.into()),
            "smallint" | "int2" => (i16::MIN.into(), i16::MAX.into()),
            "mediumint" | "int3" => (-(1 << 23), (1 << 23) - 1),
            _ if self.is_integer() => (i64::MIN, i64::MAX),
            _ => return None,
        };
        let doubled = |max: i64| max.saturating_mul(2).saturating_add(1);
        Some(if self.words.contains("unsigned") {
            (0, doubled(max))
        } else {
            (min, max)
        })
    }
}

/// The form in which a column of this type keeps the field; or the types that would fit.
pub(crate) fn fit(field: &FieldType, declared: &str) -> Result<Form, String> {
    let declared = Declared::parse(declared);
    let (fits, form, expected) = match field {
        FieldType::Text { max_length, one_of } => {
            let longest = one_of
                .as_ref()
                .and_then(|values| values.iter().map(|value| value.chars().count()).max());
            let length = max_length.or(longest);
            let expected = match length {
                Some(length) => format!("varchar({length}) or wider, or text"),
                None => "text, or a maxLength of the field that fits the column".to_owned(),
            };
            (declared.holds_text_of(length), Form::Text, expected)
        }
        FieldType::DateTime => {
            let is_time = ["datetime", "timestamp"]
                .iter()
                .any(|one| declared.words.starts_with(one));
            let expected = "datetime, timestamp, or text of at least 26 characters";
            (
                is_time || declared.holds_text_of(Some(26)),
                Form::Time,
                expected.to_owned(),
            )
        }
        FieldType::Date => {
            let fits = declared.words == "date" || declared.holds_text_of(Some(10));
            (
                fits,
                Form::Text,
                "date, or text of at least 10 characters".to_owned(),
            )
        }
        FieldType::Uuid => match uuid_form(&declared) {
            Some(form) => (true, form, String::new()),
            None => (false, Form::Text, UUID_COLUMNS.to_owned()),
        },
        FieldType::Integer { min, max } => {
            let holds = declared
                .integers()
                .is_some_and(|(least, most)| least <= *min && *max <= most);
            let expected = format!("integer, or another that holds {min} to {max}");
            (holds || declared.is_untyped(), Form::Integer, expected)
        }
        FieldType::Number { .. } => {
            let is_real = ["real", "doub", "floa"]
                .iter()
                .any(|part| declared.words.contains(part));
            // numeric(10, 2) is meant for fewer numbers than a double has.
            let is_numeric =
                matches!(&*declared.words, "numeric" | "decimal") && declared.length.is_none();
            let fits = is_real || is_numeric || declared.is_untyped();
            (
                fits,
                Form::Number,
                "real, double, float, or numeric without a precision".to_owned(),
            )
        }
        FieldType::Boolean => {
            let fits = matches!(&*declared.words, "bool" | "boolean")
                || declared.is_integer()
                || declared.is_untyped();
            (fits, Form::Boolean, "boolean, or integer".to_owned())
        }
        FieldType::Json(_) => {
            let fits = declared.words == "json" || declared.holds_text_of(None);
            (fits, Form::Json, "text, or json".to_owned())
        }
        other => (
            false,
            Form::Text,
            format!("a version of fieldsync-sqlite that knows {other:?}"),
        ),
    };
    if fits { Ok(form) } else { Err(expected) }
}

const UUID_COLUMNS: &str = "text, varchar(36), uuid, or char(32) for UUIDs without hyphens";

fn uuid_form(declared: &Declared) -> Option<Form> {
    if declared.words == "uuid" || declared.holds_text_of(Some(36)) {
        Some(Form::Text)
    } else if declared.is_text() && declared.length.is_some_and(|length| length >= 32) {
        Some(Form::SimpleUuid)
    } else {
        None
    }
}

/// The form in which a key's column keeps the ids; or the types that would fit.
pub(crate) fn fit_key(ids: Ids, declared: &str, gives_ids: bool) -> Result<Form, String> {
    let parsed = Declared::parse(declared);
    match ids {
        // To give ids by itself, SQLite wants this very word.
        Ids::Integer if gives_ids && parsed.words == "integer" => Ok(Form::Integer),
        Ids::Integer if gives_ids => Err(
            "integer primary key, the one type for which SQLite gives ids; or .no_create() for the collection".into(),
        ),
        Ids::Integer if parsed.is_integer() => Ok(Form::Integer),
        Ids::Integer => Err("integer; or .uuid_ids() for the collection".into()),
        Ids::UuidV7 => uuid_form(&parsed).ok_or_else(|| UUID_COLUMNS.to_owned()),
        other => Err(format!("a version of fieldsync-sqlite that knows {other:?}")),
    }
}

/// The type of a column that we make.
pub(crate) fn declaration(field: &FieldType) -> String {
    match field {
        FieldType::Text {
            max_length: Some(length),
            ..
        } => format!("varchar({length})"),
        FieldType::DateTime => "datetime".to_owned(),
        FieldType::Date => "date".to_owned(),
        FieldType::Uuid => "varchar(36)".to_owned(),
        FieldType::Integer { .. } => "integer".to_owned(),
        FieldType::Number { .. } => "real".to_owned(),
        FieldType::Boolean => "boolean".to_owned(),
        // A column declared json would turn the JSON text 1.0 into the number 1.
        _ => "text".to_owned(),
    }
}

/// Whether the field's column must allow null.
pub(crate) fn is_nullable(field: &Field) -> bool {
    field.schema.nullable || field.schema.kind == FieldType::Json(JsonShape::Any)
}

/// The field's default as SQL; none where that is null or there is none.
pub(crate) fn default_literal(field: &Field) -> Option<String> {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let default = field
        .default
        .as_ref()
        .filter(|default| !default.is_null())?;
    Some(match (&field.schema.kind, default) {
        (FieldType::Json(_), json) => text(&json.to_string()),
        (FieldType::DateTime, Value::String(time)) => text(&sql_text_of_time(time)),
        (_, Value::String(value)) => text(value),
        (_, Value::Bool(value)) => i32::from(*value).to_string(),
        (_, other) => other.to_string(),
    })
}
