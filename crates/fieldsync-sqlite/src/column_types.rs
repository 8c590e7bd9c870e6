//! Which declared types hold which fields.

use fieldsync::backend::{FieldType, Ids};
use fieldsync_sql::{ColumnInfo, DeclaredType, KeyMismatch, text_length};

/// How a column stores the values of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Unchanged: text, dates, hyphenated UUIDs.
    Text,
    /// A UUID of 32 digits, as some frameworks store it in `char(32)`.
    SimpleUuid,
    /// A time as text in UTC, `2026-01-13 10:00:00.123456`.
    Time,
    Integer,
    Number,
    /// 0 or 1.
    Boolean,
    /// JSON as text.
    Json,
}

/// A column without a type stores every value unchanged.
fn is_untyped(declared: &DeclaredType) -> bool {
    declared.name.is_empty() || declared.name == "any"
}

/// SQLite's own rule for text affinity. `point` and `int` come first there.
fn is_text(declared: &DeclaredType) -> bool {
    let is_named = |part: &&str| declared.name.contains(part);
    !is_integer(declared) && ["char", "clob", "text"].iter().any(is_named)
}

fn is_integer(declared: &DeclaredType) -> bool {
    declared.name.contains("int")
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
            fit(holds_text(declared, length), Format::Text, &expected)
        }
        FieldType::DateTime => {
            let is_named = |name: &&str| declared.name.starts_with(name);
            let is_time = ["datetime", "timestamp"].iter().any(is_named);
            let expected = "datetime, timestamp, or text of at least 26 characters";
            fit(
                is_time || holds_text(declared, Some(26)),
                Format::Time,
                expected,
            )
        }
        FieldType::Date => {
            let fits = declared.name == "date" || holds_text(declared, Some(10));
            fit(
                fits,
                Format::Text,
                "date, or text of at least 10 characters",
            )
        }
        FieldType::Uuid => uuid_format(declared).ok_or_else(|| UUID_COLUMNS.to_owned()),
        FieldType::Integer { min, max } => {
            let fits =
                integers(declared).is_some_and(|(least, most)| least <= *min && *max <= most);
            let expected = format!("integer, or another that holds {min} to {max}");
            fit(fits || is_untyped(declared), Format::Integer, &expected)
        }
        FieldType::Number { .. } => {
            let is_named = |part: &&str| declared.name.contains(part);
            let is_real = ["real", "doub", "floa"].iter().any(is_named);
            // numeric(10, 2) is meant for fewer numbers than a double has.
            let is_numeric =
                matches!(&*declared.name, "numeric" | "decimal") && declared.length.is_none();
            let fits = is_real || is_numeric || is_untyped(declared);
            let expected = "real, double, float, or numeric without a precision";
            fit(fits, Format::Number, expected)
        }
        FieldType::Boolean => {
            let is_boolean = matches!(&*declared.name, "bool" | "boolean");
            let fits = is_boolean || is_integer(declared) || is_untyped(declared);
            fit(fits, Format::Boolean, "boolean, or integer")
        }
        FieldType::Json(_) => {
            let fits = declared.name == "json" || holds_text(declared, None);
            fit(fits, Format::Json, "text, or json")
        }
        other => Err(format!(
            "a version of fieldsync-sqlite that supports {other:?}"
        )),
    }
}

const UUID_COLUMNS: &str = "text, varchar(36), uuid, or char(32) for UUIDs without hyphens";

fn uuid_format(declared: &DeclaredType) -> Option<Format> {
    if declared.name == "uuid" || holds_text(declared, Some(36)) {
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
        Ids::Integer if gives_ids && !column.has_default => Err(KeyMismatch {
            found: Some("a table without rowid".to_owned()),
            expected:
                "a table with rowids, to which SQLite gives ids; or .no_create() for the collection"
                    .to_owned(),
        }),
        // SQLite gives ids only where the type is this very word.
        Ids::Integer if gives_ids && declared.name == "integer" => Ok(Format::Integer),
        Ids::Integer if gives_ids => Err(KeyMismatch::expected(
            "integer primary key, the one type for which SQLite gives ids; or .no_create() for the collection",
        )),
        Ids::Integer if is_integer(declared) => Ok(Format::Integer),
        Ids::Integer => Err(KeyMismatch::expected(
            "integer; or .uuid_ids() for the collection",
        )),
        Ids::UuidV7 => uuid_format(declared).ok_or_else(|| KeyMismatch::expected(UUID_COLUMNS)),
        other => Err(KeyMismatch::expected(format!(
            "a version of fieldsync-sqlite that supports {other:?}"
        ))),
    }
}
