//! The types of fields, and the check of a value against its type.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

use crate::model::canonical::CanonicalHasher;
use crate::model::timestamp::Timestamp;
use crate::schema::json::MAX_DEPTH;

/// The type of one field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldType {
    /// Text.
    Text {
        /// The most Unicode code points that it may have.
        max_length: Option<usize>,
        /// The only values that it may have.
        one_of: Option<Vec<String>>,
    },
    /// A point in time, RFC 3339 on the wire, always in UTC with six digits of a second.
    DateTime,
    /// A calendar day, `2026-01-13`.
    Date,
    /// A UUID (RFC 9562), hyphenated and in lower case.
    Uuid,
    /// A whole number within bounds; they never leave ±(2^53 - 1), which every JSON reader holds exactly.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A double.
    Number {
        /// The least.
        min: Option<f64>,
        /// The greatest.
        max: Option<f64>,
    },
    /// True or false.
    Boolean,
    /// An object, an array, or whatever else JSON holds.
    Json(JsonShape),
}

/// What a JSON field may hold.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum JsonShape {
    /// Any JSON value.
    Any,
    /// An array whose items fit the schema.
    Array(Box<Schema>),
    /// An object with these members; others fit `additional`, or are refused where that is `None`.
    Object {
        /// The named members.
        properties: BTreeMap<String, Schema>,
        /// The names that must be there.
        required: Vec<String>,
        /// What other members must fit.
        additional: Option<Box<Schema>>,
    },
}

/// A type, and whether null is among its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The type of what is not null.
    pub kind: FieldType,
    /// Whether null is allowed.
    pub nullable: bool,
}

/// The greatest integer that every JSON reader holds exactly (RFC 7493, section 2.2).
pub(crate) const MAX_SAFE: i64 = (1 << 53) - 1;

impl Schema {
    /// Checks a value and gives it in the one form in which it is stored and compared.
    pub(crate) fn check(&self, value: &Value) -> Result<Value, String> {
        if value.is_null() {
            return if self.nullable || self.kind == FieldType::Json(JsonShape::Any) {
                Ok(Value::Null)
            } else {
                Err("must not be null".into())
            };
        }
        match &self.kind {
            FieldType::Text { max_length, one_of } => {
                let text = value.as_str().ok_or("must be a string")?;
                if text.contains('\0') {
                    return Err("must not hold NUL".into());
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
            FieldType::DateTime => {
                let text = value
                    .as_str()
                    .ok_or("must be a string with a time in RFC 3339")?;
                Ok(text.parse::<Timestamp>()?.to_string().into())
            }
            FieldType::Date => {
                let text = value.as_str().ok_or("must be a string with a date")?;
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
                let text = value.as_str().ok_or("must be a string with a UUID")?;
                let uuid = text.parse::<uuid::Uuid>().map_err(|_| "must be a UUID")?;
                Ok(uuid.hyphenated().to_string().into())
            }
            FieldType::Integer { min, max } => {
                let number = whole_number(value).ok_or("must be a whole number")?;
                if number < i128::from(*min) || number > i128::from(*max) {
                    return Err(format!("must be from {min} to {max}"));
                }
                Ok(i64::try_from(number)
                    .expect("it is within the bounds")
                    .into())
            }
            FieldType::Number { min, max } => {
                let number = value.as_f64().ok_or("must be a number")?;
                if whole_number(value).is_some_and(|whole| whole.abs() > i128::from(MAX_SAFE))
                    && !value.is_f64()
                {
                    return Err("is a number that would be rounded".into());
                }
                if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                    let bound = |bound: &Option<f64>| {
                        bound.map_or("any".to_owned(), |bound| bound.to_string())
                    };
                    return Err(format!("must be from {} to {}", bound(min), bound(max)));
                }
                Ok(number.into())
            }
            FieldType::Boolean => value
                .is_boolean()
                .then(|| value.clone())
                .ok_or("must be true or false".into()),
            FieldType::Json(shape) => shape.check(value),
        }
    }
}

impl Schema {
    /// Writes the type into an identity. What it writes is pinned by tests: renaming a variant changes nothing.
    pub(crate) fn identify(&self, hasher: &mut CanonicalHasher) {
        hasher.flag(self.nullable);
        match &self.kind {
            FieldType::Text { max_length, one_of } => {
                hasher.text("text");
                if let Some(max) = hasher.option(*max_length) {
                    hasher.number(max as i128);
                }
                if let Some(values) = hasher.option(one_of.as_ref()) {
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

/// The value as a whole number, also where it is written `1.0` or `1e2`.
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
            Self::Any => {
                check_any(value, 1)?;
                Ok(value.clone())
            }
            Self::Array(items) => {
                let values = value.as_array().ok_or("must be an array")?;
                let checked = values.iter().enumerate();
                checked
                    .map(|(at, item)| {
                        items
                            .check(item)
                            .map_err(|message| below(&at.to_string(), &message))
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
                    return Err(below(missing, "is required"));
                }
                let checked = members.iter().map(|(name, member)| {
                    if name.contains('\0') {
                        return Err("must not hold NUL in a name".into());
                    }
                    let schema = properties.get(name).or(additional.as_deref());
                    let schema = schema.ok_or_else(|| below(name, "is not a known member"))?;
                    let member = schema
                        .check(member)
                        .map_err(|message| below(name, &message))?;
                    Ok((name.clone(), member))
                });
                checked
                    .collect::<Result<Map<_, _>, String>>()
                    .map(Value::Object)
            }
        }
    }
}

/// Checks JSON of any shape for what does not survive the way to every reader and every store.
fn check_any(value: &Value, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH} levels"));
    }
    match value {
        Value::String(text) if text.contains('\0') => Err("must not hold NUL".into()),
        // A double is all that JavaScript has.
        Value::Number(number) if !number.is_f64() => match whole_number(value) {
            Some(whole) if whole as f64 as i128 == whole => Ok(()),
            _ => Err("is a number that would be rounded".into()),
        },
        Value::Array(items) => items.iter().try_for_each(|item| check_any(item, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            if name.contains('\0') {
                return Err("must not hold NUL in a name".into());
            }
            check_any(member, depth + 1)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Puts the place inside a JSON field before a message: `/address/city: must be a string`.
pub(crate) fn below(name: &str, message: &str) -> String {
    let separator = if message.starts_with('/') { "" } else { ": " };
    format!("/{name}{separator}{message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "reads better in the table")]
    fn check(schema: Value, value: Value, expected: Result<Value, &str>) {
        let schema = Schema::parse(&schema, &Map::new()).unwrap();
        assert_eq!(schema.check(&value), expected.map_err(str::to_owned));
    }

    #[test]
    fn values_are_checked_and_brought_into_one_form() {
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
            Err("is a number that would be rounded"),
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
    fn json_of_any_shape_holds_what_every_reader_can_read() {
        let any = json!(true);
        check(
            any.clone(),
            json!({"a": [1, "x", null]}),
            Ok(json!({"a": [1, "x", null]})),
        );
        check(any.clone(), json!(["a\0"]), Err("must not hold NUL"));
        check(
            any.clone(),
            json!({"a\0": 1}),
            Err("must not hold NUL in a name"),
        );
        check(
            any.clone(),
            json!([i64::MAX]),
            Err("is a number that would be rounded"),
        );
        let deep = (0..64).fold(json!(1), |inner, _| json!([inner]));
        check(any, deep, Err("is nested deeper than 64 levels"));
        check(
            json!({"type":"string"}),
            json!("a\0"),
            Err("must not hold NUL"),
        );
    }

    #[test]
    fn other_keywords_are_named() {
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
