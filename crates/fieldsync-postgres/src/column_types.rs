//! Which column types hold which fields.

use fieldsync::backend::{FieldType, Ids};
use fieldsync_sql::{ColumnInfo, DeclaredType, KeyMismatch, text_length};

/// How a column stores the values of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    /// A number as text, with every digit.
    Numeric,
    Uuid,
    Date,
    /// `timestamptz`.
    Time,
    /// `timestamp`, in UTC.
    LocalTime,
    Integer,
    Number,
    Boolean,
    Json,
    Jsonb,
}

impl Format {
    /// The type that a parameter's text is cast to.
    pub(crate) fn cast(self) -> &'static str {
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

    /// An expression of type text, cast to the column's type.
    pub(crate) fn of_text(self, text: &str) -> String {
        match self {
            Self::LocalTime => format!("({text}::timestamptz at time zone 'UTC')"),
            _ => format!("{text}::{}", self.cast()),
        }
    }
}

fn holds_text(declared: &DeclaredType, length: Option<usize>) -> bool {
    matches!(&*declared.name, "text" | "citext" | "varchar") && declared.admits_length(length)
}

fn integers(declared: &DeclaredType) -> Option<(i64, i64)> {
    Some(match &*declared.name {
        "int2" => (i16::MIN.into(), i16::MAX.into()),
        "int4" => (i32::MIN.into(), i32::MAX.into()),
        "int8" => (i64::MIN, i64::MAX),
        _ => return None,
    })
}

/// How a column of this type stores the field, or the types that would fit.
pub(crate) fn format(field: &FieldType, declared: &DeclaredType) -> Result<Format, String> {
    let name = &*declared.name;
    match field {
        FieldType::Text { max_length, one_of } => {
            let length = text_length(*max_length, one_of.as_deref());
            if holds_text(declared, length) {
                Ok(Format::Text)
            } else if name == "numeric" && one_of.is_none() {
                Ok(Format::Numeric)
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
            "timestamptz" => Ok(Format::Time),
            "timestamp" => Ok(Format::LocalTime),
            _ => Err("timestamptz, or timestamp in UTC".into()),
        },
        FieldType::Date if name == "date" => Ok(Format::Date),
        FieldType::Date => Err("date".into()),
        FieldType::Uuid if name == "uuid" => Ok(Format::Uuid),
        FieldType::Uuid if holds_text(declared, Some(36)) => Ok(Format::Text),
        FieldType::Uuid => Err("uuid, or text of at least 36 characters".into()),
        FieldType::Integer { min, max } => {
            let fits =
                integers(declared).is_some_and(|(least, most)| least <= *min && *max <= most);
            let expected = || format!("bigint, or another integer that holds {min} to {max}");
            fits.then_some(Format::Integer).ok_or_else(expected)
        }
        FieldType::Number { .. } if name == "float8" => Ok(Format::Number),
        FieldType::Number { .. } => {
            Err("double precision; a string field keeps every digit of a numeric".into())
        }
        FieldType::Boolean if name == "bool" => Ok(Format::Boolean),
        FieldType::Boolean => Err("boolean".into()),
        FieldType::Json(_) => match name {
            "jsonb" => Ok(Format::Jsonb),
            "json" => Ok(Format::Json),
            _ => Err("jsonb, or json".into()),
        },
        other => Err(format!(
            "a version of fieldsync-postgres that supports {other:?}"
        )),
    }
}

/// How a key column stores ids, or what would fit.
pub(crate) fn key_format(
    ids: Ids,
    column: &ColumnInfo,
    gives_ids: bool,
) -> Result<Format, KeyMismatch> {
    let declared = &column.declared;
    match ids {
        Ids::Integer if gives_ids && !column.has_default => Err(KeyMismatch {
            found: Some(format!("{} without a default", declared.shown)),
            expected:
                "an identity column or a sequence, which gives ids; or .no_create() for the collection"
                    .to_owned(),
        }),
        Ids::Integer if integers(declared).is_some() => Ok(Format::Integer),
        Ids::Integer => Err(KeyMismatch::expected(
            "an integer; or .uuid_ids() for the collection",
        )),
        _ => format(&FieldType::Uuid, declared).map_err(KeyMismatch::expected),
    }
}
