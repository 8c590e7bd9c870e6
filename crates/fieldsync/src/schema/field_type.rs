//! Field types, and the validation of values. `json_schema` reads field types from a JSON Schema.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::model::canonical::CanonicalHasher;
use crate::model::exact_number;
use crate::model::record::{MAX_SAFE_INTEGER, integer_value};
use crate::model::timestamp::Timestamp;
use crate::schema::json::MAX_DEPTH;

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
    /// A calendar date, such as `2026-01-13`.
    Date,
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
}

impl Schema {
    /// A type without special values.
    #[must_use]
    pub fn new(kind: FieldType, nullable: bool) -> Self {
        Self {
            kind,
            nullable,
            special_values: false,
        }
    }

    /// Validates a value, and returns it in the canonical form in which it is stored and compared. The error is a
    /// message for the field.
    pub(crate) fn check(&self, value: &Value) -> Result<Value, String> {
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
        let keeps_digits = matches!(self.kind, FieldType::Json(_));
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
            FieldType::Date => {
                let text = value.as_str().ok_or("must be a date like 2026-01-13")?;
                let date = text
                    .parse::<jiff::civil::Date>()
                    .ok()
                    .filter(|date| date.to_string() == text);
                Ok(date
                    .ok_or("must be a date like 2026-01-13")?
                    .to_string()
                    .into())
            }
            FieldType::Uuid => {
                let text = value.as_str().ok_or("must be a UUID")?;
                let uuid = text.parse::<uuid::Uuid>().map_err(|_| "must be a UUID")?;
                Ok(uuid.hyphenated().to_string().into())
            }
            FieldType::Integer { min, max } => {
                let number = match value {
                    // Smaller integers have one form.
                    Value::String(digits)
                        if *min < -MAX_SAFE_INTEGER || *max > MAX_SAFE_INTEGER =>
                    {
                        whole_number_of_text(digits)
                    }
                    value => whole_number(value),
                };
                let number = number.ok_or("must be a whole number")?;
                if number < i128::from(*min) || number > i128::from(*max) {
                    return Err(format!("must be from {min} to {max}"));
                }
                let number = i64::try_from(number).expect("the number is within the bounds");
                Ok(integer_value(number))
            }
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

fn check_text(
    value: &Value,
    max_length: Option<usize>,
    one_of: Option<&[String]>,
) -> Result<Value, String> {
    let text = value.as_str().ok_or("must be a string")?;
    if text.contains('\0') {
        return Err("must not contain NUL".into());
    }
    if let Some(max) = max_length.filter(|max| text.chars().count() > *max) {
        return Err(format!("must have at most {max} characters"));
    }
    match one_of {
        Some(values) if !values.iter().any(|one| one == text) => {
            Err(format!("must be one of {}", values.join(", ")))
        }
        _ => Ok(value.clone()),
    }
}

fn check_number(value: &Value, min: Option<f64>, max: Option<f64>) -> Result<Value, String> {
    let number = value.as_f64().ok_or("must be a number")?;
    if whole_number(value).is_some_and(|whole| whole.abs() > i128::from(MAX_SAFE_INTEGER))
        && !value.is_f64()
    {
        return Err("has more digits than a double can represent exactly".into());
    }
    if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
        return Err(match (min, max) {
            (Some(min), Some(max)) => format!("must be from {min} to {max}"),
            (Some(min), None) => format!("must be at least {min}"),
            (None, max) => format!("must be at most {}", max.unwrap_or_default()),
        });
    }
    Ok(number.into())
}

/// The whole number that a text of digits stands for, without leading zeros or a plus sign.
fn whole_number_of_text(text: &str) -> Option<i128> {
    let number: i128 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The value as a whole number. `1.0` and `1e2` are whole numbers too.
pub(crate) fn whole_number(value: &Value) -> Option<i128> {
    let number = value.as_number()?;
    let whole = number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from));
    whole.or_else(|| {
        number
            .as_f64()
            .filter(|float| float.fract() == 0.0 && float.abs() < 1e30)
            .map(|float| float as i128)
    })
}

impl JsonShape {
    fn check(&self, value: &Value) -> Result<Value, String> {
        match self {
            Self::Any => check_any(value, 1),
            Self::Array(items) => {
                let values = value.as_array().ok_or("must be an array")?;
                let checked = values.iter().enumerate();
                checked
                    .map(|(at, item)| {
                        items
                            .check(item)
                            .map_err(|message| at_member(&at.to_string(), &message))
                    })
                    .collect()
            }
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

/// Validates a JSON value of any shape. Refuses what some store can't represent.
fn check_any(value: &Value, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH} levels"));
    }
    match value {
        Value::String(text) if text.contains('\0') => match exact_number::digits(value) {
            Some(digits) if exact_number::is_out_of_range(digits) => {
                Err("has a number outside the range of a double".into())
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
            json!(["\u{0}1e400"]),
            Err("has a number outside the range of a double"),
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
            (json!({"type":"string","pattern":"a"}), "pattern"),
            (json!({"type":"string","format":"email"}), "email"),
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
