//! The types of fields: from JSON Schema (draft 2020-12), a subset of it, and the check of a value against them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::json::MAX_DEPTH;
use crate::time::Timestamp;

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
const MAX_SAFE: i64 = (1 << 53) - 1;

impl Schema {
    /// Reads a JSON Schema; `definitions` is what `$ref` points into.
    pub(crate) fn parse(schema: &Value, definitions: &Map<String, Value>) -> Result<Self, String> {
        Parser {
            definitions,
            depth: 0,
        }
        .schema(schema)
    }

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

/// The value as a whole number, also where it is written `1.0` or `1e2`.
fn whole_number(value: &Value) -> Option<i128> {
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
fn below(name: &str, message: &str) -> String {
    let separator = if message.starts_with('/') { "" } else { ": " };
    format!("/{name}{separator}{message}")
}

struct Parser<'a> {
    definitions: &'a Map<String, Value>,
    depth: usize,
}

impl Parser<'_> {
    fn schema(&self, schema: &Value) -> Result<Schema, String> {
        if self.depth > 32 {
            return Err("its schema refers to itself, which is not supported".into());
        }
        let inner = Self {
            definitions: self.definitions,
            depth: self.depth + 1,
        };
        let schema = match schema {
            Value::Bool(true) => {
                return Ok(Schema {
                    kind: FieldType::Json(JsonShape::Any),
                    nullable: true,
                });
            }
            Value::Object(schema) => schema,
            _ => return Err("its schema is not an object".into()),
        };
        if let Some(reference) = schema.get("$ref") {
            only(schema, &["$ref"])?;
            return inner.schema(self.resolve(reference)?);
        }
        for combined in ["anyOf", "oneOf"] {
            if let Some(options) = schema.get(combined).and_then(Value::as_array) {
                only(schema, &[combined])?;
                return inner.options(options);
            }
        }
        let (types, nullable) = types(schema)?;
        let kind = match types.as_slice() {
            [] if schema.contains_key("const") || schema.contains_key("enum") => text(schema)?,
            [] => {
                only(schema, &[])?;
                return Ok(Schema {
                    kind: FieldType::Json(JsonShape::Any),
                    nullable: true,
                });
            }
            ["string"] => text(schema)?,
            ["integer"] => integer(schema)?,
            ["number"] => number(schema)?,
            ["boolean"] => {
                only(schema, &["type"])?;
                FieldType::Boolean
            }
            ["array"] => {
                only(schema, &["type", "items"])?;
                let items = schema.get("items").unwrap_or(&Value::Bool(true));
                FieldType::Json(JsonShape::Array(Box::new(inner.schema(items)?)))
            }
            ["object"] => FieldType::Json(inner.object(schema)?),
            several => {
                return Err(format!(
                    "type {several:?} is not supported; one type, or one type and null"
                ));
            }
        };
        Ok(Schema { kind, nullable })
    }

    fn resolve(&self, reference: &Value) -> Result<&Value, String> {
        let path = reference.as_str().unwrap_or_default();
        let name = path
            .strip_prefix("#/$defs/")
            .or_else(|| path.strip_prefix("#/definitions/"));
        name.and_then(|name| self.definitions.get(name))
            .ok_or_else(|| format!("$ref {path:?} points nowhere"))
    }

    /// `anyOf` and `oneOf`: something or null, or a choice of string constants.
    fn options(&self, options: &[Value]) -> Result<Schema, String> {
        let is_null = |option: &&Value| option.get("type").and_then(Value::as_str) == Some("null");
        let nullable = options.iter().any(|option| is_null(&option));
        let parsed = options
            .iter()
            .filter(|option| !is_null(option))
            .map(|option| self.schema(option));
        let mut parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        if parsed.len() == 1 {
            let only = parsed.remove(0);
            return Ok(Schema {
                nullable: nullable || only.nullable,
                ..only
            });
        }
        let mut values = Vec::new();
        for schema in parsed {
            match schema.kind {
                FieldType::Text {
                    one_of: Some(some), ..
                } if !schema.nullable => values.extend(some),
                _ => {
                    return Err(
                        "anyOf and oneOf are supported for null and for string constants alone"
                            .into(),
                    );
                }
            }
        }
        Ok(Schema {
            kind: FieldType::Text {
                max_length: None,
                one_of: Some(values),
            },
            nullable,
        })
    }

    fn object(&self, schema: &Map<String, Value>) -> Result<JsonShape, String> {
        only(
            schema,
            &["type", "properties", "required", "additionalProperties"],
        )?;
        let mut properties = BTreeMap::new();
        for (name, property) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            properties.insert(
                name.clone(),
                self.schema(property)
                    .map_err(|message| below(name, &message))?,
            );
        }
        let additional = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            None => Some(Box::new(self.schema(&Value::Bool(true))?)),
            Some(other) => Some(Box::new(self.schema(other)?)),
        };
        Ok(JsonShape::Object {
            properties,
            required: strings(schema.get("required")),
            additional,
        })
    }
}

/// Keywords that say nothing about values.
const ANNOTATIONS: [&str; 9] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
];

/// Refuses keywords that would otherwise be ignored without a word.
pub(crate) fn only(schema: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match schema
        .keys()
        .find(|key| !known.contains(&key.as_str()) && !ANNOTATIONS.contains(&key.as_str()))
    {
        Some(unknown) => Err(format!(
            "keyword {unknown:?} of JSON Schema is not supported here"
        )),
        None => Ok(()),
    }
}

fn types(schema: &Map<String, Value>) -> Result<(Vec<&str>, bool), String> {
    let all: Vec<&str> = match schema.get("type") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err("its type is neither a string nor an array".into()),
    };
    let nullable = all.contains(&"null");
    Ok((
        all.into_iter().filter(|one| *one != "null").collect(),
        nullable,
    ))
}

pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn text(schema: &Map<String, Value>) -> Result<FieldType, String> {
    only(schema, &["type", "format", "maxLength", "enum", "const"])?;
    let one_of = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), None) => {
            let texts = values.iter().filter(|value| !value.is_null());
            let texts = texts.map(|value| {
                value
                    .as_str()
                    .map(str::to_owned)
                    .ok_or("enum is supported for strings alone")
            });
            Some(texts.collect::<Result<Vec<_>, _>>()?)
        }
        (None, Some(Value::String(one))) => Some(vec![one.clone()]),
        (None, None) => None,
        _ => return Err("enum and const are supported for strings alone".into()),
    };
    let max_length = match schema.get("maxLength") {
        Some(max) => Some(max.as_u64().ok_or("maxLength is not a whole number")? as usize),
        None => None,
    };
    match schema.get("format").and_then(Value::as_str) {
        None => Ok(FieldType::Text { max_length, one_of }),
        Some(format) if max_length.is_some() || one_of.is_some() => Err(format!(
            "format {format:?} goes with neither maxLength nor enum"
        )),
        Some("date-time") => Ok(FieldType::DateTime),
        Some("date") => Ok(FieldType::Date),
        Some("uuid") => Ok(FieldType::Uuid),
        Some(other) => Err(format!(
            "format {other:?} is not supported; date-time, date and uuid are"
        )),
    }
}

fn integer(schema: &Map<String, Value>) -> Result<FieldType, String> {
    only(schema, &["type", "format", "minimum", "maximum"])?;
    let (min, max) = match schema.get("format").and_then(Value::as_str) {
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint" | "uint64") => (0, MAX_SAFE),
        Some("int" | "int64") | None => (-MAX_SAFE, MAX_SAFE),
        Some(other) => return Err(format!("format {other:?} is not supported for integers")),
    };
    let bound = |keyword: &str| match schema.get(keyword) {
        Some(bound) => whole_number(bound)
            .map(Some)
            .ok_or_else(|| format!("{keyword} is not a whole number")),
        None => Ok(None),
    };
    let clamped =
        |bound: i128| i64::try_from(bound.clamp(min.into(), max.into())).expect("it is clamped");
    Ok(FieldType::Integer {
        min: bound("minimum")?.map_or(min, clamped),
        max: bound("maximum")?.map_or(max, clamped),
    })
}

fn number(schema: &Map<String, Value>) -> Result<FieldType, String> {
    only(schema, &["type", "format", "minimum", "maximum"])?;
    match schema.get("format").and_then(Value::as_str) {
        None | Some("double" | "float") => {}
        Some(other) => return Err(format!("format {other:?} is not supported for numbers")),
    }
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    Ok(FieldType::Number {
        min: bound("minimum"),
        max: bound("maximum"),
    })
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
