//! Which columns hold which fields: the types that fit, those that we make, how values go in and come out, and the
//! quoting of names.

use fieldsync::{Field, FieldType, Ids, JsonShape, RecordId};
use serde_json::Value;
use tokio_postgres::{Error, Row};

use crate::time::Time;

/// Quotes a table's or column's name: the one way in which names get into SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// In which form a column keeps the values of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    /// A number as text, every digit of it.
    Numeric,
    Uuid,
    Date,
    /// `timestamptz`.
    Time,
    /// `timestamp`, whose times are UTC.
    LocalTime,
    Integer,
    Number,
    Boolean,
    Json,
    Jsonb,
}

impl Form {
    /// A column as [`value_of`](Self::value_of) reads it: as text, whatever the session's settings are, but for times.
    pub(crate) fn read(self, column: &str) -> String {
        match self {
            Self::Time | Self::LocalTime => column.to_owned(),
            Self::Date => format!("to_char({column}, 'YYYY-MM-DD')"),
            _ => format!("{column}::text"),
        }
    }

    /// A parameter with text as the column's type.
    pub(crate) fn write(self, parameter: usize) -> String {
        self.of_text(&format!("${parameter}::text"))
    }

    /// An expression of text as the column's type.
    pub(crate) fn of_text(self, text: &str) -> String {
        match self {
            Self::LocalTime => format!("({text}::timestamptz at time zone 'UTC')"),
            _ => format!("{text}::{}", self.cast()),
        }
    }

    /// A parameter with many texts, as values of the column's type: the column is compared as it is, by its index.
    pub(crate) fn write_all(self, parameter: usize) -> String {
        format!("${parameter}::text[]::{}[]", self.cast())
    }

    fn cast(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Numeric => "numeric",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Time | Self::LocalTime => "timestamptz",
            Self::Integer => "bigint",
            Self::Number => "double precision",
            Self::Boolean => "boolean",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
        }
    }

    /// A field's value as text for [`write`](Self::write).
    pub(crate) fn to_text(self, value: &Value) -> Option<String> {
        match (self, value) {
            (_, Value::Null) => None,
            (Self::Json | Self::Jsonb, json) => Some(json.to_string()),
            (_, Value::String(text)) => Some(text.clone()),
            (_, other) => Some(other.to_string()),
        }
    }

    /// A field's value from a column of [`read`](Self::read). What does not fit its field goes out as it is stored.
    pub(crate) fn value_of(self, row: &Row, column: usize) -> Result<Value, Error> {
        if matches!(self, Self::Time | Self::LocalTime) {
            let time: Option<Time> = row.try_get(column)?;
            return Ok(time.map_or(Value::Null, |time| Value::String(time.to_string())));
        }
        let Some(text) = row.try_get::<_, Option<&str>>(column)? else {
            return Ok(Value::Null);
        };
        let read = match self {
            Self::Integer => text.parse::<i64>().ok().map(Value::from),
            // JSON has no infinity.
            Self::Number => text.parse::<f64>().ok().map(Value::from),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
            Self::Json | Self::Jsonb => serde_json::from_str(text).ok(),
            _ => None,
        };
        Ok(read.unwrap_or_else(|| Value::from(text)))
    }
}

pub(crate) fn id_to_text(id: RecordId) -> String {
    match id {
        RecordId::Integer(number) => number.to_string(),
        RecordId::Uuid(uuid) => uuid.hyphenated().to_string(),
    }
}

/// An id from its text, unless that is something else.
pub(crate) fn id_from_text(text: &str) -> Option<RecordId> {
    let integer = || text.parse::<i64>().ok().map(RecordId::Integer);
    integer().or_else(|| uuid::Uuid::parse_str(text).ok().map(RecordId::Uuid))
}

/// A column's type: its name in `pg_type`, and its length where it has one.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) length: Option<usize>,
    /// As PostgreSQL says it: `character varying(100)`.
    pub(crate) said: String,
}

impl Declared {
    fn holds_text_of(&self, length: Option<usize>) -> bool {
        let is_text = matches!(&*self.name, "text" | "citext" | "varchar");
        is_text
            && self
                .length
                .is_none_or(|max| length.is_some_and(|length| length <= max))
    }

    fn integers(&self) -> Option<(i64, i64)> {
        Some(match &*self.name {
            "int2" => (i16::MIN.into(), i16::MAX.into()),
            "int4" => (i32::MIN.into(), i32::MAX.into()),
            "int8" => (i64::MIN, i64::MAX),
            _ => return None,
        })
    }
}

/// The form in which a column of this type keeps the field; or the types that would fit.
pub(crate) fn fit(field: &FieldType, declared: &Declared) -> Result<Form, String> {
    let name = &*declared.name;
    match field {
        FieldType::Text { max_length, one_of } => {
            let longest = one_of
                .as_ref()
                .and_then(|values| values.iter().map(|value| value.chars().count()).max());
            let length = max_length.or(longest);
            if declared.holds_text_of(length) {
                Ok(Form::Text)
            } else if name == "numeric" && one_of.is_none() {
                Ok(Form::Numeric)
            } else {
                Err(match length {
                    Some(length) => format!("varchar({length}) or wider, text, or numeric"),
                    None => {
                        "text, numeric, or a maxLength of the field that fits the column".into()
                    }
                })
            }
        }
        FieldType::DateTime => match name {
            "timestamptz" => Ok(Form::Time),
            "timestamp" => Ok(Form::LocalTime),
            _ => Err("timestamptz, or timestamp in UTC".into()),
        },
        FieldType::Date if name == "date" => Ok(Form::Date),
        FieldType::Date => Err("date".into()),
        FieldType::Uuid if name == "uuid" => Ok(Form::Uuid),
        FieldType::Uuid if declared.holds_text_of(Some(36)) => Ok(Form::Text),
        FieldType::Uuid => Err("uuid, or text of at least 36 characters".into()),
        FieldType::Integer { min, max } => {
            let holds = declared
                .integers()
                .is_some_and(|(least, most)| least <= *min && *max <= most);
            let expected = || format!("bigint, or another integer that holds {min} to {max}");
            holds.then_some(Form::Integer).ok_or_else(expected)
        }
        FieldType::Number { .. } if name == "float8" => Ok(Form::Number),
        FieldType::Number { .. } => {
            Err("double precision; a string field keeps every digit of a numeric".into())
        }
        FieldType::Boolean if name == "bool" => Ok(Form::Boolean),
        FieldType::Boolean => Err("boolean".into()),
        FieldType::Json(_) => match name {
            "jsonb" => Ok(Form::Jsonb),
            "json" => Ok(Form::Json),
            _ => Err("jsonb, or json".into()),
        },
        other => Err(format!(
            "a version of fieldsync-postgres that knows {other:?}"
        )),
    }
}

/// The form in which a key's column keeps the ids; or the types that would fit.
pub(crate) fn fit_key(ids: Ids, declared: &Declared) -> Result<Form, String> {
    match ids {
        Ids::Integer if declared.integers().is_some() => Ok(Form::Integer),
        Ids::Integer => Err("an integer; or .uuid_ids() for the collection".into()),
        _ => fit(&FieldType::Uuid, declared),
    }
}

/// The type of a column that we make.
pub(crate) fn declaration(field: &FieldType) -> String {
    match field {
        FieldType::Text {
            max_length: Some(length),
            ..
        } => format!("varchar({length})"),
        FieldType::Text { .. } => "text".to_owned(),
        FieldType::DateTime => "timestamptz".to_owned(),
        FieldType::Date => "date".to_owned(),
        FieldType::Uuid => "uuid".to_owned(),
        FieldType::Integer { .. } => "bigint".to_owned(),
        FieldType::Number { .. } => "double precision".to_owned(),
        FieldType::Boolean => "boolean".to_owned(),
        _ => "jsonb".to_owned(),
    }
}

/// Whether the field's column must allow null.
pub(crate) fn is_nullable(field: &Field) -> bool {
    field.schema.nullable || field.schema.kind == FieldType::Json(JsonShape::Any)
}

/// The field's default as SQL; none where that is null or there is none.
pub(crate) fn default_literal(field: &Field) -> Option<String> {
    let default = field
        .default
        .as_ref()
        .filter(|default| !default.is_null())?;
    let text = match (&field.schema.kind, default) {
        (FieldType::Json(_), json) => json.to_string(),
        (_, Value::String(value)) => value.clone(),
        (_, other) => other.to_string(),
    };
    // A literal with `E` means the same whatever standard_conforming_strings says.
    Some(format!(
        "E'{}'",
        text.replace('\\', "\\\\").replace('\'', "''")
    ))
}
