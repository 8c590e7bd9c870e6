//! Reads field types from the supported subset of JSON Schema (draft 2020-12).

use serde_json::{Map, Value};
use std::collections::BTreeMap;

use crate::schema::field::Field;
use crate::schema::field_type::{FieldType, JsonShape, MAX_SAFE, Schema, below, whole_number};

pub(crate) fn read_fields(schema: &Value) -> Result<Vec<Field>, String> {
    let root = schema.as_object().ok_or("its schema is not an object")?;
    only(
        root,
        &[
            "type",
            "properties",
            "required",
            "additionalProperties",
            "$defs",
            "definitions",
        ],
    )?;
    if root.get("type").and_then(Value::as_str) != Some("object") {
        return Err("its schema is not of type object".into());
    }
    if !matches!(
        root.get("additionalProperties"),
        None | Some(Value::Bool(false))
    ) {
        return Err(
            "additionalProperties is supported inside a field alone: every field needs a column"
                .into(),
        );
    }
    let nothing = Map::new();
    let definitions = root
        .get("$defs")
        .or_else(|| root.get("definitions"))
        .and_then(Value::as_object);
    let required = strings(root.get("required"));
    let properties = root
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&nothing);
    properties
        .iter()
        .map(|(name, property)| {
            read_field(name, property, definitions.unwrap_or(&nothing), &required)
        })
        .collect()
}

fn read_field(
    name: &str,
    property: &Value,
    definitions: &Map<String, Value>,
    required: &[String],
) -> Result<Field, String> {
    let fault = |message: String| format!("field {name:?}: {message}");
    let schema = Schema::parse(property, definitions).map_err(fault)?;
    let default = match property.get("default") {
        Some(default) => Some(
            schema
                .check(default)
                .map_err(|message| fault(format!("its default {message}")))?,
        ),
        None if schema.nullable && !required.iter().any(|one| one == name) => Some(Value::Null),
        None => None,
    };
    Ok(Field {
        name: name.into(),
        schema,
        default,
        set_by_server: false,
    })
}

impl Schema {
    /// Reads a JSON Schema; `definitions` is what `$ref` points into.
    pub(crate) fn parse(schema: &Value, definitions: &Map<String, Value>) -> Result<Self, String> {
        Parser {
            definitions,
            depth: 0,
        }
        .schema(schema)
    }
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
