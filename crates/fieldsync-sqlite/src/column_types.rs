//! Which declared types hold which fields.

use crate::time_form::TimeForm;
use fieldsync::backend::{FieldType, Ids, JsonShape};
use fieldsync_sql::{ColumnInfo, DeclaredType, KeyMismatch, text_length};

/// How a column stores the values of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Unchanged: text, dates, hyphenated UUIDs.
    Text,
    /// A UUID of 32 digits, as some frameworks store it in `char(32)`.
    SimpleUuid,
    /// A UUID in a key, with or without hyphens, in either case.
    AnyUuid,
    /// A UUID of 16 bytes.
    BlobUuid,
    /// A time.
    Time(TimeForm),
    /// A time without an offset.
    NaiveTime(TimeForm),
    Integer,
    Number,
    /// 0 or 1.
    Boolean,
    /// JSON as text.
    Json,
    /// A blob.
    Bytes,
    /// Text in a column that turns digits into numbers.
    LooseText,
    /// Any value, as it is stored: a number, text, or bytes.
    Any,
}

impl Format {
    /// How it stores times, if it does.
    pub(crate) fn time_form(self) -> Option<TimeForm> {
        match self {
            Self::Time(form) | Self::NaiveTime(form) => Some(form),
            _ => None,
        }
    }
}

/// A column without a type stores every value unchanged.
fn is_untyped(declared: &DeclaredType) -> bool {
    declared.name.is_empty() || declared.name == "any"
}

/// SQLite's own rule for text affinity. `point` and `int` come first there.
fn is_text(declared: &DeclaredType) -> bool {
    let is_named = |part: &&str| declared.name.contains(part);
    !declared.name.contains("int") && ["char", "clob", "text"].iter().any(is_named)
}

/// The types that are meant for integers. SQLite itself takes `point` for one.
fn is_integer(declared: &DeclaredType) -> bool {
    let is_named = |word: &str| {
        matches!(
            word,
            "int"
                | "integer"
                | "int1"
                | "int2"
                | "int3"
                | "int4"
                | "int8"
                | "tinyint"
                | "smallint"
                | "mediumint"
                | "bigint"
                | "serial"
                | "bigserial"
        )
    };
    declared.name.split(' ').any(is_named)
}

fn holds_text(declared: &DeclaredType, length: Option<usize>) -> bool {
    is_untyped(declared) || is_text(declared) && declared.admits_length(length)
}

/// The integers that the type is meant for. SQLite itself would store any.
fn integers(declared: &DeclaredType) -> Option<(i64, i64)> {
    let (min, max) = match declared.name.split(' ').next()? {
        "tinyint" | "int1" => (i8::MIN.into(), i8::MAX.into()),
        "smallint" | "int2" => (i16::MIN.into(), i16::MAX.into()),
        "mediumint" | "int3" => (-(1 << 23), (1 << 23) - 1),
        _ if is_integer(declared) => (i64::MIN, i64::MAX),
        _ => return None,
    };
    let doubled = |max: i64| max.saturating_mul(2).saturating_add(1);
    Some(if declared.name.contains("unsigned") {
        (0, doubled(max))
    } else {
        (min, max)
    })
}

/// How a column of this type stores the field, or the types that would fit.
pub(crate) fn format(field: &FieldType, declared: &DeclaredType) -> Result<Format, String> {
    let fit = |fits: bool, format: Format, expected: &str| {
        if fits {
            Ok(format)
        } else {
            Err(expected.to_owned())
        }
    };
    match field {
        FieldType::Text { max_length, one_of } => {
            let length = text_length(*max_length, one_of.as_deref());
            let expected = match length {
                Some(length) => format!("varchar({length}) or wider, or text"),
                None => "text, or a maxLength of the field that fits the column".to_owned(),
            };
            if has_no_own_field(declared) {
                return Ok(Format::LooseText);
            }
            fit(holds_text(declared, length), Format::Text, &expected)
        }
        FieldType::DateTime => fit(
            holds_time(declared),
            Format::Time(form_of(declared)),
            TIME_COLUMNS,
        ),
        FieldType::LocalDateTime => fit(
            holds_time(declared),
            Format::NaiveTime(form_of(declared)),
            TIME_COLUMNS,
        ),
        FieldType::Time => {
            let fits = declared.name == "time" || holds_text(declared, Some(15));
            let expected = "time, or text of at least 15 characters";
            fit(fits, Format::LooseText, expected)
        }
        FieldType::Decimal => {
            let fits = is_numeric(declared) || holds_text(declared, None);
            let expected = "text; or numeric or decimal, which keep 15 digits";
            fit(fits, Format::LooseText, expected)
        }
        FieldType::Date => {
            let fits = declared.name == "date" || holds_text(declared, Some(10));
            fit(
                fits,
                Format::Text,
                "date, or text of at least 10 characters",
            )
        }
        FieldType::Uuid if is_blob(declared) => Ok(Format::BlobUuid),
        FieldType::Uuid => uuid_format(declared).ok_or_else(|| UUID_COLUMNS.to_owned()),
        FieldType::Integer { min, max } => {
            let fits =
                integers(declared).is_some_and(|(least, most)| least <= *min && *max <= most);
            let expected = format!("integer, or another that holds {min} to {max}");
            fit(fits || is_untyped(declared), Format::Integer, &expected)
        }
        FieldType::Number { .. } => {
            let fits = is_real(declared) || is_numeric(declared) || is_untyped(declared);
            let expected = "real, double, float, numeric, or decimal";
            fit(fits, Format::Number, expected)
        }
        FieldType::Boolean => {
            let is_boolean = matches!(&*declared.name, "bool" | "boolean");
            let fits = is_boolean || is_integer(declared) || is_untyped(declared);
            fit(fits, Format::Boolean, "boolean, or integer")
        }
        FieldType::Json(_) => {
            if is_untyped(declared) {
                return Ok(Format::Any);
            }
            let fits = is_json(declared) || holds_text(declared, None);
            fit(fits, Format::Json, "text, or json")
        }
        FieldType::Bytes => fit(is_blob(declared), Format::Bytes, "blob"),
        other => Err(format!(
            "a version of fieldsync-sqlite that supports {other:?}"
        )),
    }
}

const TIME_COLUMNS: &str = "datetime, timestamp, or text of at least 26 characters";

fn holds_time(declared: &DeclaredType) -> bool {
    is_time(declared) || holds_text(declared, Some(26))
}

fn form_of(declared: &DeclaredType) -> TimeForm {
    let sample = declared.sample.as_deref();
    sample.map_or(TimeForm::SQL, TimeForm::of)
}

fn is_json(declared: &DeclaredType) -> bool {
    matches!(&*declared.name, "json" | "jsonb")
}

fn is_blob(declared: &DeclaredType) -> bool {
    declared.name.contains("blob") || declared.name == "bytea" || declared.name.contains("binary")
}

/// The sample of a column that holds blobs.
pub(crate) const BLOB: &str = "blob";

/// A type that is meant for UUIDs, which frameworks store in every form.
pub(crate) fn is_uuid(declared: &DeclaredType) -> bool {
    matches!(&*declared.name, "uuid" | "guid")
}

fn is_numeric(declared: &DeclaredType) -> bool {
    matches!(&*declared.name, "numeric" | "decimal" | "number" | "money")
}

fn is_real(declared: &DeclaredType) -> bool {
    let is_named = |part: &&str| declared.name.contains(part);
    ["real", "doub", "floa"].iter().any(is_named)
}

pub(crate) fn is_time(declared: &DeclaredType) -> bool {
    let is_named = |name: &&str| declared.name.starts_with(name);
    ["datetime", "timestamp"].iter().any(is_named)
}

/// Whether no field but one of text is meant for the type: `time`, `point`, `uuid`.
fn has_no_own_field(declared: &DeclaredType) -> bool {
    !is_untyped(declared)
        && !is_text(declared)
        && !is_integer(declared)
        && !is_real(declared)
        && !is_numeric(declared)
        && !is_time(declared)
        && !is_json(declared)
        && !is_blob(declared)
        && !is_uuid(declared)
        && !matches!(&*declared.name, "date" | "bool" | "boolean")
}

/// The field that fits a column of this type.
pub(crate) fn field_type(declared: &DeclaredType) -> FieldType {
    if is_untyped(declared) || is_json(declared) {
        FieldType::Json(JsonShape::Any)
    } else if let Some((min, max)) = integers(declared) {
        FieldType::Integer { min, max }
    } else if matches!(&*declared.name, "bool" | "boolean") {
        FieldType::Boolean
    } else if is_time(declared) {
        FieldType::DateTime
    } else if declared.name == "date" {
        FieldType::Date
    } else if is_uuid(declared) {
        FieldType::Uuid
    } else if is_real(declared) || is_numeric(declared) {
        FieldType::Number {
            min: None,
            max: None,
        }
    } else if is_blob(declared) {
        FieldType::Bytes
    } else {
        FieldType::Text {
            max_length: declared.length.filter(|_| is_text(declared)),
            one_of: None,
        }
    }
}

/// The ids that a column of this type can hold.
pub(crate) fn key_ids(declared: &DeclaredType) -> Option<Ids> {
    if is_integer(declared) {
        Some(Ids::Integer)
    } else if is_uuid(declared) || is_blob(declared) {
        Some(Ids::UuidV7)
    } else if is_real(declared) {
        None
    } else {
        Some(Ids::Text)
    }
}

const UUID_COLUMNS: &str =
    "text, varchar(36), uuid, char(32) for UUIDs without hyphens, or blob for UUIDs of 16 bytes";

fn uuid_format(declared: &DeclaredType) -> Option<Format> {
    let sample = declared.sample.as_deref().unwrap_or_default();
    if is_uuid(declared) && sample == BLOB {
        Some(Format::BlobUuid)
    } else if is_uuid(declared) && sample.len() == 32 {
        Some(Format::SimpleUuid)
    } else if is_uuid(declared) || holds_text(declared, Some(36)) {
        Some(Format::Text)
    } else if is_text(declared) && declared.length.is_some_and(|length| length >= 32) {
        Some(Format::SimpleUuid)
    } else {
        None
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
        // SQLite gives ids only where the type is this very word.
        Ids::Integer if gives_ids && declared.name != "integer" => Err(KeyMismatch::expected(
            "integer primary key, the one type for which SQLite gives ids; or .no_create() for the collection",
        )),
        Ids::Integer if gives_ids && !column.has_default => Err(KeyMismatch {
            found: Some("a table without rowid".to_owned()),
            expected:
                "a table with rowids, to which SQLite gives ids; or .no_create() for the collection"
                    .to_owned(),
        }),
        Ids::Integer if is_integer(declared) => Ok(Format::Integer),
        Ids::Integer => Err(KeyMismatch::expected(
            "integer; or .uuid_ids() or .text_ids() for the collection",
        )),
        Ids::UuidV7 => match uuid_format(declared) {
            Some(Format::Text) => Ok(Format::AnyUuid),
            Some(format) => Ok(format),
            None if is_blob(declared) => Ok(Format::BlobUuid),
            None => Err(KeyMismatch::expected(UUID_COLUMNS)),
        },
        Ids::Text if gives_ids && !column.has_default => Err(KeyMismatch {
            found: Some(format!("{} without a default", declared.shown)),
            expected: "a default, which gives ids; or .text_ids(), for ids that the creator gives"
                .to_owned(),
        }),
        Ids::Text if is_integer(declared) => Ok(Format::Integer),
        Ids::Text if is_text(declared) || is_untyped(declared) => Ok(Format::Text),
        Ids::Text if is_blob(declared) => Ok(Format::BlobUuid),
        Ids::Text if is_real(declared) => Err(KeyMismatch::expected(
            "a type that has one text for each value",
        )),
        Ids::Text => Ok(Format::LooseText),
        other => Err(KeyMismatch::expected(format!(
            "a version of fieldsync-sqlite that supports {other:?}"
        ))),
    }
}
