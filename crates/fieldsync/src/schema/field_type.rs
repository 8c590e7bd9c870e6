//! Field types, and the validation of values. `json_schema` reads field types from a JSON Schema.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::model::canonical::CanonicalHasher;
use crate::model::exact_number;
use crate::model::record::MAX_SAFE_INTEGER;
use crate::model::timestamp::Timestamp;
use crate::schema::checks::Check;
use crate::schema::json::MAX_DEPTH;
use crate::schema::scalars::{
    check_date, check_decimal, check_integer, check_local_time, check_number, check_text,
    check_time, whole_number_of_text,
};

/// The type of a field, without null.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldType {
    /// Text.
    Text {
        /// The maximum length in Unicode code points.
        max_length: Option<usize>,
        /// The allowed values. `None` allows every text.
        one_of: Option<Vec<String>>,
    },
    /// A point in time. On the wire it is an RFC 3339 string, always in UTC and with six fractional digits.
    DateTime,
    /// A date and a time of day without an offset from UTC: `2026-01-13T10:00:00.123456`, always with six fractional digits.
    LocalDateTime,
    /// A calendar date, such as `2026-01-13`.
    Date,
    /// A time of day: `10:00:00`, with up to six fractional digits.
    Time,
    /// A UUID (RFC 9562), with hyphens and in lower case.
    Uuid,
    /// A whole number. One beyond ±(2^53 − 1) is a string of digits on the wire: JSON readers would round it.
    Integer {
        /// The lowest allowed value.
        min: i64,
        /// The highest allowed value.
        max: i64,
    },
    /// A double-precision floating-point number.
    Number {
        /// The lowest allowed value.
        min: Option<f64>,
        /// The highest allowed value.
        max: Option<f64>,
    },
    /// A decimal number that keeps every digit. On the wire it is a string; a number is accepted as well.
    Decimal,
    /// True or false.
    Boolean,
    /// Bytes, in base64 (RFC 4648, section 4) on the wire.
    Bytes,
    /// A JSON value, such as an object or an array.
    Json(JsonShape),
}

/// The values that a JSON field may contain.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum JsonShape {
    /// Any JSON value.
    Any,
    /// An array. Each item must match the schema.
    Array(Box<Schema>),
    /// An array with an item for each of these schemas.
    Tuple(Vec<Schema>),
    /// A value that one of these schemas accepts: an enum with data.
    OneOf(Vec<Schema>),
    /// An object with these members.
    Object {
        /// The schemas of the named members.
        properties: BTreeMap<String, Schema>,
        /// The names of the members that must be present.
        required: Vec<String>,
        /// The schema of all other members. `None` allows no other members.
        additional: Option<Box<Schema>>,
    },
}

/// The type of a value, and whether it may be null.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The type of a value that is not null.
    pub kind: FieldType,
    /// Whether null is allowed.
    pub nullable: bool,
    /// Whether the database's own special values are allowed, as strings: `NaN`, `Infinity`, `-Infinity` and whole numbers
    /// beyond ±(2^53 − 1) for numbers, and for dates and times `infinity`, `-infinity`, `0044-03-15 BC`, and years after 9999.
    pub special_values: bool,
    /// What a value must be beside its type.
    pub(crate) checks: Vec<Check>,
}

impl Schema {
    /// A type without special values.
    #[must_use]
    pub fn new(kind: FieldType, nullable: bool) -> Self {
        Self {
            kind,
            nullable,
            special_values: false,
            checks: Vec::new(),
        }
    }

    /// Validates a value, and returns it in the canonical form in which it is stored and compared. The error is a
    /// message for the field.
    pub(crate) fn check(&self, value: &Value) -> Result<Value, String> {
        let value = self.check_type(value)?;
        if !value.is_null() {
            self.checks
                .iter()
                .try_for_each(|check| check.check(&value))?;
        }
        Ok(value)
    }

    fn check_type(&self, value: &Value) -> Result<Value, String> {
        if value.is_null() {
            return if self.nullable {
                Ok(Value::Null)
            } else {
                Err("must not be null".into())
            };
        }
        if self.special_values
            && let Some(text) = value.as_str()
            && is_special(&self.kind, text)
        {
            return Ok(value.clone());
        }
        let keeps_digits = matches!(self.kind, FieldType::Json(_) | FieldType::Decimal);
        if !keeps_digits && exact_number::digits(value).is_some() {
            return Err("has more digits than a double can represent exactly".into());
        }
        match &self.kind {
            FieldType::Text { max_length, one_of } => {
                check_text(value, *max_length, one_of.as_deref())
            }
            FieldType::DateTime => {
                let text = value.as_str().ok_or("must be an RFC 3339 time")?;
                Ok(text.parse::<Timestamp>()?.to_string().into())
            }
            FieldType::LocalDateTime => check_local_time(value),
            FieldType::Time => check_time(value),
            FieldType::Decimal => check_decimal(value),
            FieldType::Date => check_date(value),
            FieldType::Uuid => {
                let uuid = value
                    .as_str()
                    .and_then(|text| text.parse::<uuid::Uuid>().ok());
                let uuid = uuid.ok_or("must be a UUID")?;
                Ok(uuid.hyphenated().to_string().into())
            }
            FieldType::Integer { min, max } => check_integer(value, *min, *max),
            FieldType::Number { min, max } => check_number(value, *min, *max),
            FieldType::Boolean => value
                .is_boolean()
                .then(|| value.clone())
                .ok_or("must be true or false".into()),
            FieldType::Bytes => {
                let text = value.as_str().ok_or("must be base64")?;
                let bytes = STANDARD.decode(text).map_err(|_| "must be base64")?;
                Ok(STANDARD.encode(bytes).into())
            }
            FieldType::Json(shape) => shape.check(value),
        }
    }

    /// Whether this is an enum with data and the value a whole one: it takes the place of another form, whose members would
    /// otherwise stay.
    pub(crate) fn is_whole(&self, value: &Value) -> bool {
        matches!(self.kind, FieldType::Json(JsonShape::OneOf(_))) && self.check(value).is_ok()
    }

    /// Writes the type into an identity. Tests pin what is written, so that renaming a variant changes no identity.
    pub(crate) fn identify(&self, hasher: &mut CanonicalHasher) {
        hasher.flag(self.nullable);
        match &self.kind {
            FieldType::Text { max_length, one_of } => {
                hasher.text("text");
                if let Some(max) = hasher.option(*max_length) {
                    hasher.number(max as i128);
                }
                if let Some(values) = hasher.option(one_of.as_ref()) {
                    let values: BTreeSet<_> = values.iter().collect();
                    hasher.list(values.len());
                    values.iter().for_each(|value| hasher.text(value));
                }
            }
            FieldType::DateTime => hasher.text("date-time"),
            FieldType::Date => hasher.text("date"),
            FieldType::Uuid => hasher.text("uuid"),
            FieldType::LocalDateTime => hasher.text("local-date-time"),
            FieldType::Time => hasher.text("time"),
            FieldType::Decimal => hasher.text("decimal"),
            FieldType::Integer { min, max } => {
                hasher.text("integer");
                hasher.number((*min).into());
                hasher.number((*max).into());
            }
            FieldType::Number { min, max } => {
                hasher.text("number");
                for bound in [min, max] {
                    if let Some(bound) = hasher.option(*bound) {
                        hasher.float(bound);
                    }
                }
            }
            FieldType::Boolean => hasher.text("boolean"),
            FieldType::Bytes => hasher.text("bytes"),
            FieldType::Json(shape) => {
                hasher.text("json");
                shape.identify(hasher);
            }
        }
        if !self.checks.is_empty() {
            hasher.text("checks");
            hasher.list(self.checks.len());
            self.checks.iter().for_each(|check| check.identify(hasher));
        }
    }
}

impl Schema {
    /// Whether a value has the constants that tell this form of an enum from the others.
    fn is_meant_by(&self, value: &Value) -> bool {
        let FieldType::Json(JsonShape::Object {
            properties,
            required,
            ..
        }) = &self.kind
        else {
            return false;
        };
        let is_tag = |schema: &Self| matches!(&schema.kind, FieldType::Text { one_of: Some(values), .. } if values.len() == 1);
        let mut tags = properties
            .iter()
            .filter(|(_, schema)| is_tag(schema))
            .peekable();
        if tags.peek().is_none() {
            // The name of an externally tagged form is its one member.
            return required.len() == 1 && value.get(&required[0]).is_some();
        }
        tags.all(|(name, schema)| {
            value
                .get(name)
                .is_some_and(|value| schema.check(value).is_ok())
        })
    }
}

impl JsonShape {
    fn identify(&self, hasher: &mut CanonicalHasher) {
        match self {
            Self::Any => hasher.text("any"),
            Self::Array(items) => {
                hasher.text("array");
                items.identify(hasher);
            }
            Self::Tuple(schemas) => {
                hasher.text("tuple");
                hasher.list(schemas.len());
                schemas.iter().for_each(|schema| schema.identify(hasher));
            }
            Self::OneOf(schemas) => {
                hasher.text("one of");
                hasher.list(schemas.len());
                schemas.iter().for_each(|schema| schema.identify(hasher));
            }
            Self::Object {
                properties,
                required,
                additional,
            } => {
                hasher.text("object");
                hasher.list(properties.len());
                for (name, schema) in properties {
                    hasher.text(name);
                    schema.identify(hasher);
                }
                let required: BTreeSet<_> = required.iter().collect();
                hasher.list(required.len());
                required.iter().for_each(|name| hasher.text(name));
                if let Some(schema) = hasher.option(additional.as_ref()) {
                    schema.identify(hasher);
                }
            }
        }
    }
}

/// Whether a text is a special value of this type.
fn is_special(kind: &FieldType, text: &str) -> bool {
    match kind {
        FieldType::Number { .. } => {
            let is_long =
                |number: i128| number.unsigned_abs() > MAX_SAFE_INTEGER.unsigned_abs().into();
            matches!(text, "NaN" | "Infinity" | "-Infinity")
                || whole_number_of_text(text).is_some_and(is_long)
        }
        FieldType::Date | FieldType::DateTime => {
            let before = text.strip_suffix(" BC").unwrap_or(text);
            let year = before.split('-').next().unwrap_or_default();
            let is_far = text.ends_with(" BC") || year.len() > 4;
            let is_plain = |byte: u8| byte.is_ascii_digit() || b"-+:.TZ ".contains(&byte);
            matches!(text, "infinity" | "-infinity")
                || is_far && text.len() <= 40 && before.bytes().all(is_plain)
        }
        _ => false,
    }
}

impl JsonShape {
    fn check(&self, value: &Value) -> Result<Value, String> {
        match self {
            Self::Any => check_any(value, 1),
            Self::Array(items) => check_items(value, std::iter::repeat(&**items)),
            Self::Tuple(schemas) => {
                let count = value.as_array().map(Vec::len);
                if count.is_some_and(|count| count != schemas.len()) {
                    return Err(format!("must have {} items", schemas.len()));
                }
                check_items(value, schemas.iter())
            }
            Self::OneOf(schemas) => check_one_of(value, schemas),
            Self::Object {
                properties,
                required,
                additional,
            } => {
                let members = value.as_object().ok_or("must be an object")?;
                if let Some(missing) = required.iter().find(|name| !members.contains_key(*name)) {
                    return Err(at_member(missing, "is required"));
                }
                let checked = members.iter().map(|(name, member)| {
                    if name.contains('\0') {
                        return Err("must not contain NUL in a member name".into());
                    }
                    let schema = properties.get(name).or(additional.as_deref());
                    let schema = schema.ok_or_else(|| at_member(name, "is not a known member"))?;
                    let member = schema
                        .check(member)
                        .map_err(|message| at_member(name, &message))?;
                    Ok((name.clone(), member))
                });
                checked
                    .collect::<Result<Map<_, _>, String>>()
                    .map(Value::Object)
            }
        }
    }
}

fn check_items<'a>(
    value: &Value,
    schemas: impl Iterator<Item = &'a Schema>,
) -> Result<Value, String> {
    let values = value.as_array().ok_or("must be an array")?;
    let checked = values
        .iter()
        .zip(schemas)
        .enumerate()
        .map(|(at, (item, schema))| {
            let checked = schema.check(item);
            checked.map_err(|message| at_member(&at.to_string(), &message))
        });
    checked.collect()
}

/// The message of the schema whose constant members the value has is the one that helps.
fn check_one_of(value: &Value, schemas: &[Schema]) -> Result<Value, String> {
    let mut message = None;
    for schema in schemas {
        match schema.check(value) {
            Ok(value) => return Ok(value),
            Err(error) if message.is_none() && schema.is_meant_by(value) => message = Some(error),
            Err(_) => {}
        }
    }
    Err(message.unwrap_or_else(|| "has none of the forms that are allowed".into()))
}

/// Validates a JSON value of any shape. Refuses what some store can't represent.
fn check_any(value: &Value, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH} levels"));
    }
    match value {
        Value::String(text) if text.contains('\0') => match exact_number::digits(value) {
            Some(digits) if exact_number::is_out_of_range(digits) => {
                Err("has a number with an exponent beyond 400".into())
            }
            Some(_) => Ok(value.clone()),
            None => Err("must not contain NUL".into()),
        },
        Value::Number(number) => Ok(exact_number::canonical(number)),
        Value::Array(items) => items
            .iter()
            .map(|item| check_any(item, depth + 1))
            .collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| {
                if name.contains('\0') {
                    return Err("must not contain NUL in a member name".into());
                }
                Ok((name.clone(), check_any(member, depth + 1)?))
            });
            members
                .collect::<Result<Map<_, _>, String>>()
                .map(Value::Object)
        }
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(value.clone()),
    }
}

/// Prefixes a message about a member of a JSON value with the member's path: `/address/city: must be a string`.
pub(crate) fn at_member(name: &str, message: &str) -> String {
    let separator = if message.starts_with('/') { "" } else { ": " };
    format!("/{name}{separator}{message}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "reads better in the table")]
    fn check(schema: Value, value: Value, expected: Result<Value, &str>) {
        let schema = Schema::parse(&schema, &Map::new()).unwrap();
        assert_eq!(schema.check(&value), expected.map_err(str::to_owned));
    }

    #[test]
    fn values_are_validated_and_made_canonical() {
        check(
            json!({"type":"string","maxLength":2}),
            json!("éé"),
            Ok(json!("éé")),
        );
        check(
            json!({"type":"string","maxLength":2}),
            json!("abc"),
            Err("must have at most 2 characters"),
        );
        check(json!({"type":"string"}), json!(1), Err("must be a string"));
        check(
            json!({"type":"string"}),
            json!(null),
            Err("must not be null"),
        );
        check(
            json!({"type":["string","null"]}),
            json!(null),
            Ok(json!(null)),
        );
        check(
            json!({"type":"string","enum":["a","b"]}),
            json!("c"),
            Err("must be one of a, b"),
        );
        check(
            json!({"type":"string","format":"date-time"}),
            json!("2026-01-13T12:00:00+02:00"),
            Ok(json!("2026-01-13T10:00:00.000000Z")),
        );
        check(
            json!({"type":"string","format":"date"}),
            json!("2026-02-30"),
            Err("must be a date like 2026-01-13"),
        );
        check(
            json!({"type":"string","format":"uuid"}),
            json!("67E55044-10B1-426F-9247-BB680E5FE0C8"),
            Ok(json!("67e55044-10b1-426f-9247-bb680e5fe0c8")),
        );
        check(
            json!({"type":"integer","format":"uint8"}),
            json!(256),
            Err("must be from 0 to 255"),
        );
        check(
            json!({"type":"integer"}),
            json!(9_007_199_254_740_993_u64),
            Err("must be from -9007199254740991 to 9007199254740991"),
        );
        check(
            json!({"type":"integer"}),
            json!(1.5),
            Err("must be a whole number"),
        );
        check(json!({"type":"integer"}), json!(2.0), Ok(json!(2)));
        check(
            json!({"type":"number"}),
            json!(9_007_199_254_740_993_u64),
            Err("has more digits than a double can represent exactly"),
        );
        check(json!({"type":"number"}), json!(1), Ok(json!(1.0)));
        check(
            json!({"type":"boolean"}),
            json!(0),
            Err("must be true or false"),
        );
        check(
            json!({"type":"array","items":{"type":"integer"}}),
            json!([1, "2"]),
            Err("/1: must be a whole number"),
        );
        check(
            json!({"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}),
            json!({"city":"Bonn","zip":1}),
            Err("/zip: is not a known member"),
        );
    }

    #[test]
    fn json_that_some_reader_cannot_represent_is_refused() {
        let any = json!(true);
        check(
            any.clone(),
            json!({"a": [1, "x", null]}),
            Ok(json!({"a": [1, "x", null]})),
        );
        check(any.clone(), json!(["a\0"]), Err("must not contain NUL"));
        check(
            any.clone(),
            json!({"a\0": 1}),
            Err("must not contain NUL in a member name"),
        );
        check(
            any.clone(),
            json!(["\u{0}1e401"]),
            Err("has a number with an exponent beyond 400"),
        );
        check(
            any.clone(),
            json!([i64::MAX, 1]),
            Ok(json!(["\u{0}9223372036854775807", 1])),
        );
        let deep = (0..64).fold(json!(1), |inner, _| json!([inner]));
        check(any, deep, Err("is nested deeper than 64 levels"));
        check(
            json!({"type":"string"}),
            json!("a\0"),
            Err("must not contain NUL"),
        );
    }

    #[test]
    fn an_unsupported_keyword_is_named_in_the_error() {
        for (schema, word) in [
            (json!({"type":"string","pattern":"("}), "pattern"),
            (json!({"type":"string","format":"hostname"}), "hostname"),
            (
                json!({"type":"string","format":"date","maxLength":3}),
                "date",
            ),
            (json!({"type":"array","prefixItems":[true]}), "prefixItems"),
            (json!({"type":"integer","multipleOf":2}), "multipleOf"),
            (json!({"type":["string","integer"]}), "string"),
            (json!({"allOf":[]}), "allOf"),
            (json!({"$ref":"#/$defs/Nothing"}), "Nothing"),
        ] {
            let error = Schema::parse(&schema, &Map::new()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn references_and_optional_enums_are_resolved() {
        let definitions = json!({"Color": {"oneOf": [{"type":"string","const":"red"}, {"type":"string","const":"blue","description":"calm"}]}, "Loop": {"type":"array","items":{"$ref":"#/$defs/Loop"}}});
        let definitions = definitions.as_object().unwrap();
        let schema = json!({"anyOf": [{"$ref":"#/$defs/Color"}, {"type":"null"}]});
        let schema = Schema::parse(&schema, definitions).unwrap();
        assert!(schema.nullable);
        assert_eq!(
            schema.check(&json!("green")),
            Err("must be one of red, blue".into())
        );
        assert!(
            Schema::parse(&json!({"$ref":"#/$defs/Loop"}), definitions)
                .unwrap_err()
                .contains("refers to itself")
        );
    }
}
