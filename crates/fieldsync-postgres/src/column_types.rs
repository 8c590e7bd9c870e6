//! Which column types hold which fields.

use std::sync::Arc;

use fieldsync::backend::{FieldType, Ids, JsonShape, Schema};
use fieldsync_sql::{ColumnInfo, DeclaredType, KeyMismatch, TypeKind, text_length};

/// How a column stores the values of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    /// `char(n)`, without the blanks that pad it.
    Padded,
    /// A number as text, with every digit.
    Numeric,
    /// A number of few digits, which a double represents exactly.
    ShortNumeric,
    Uuid,
    Date,
    /// `timestamptz`.
    Time,
    /// `timestamp`, in UTC.
    LocalTime,
    /// `timestamp`, without an offset.
    NaiveTime,
    Integer,
    Number,
    /// `real`.
    Real,
    Boolean,
    Json,
    Jsonb,
    /// `timestamptz` in a key: in UTC, without an offset.
    KeyTime,
    /// `bytea`.
    Bytes,
    /// `hstore`, by its name as SQL. Its JSON is an object.
    Hstore(Arc<str>),
    /// An array or a composite type, by its name as SQL, in the form of `to_jsonb`.
    Structured(Arc<str>),
    /// Any other type, by its name as SQL, in its text form.
    Other(Arc<str>),
}

impl Format {
    /// The type that a parameter's text is cast to.
    pub(crate) fn cast(&self) -> &str {
        match self {
            Self::Text | Self::Padded => "text",
            Self::Numeric | Self::ShortNumeric => "numeric",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Time | Self::LocalTime | Self::KeyTime => "timestamptz",
            Self::NaiveTime => "timestamp",
            Self::Integer => "bigint",
            Self::Number | Self::Real => "double precision",
            Self::Boolean => "boolean",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Bytes => "bytea",
            Self::Hstore(name) | Self::Structured(name) | Self::Other(name) => name,
        }
    }

    /// An expression of type text, as a value of the column's type.
    pub(crate) fn of_text(&self, text: &str) -> String {
        match self {
            Self::LocalTime => format!("({text}::timestamptz at time zone 'UTC')"),
            Self::KeyTime => format!("({text}::timestamp at time zone 'UTC')"),
            Self::Bytes => format!("decode({text}, 'base64')"),
            Self::Hstore(name) => format!(
                "(select case when {text} is not null then coalesce({name}(array_agg(e.key), array_agg(e.value)), '') end \
                 from jsonb_each_text({text}::jsonb) e)"
            ),
            Self::Structured(name) => format!(
                "(select r.value from jsonb_to_record(jsonb_build_object('value', {text}::jsonb)) as r(value {name}))"
            ),
            _ => format!("{text}::{}", self.cast()),
        }
    }

    /// The value of a column as text. Times are read as they are.
    pub(crate) fn to_text(&self, column: &str) -> String {
        match self {
            Self::Time | Self::LocalTime | Self::NaiveTime => column.to_owned(),
            // A cast to text would add the length of the netmask.
            Self::Other(name) if &**name == "inet" => format!("(to_jsonb({column}) #>> '{{}}')"),
            // `encode` breaks lines.
            Self::Bytes => format!("translate(encode({column}, 'base64'), E'\\n', '')"),
            Self::Hstore(_) | Self::Structured(_) => format!("to_jsonb({column})::text"),
            Self::KeyTime => format!("(to_jsonb({column} at time zone 'UTC') #>> '{{}}')"),
            _ => format!("{column}::text"),
        }
    }

    /// Whether values are written as JSON.
    pub(crate) fn is_json(&self) -> bool {
        matches!(
            self,
            Self::Json | Self::Jsonb | Self::Hstore(_) | Self::Structured(_)
        )
    }
}

/// Every decimal number of this many digits is another double.
const EXACT_DIGITS: usize = 15;

fn is_text(declared: &DeclaredType) -> bool {
    matches!(
        &*declared.name,
        "text" | "citext" | "varchar" | "bpchar" | "name"
    )
}

fn holds_text(declared: &DeclaredType, length: Option<usize>) -> bool {
    is_text(declared) && declared.admits_length(length)
}

fn integers(declared: &DeclaredType) -> Option<(i64, i64)> {
    Some(match &*declared.name {
        "int2" => (i16::MIN.into(), i16::MAX.into()),
        "int4" => (i32::MIN.into(), i32::MAX.into()),
        "int8" => (i64::MIN, i64::MAX),
        _ => return None,
    })
}

fn is_short_numeric(declared: &DeclaredType) -> bool {
    declared.name == "numeric" && declared.length.is_some_and(|digits| digits <= EXACT_DIGITS)
}

/// Whether another field than one of text is meant for the type.
fn has_own_field(declared: &DeclaredType) -> bool {
    let is_structured = matches!(declared.kind, TypeKind::Array | TypeKind::Composite);
    is_structured
        || is_text(declared)
        || integers(declared).is_some()
        || matches!(
            &*declared.name,
            "timestamptz"
                | "timestamp"
                | "date"
                | "uuid"
                | "float4"
                | "float8"
                | "bool"
                | "json"
                | "jsonb"
                | "bytea"
                | "hstore"
        )
}

/// How a column of this type stores the field, or the types that would fit.
pub(crate) fn format(field: &FieldType, declared: &DeclaredType) -> Result<Format, String> {
    let name = &*declared.name;
    let own = || declared.shown.as_str().into();
    match field {
        FieldType::Text { max_length, one_of } => text_format(*max_length, one_of.as_deref(), declared),
        FieldType::DateTime => match name {
            "timestamptz" => Ok(Format::Time),
            "timestamp" => Ok(Format::LocalTime),
            _ => Err("timestamptz, or timestamp in UTC".into()),
        },
        FieldType::LocalDateTime if name == "timestamp" => Ok(Format::NaiveTime),
        FieldType::LocalDateTime => Err("timestamp".into()),
        FieldType::Time if name == "time" => Ok(Format::Other(own())),
        FieldType::Time if holds_text(declared, Some(15)) => Ok(Format::Text),
        FieldType::Time => Err("time, or text of at least 15 characters".into()),
        FieldType::Decimal if name == "numeric" => Ok(Format::Numeric),
        FieldType::Decimal if holds_text(declared, None) => Ok(Format::Text),
        FieldType::Decimal => Err("numeric, or text".into()),
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
        FieldType::Number { .. } => match name {
            "float4" => Ok(Format::Real),
            "float8" => Ok(Format::Number),
            _ if is_short_numeric(declared) => Ok(Format::ShortNumeric),
            _ => Err(
                "double precision, real, or numeric of at most 15 digits; a string field keeps every digit of a numeric"
                    .into(),
            ),
        },
        FieldType::Boolean if name == "bool" => Ok(Format::Boolean),
        FieldType::Boolean => Err("boolean".into()),
        FieldType::Bytes if name == "bytea" => Ok(Format::Bytes),
        FieldType::Bytes => Err("bytea".into()),
        FieldType::Json(_) => match (name, &declared.kind) {
            (_, TypeKind::Array | TypeKind::Composite) => Ok(Format::Structured(own())),
            ("hstore", _) => Ok(Format::Hstore(own())),
            ("jsonb", _) => Ok(Format::Jsonb),
            ("json", _) => Ok(Format::Json),
            _ => Err("jsonb, json, an array, a composite type, or hstore".into()),
        },
        other => Err(format!(
            "a version of fieldsync-postgres that supports {other:?}"
        )),
    }
}

fn text_format(
    max_length: Option<usize>,
    one_of: Option<&[String]>,
    declared: &DeclaredType,
) -> Result<Format, String> {
    let length = text_length(max_length, one_of);
    if let TypeKind::Enum(labels) = &declared.kind {
        let unknown = one_of
            .into_iter()
            .flatten()
            .find(|one| !labels.contains(one));
        return match unknown {
            Some(unknown) => Err(format!("an enum with the label {unknown:?}")),
            None => Ok(Format::Other(declared.shown.as_str().into())),
        };
    }
    if holds_text(declared, length) {
        Ok(if declared.name == "bpchar" {
            Format::Padded
        } else {
            Format::Text
        })
    } else if declared.name == "numeric" && one_of.is_none() {
        Ok(Format::Numeric)
    } else if !has_own_field(declared) && one_of.is_none() && max_length.is_none() {
        Ok(Format::Other(declared.shown.as_str().into()))
    } else {
        Err(match length {
            Some(length) => format!("varchar({length}) or wider, text, or numeric"),
            None => "text, numeric, or a maxLength of the field that fits the column".into(),
        })
    }
}

/// The field that fits a column of this type.
pub(crate) fn field_type(declared: &DeclaredType) -> FieldType {
    let text = FieldType::Text {
        max_length: None,
        one_of: None,
    };
    let number = FieldType::Number {
        min: None,
        max: None,
    };
    let any = || Box::new(Schema::new(FieldType::Json(JsonShape::Any), true));
    if let Some((min, max)) = integers(declared) {
        return FieldType::Integer { min, max };
    }
    match (&*declared.name, &declared.kind) {
        (_, TypeKind::Enum(labels)) => FieldType::Text {
            max_length: None,
            one_of: Some(labels.clone()),
        },
        (_, TypeKind::Array) => FieldType::Json(JsonShape::Array(any())),
        (_, TypeKind::Composite) => FieldType::Json(JsonShape::Any),
        _ if is_text(declared) => FieldType::Text {
            max_length: declared.length,
            one_of: None,
        },
        ("timestamptz" | "timestamp", _) => FieldType::DateTime,
        ("date", _) => FieldType::Date,
        ("uuid", _) => FieldType::Uuid,
        ("float4" | "float8", _) => number,
        _ if is_short_numeric(declared) => number,
        ("bool", _) => FieldType::Boolean,
        ("json" | "jsonb" | "hstore", _) => FieldType::Json(JsonShape::Any),
        ("bytea", _) => FieldType::Bytes,
        _ => text,
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
            "an integer; or .uuid_ids() or .text_ids() for the collection",
        )),
        Ids::UuidV7 => format(&FieldType::Uuid, declared).map_err(KeyMismatch::expected),
        _ if gives_ids && !column.has_default => Err(KeyMismatch {
            found: Some(format!("{} without a default", declared.shown)),
            expected: "a default, which gives ids; or .text_ids(), for ids that the creator gives"
                .to_owned(),
        }),
        _ => text_key_format(declared).ok_or_else(|| KeyMismatch::expected("a type that has one text for each value")),
    }
}

/// The ids that a column of this type can hold.
pub(crate) fn key_ids(declared: &DeclaredType) -> Option<Ids> {
    match &*declared.name {
        _ if integers(declared).is_some() => Some(Ids::Integer),
        "uuid" => Some(Ids::UuidV7),
        _ => text_key_format(declared).map(|_| Ids::Text),
    }
}

/// How a column stores its part of an id of text.
fn text_key_format(declared: &DeclaredType) -> Option<Format> {
    let name = &*declared.name;
    if matches!(declared.kind, TypeKind::Array | TypeKind::Composite) {
        return None;
    }
    Some(match name {
        "float4" | "float8" | "json" | "jsonb" | "bytea" | "hstore" | "money" | "interval"
        | "timetz" | "xml" => return None,
        "timestamptz" => Format::KeyTime,
        "uuid" => Format::Uuid,
        "text" | "varchar" | "name" => Format::Text,
        _ if integers(declared).is_some() => Format::Integer,
        _ => Format::Other(declared.shown.as_str().into()),
    })
}
