//! Reads the fields of a collection from a JSON Schema (draft 2020-12). A keyword that is not supported is an error.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::record::MAX_SAFE_INTEGER;
use crate::schema::checks::{self, Check, TextFormat};
use crate::schema::field::Field;
use crate::schema::field_type::{FieldType, JsonShape, Schema, at_member};
use crate::schema::scalars::whole_number;

/// Reads the fields from the JSON Schema of an object. The error says what is not supported, and in which field.
pub(crate) fn read_fields(schema: &Value) -> Result<Vec<Field>, String> {
    let root = schema.as_object().ok_or("the schema is not an object")?;
    allow_only(
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
        return Err("the schema is not of type object".into());
    }
    if !matches!(
        root.get("additionalProperties"),
        None | Some(Value::Bool(false))
    ) {
        return Err(
            "additionalProperties is supported only inside a field: every field needs a column"
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
    let in_field = |message: String| format!("field {name:?}: {message}");
    let schema = Schema::parse(property, definitions).map_err(in_field)?;
    let default = match property.get("default") {
        Some(default) => Some(
            schema
                .check(default)
                .map_err(|message| in_field(format!("its default {message}")))?,
        ),
        None if schema.nullable && !required.iter().any(|one| one == name) => Some(Value::Null),
        None => None,
    };
    Ok(Field {
        default,
        ..Field::new(name, schema)
    })
}

impl Schema {
    /// Reads a JSON Schema. A `$ref` is looked up in `definitions`.
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
            return Err("the schema refers to itself, which is not supported".into());
        }
        let inner = Self {
            definitions: self.definitions,
            depth: self.depth + 1,
        };
        let schema = match schema {
            Value::Bool(true) => {
                return Ok(Schema::new(FieldType::Json(JsonShape::Any), true));
            }
            Value::Object(schema) => schema,
            _ => return Err("the schema is not an object".into()),
        };
        if let Some(reference) = schema.get("$ref") {
            allow_only(schema, &["$ref"])?;
            return inner.schema(self.resolve(reference)?);
        }
        for combined in ["anyOf", "oneOf"] {
            if let Some(options) = schema.get(combined).and_then(Value::as_array) {
                allow_only(schema, &[combined])?;
                return inner.options(options);
            }
        }
        let (types, nullable) = types(schema)?;
        let (kind, checks) = match types.as_slice() {
            [] if schema.contains_key("const") || schema.contains_key("enum") => text_type(schema)?,
            [] => {
                allow_only(schema, &[])?;
                return Ok(Schema::new(FieldType::Json(JsonShape::Any), true));
            }
            ["string"] => text_type(schema)?,
            ["integer"] => (integer_type(schema)?, checks::read(schema, &OF_NUMBERS)?),
            ["number"] => (number_type(schema)?, checks::read(schema, &OF_NUMBERS)?),
            // What schemars gives for decimal numbers.
            ["string", "number"] if schema.contains_key("pattern") => {
                allow_only(schema, &["type", "pattern"])?;
                (FieldType::Decimal, Vec::new())
            }
            ["boolean"] => {
                allow_only(schema, &["type"])?;
                (FieldType::Boolean, Vec::new())
            }
            ["array"] => inner.array(schema)?,
            ["object"] => (FieldType::Json(inner.object(schema)?), Vec::new()),
            several => {
                return Err(format!(
                    "type {several:?} is not supported: use one type, or one type and null"
                ));
            }
        };
        Ok(Schema {
            checks,
            ..Schema::new(kind, nullable)
        })
    }

    fn resolve(&self, reference: &Value) -> Result<&Value, String> {
        let path = reference.as_str().unwrap_or_default();
        let name = path
            .strip_prefix("#/$defs/")
            .or_else(|| path.strip_prefix("#/definitions/"));
        name.and_then(|name| self.definitions.get(name))
            .ok_or_else(|| format!("$ref {path:?} does not name a definition of this schema"))
    }

    /// Reads `anyOf` or `oneOf`: a schema or null, a choice of string constants, or an enum with data.
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
        if parsed.is_empty() {
            return Err("anyOf and oneOf need a schema beside null".into());
        }
        Ok(Schema::new(one_of(parsed), nullable))
    }

    fn array(&self, schema: &Map<String, Value>) -> Result<(FieldType, Vec<Check>), String> {
        let keywords = ["minItems", "maxItems", "uniqueItems"];
        if let Some(items) = schema.get("prefixItems").and_then(Value::as_array) {
            allow_only(schema, &["type", "prefixItems", "minItems", "maxItems"])?;
            let is_whole =
                |keyword| schema.get(keyword).and_then(Value::as_u64) == Some(items.len() as u64);
            if !is_whole("minItems") || !is_whole("maxItems") {
                return Err(
                    "prefixItems is supported only with a minItems and a maxItems of its length"
                        .into(),
                );
            }
            let items = items.iter().map(|item| self.schema(item));
            let items = items.collect::<Result<_, _>>()?;
            return Ok((FieldType::Json(JsonShape::Tuple(items)), Vec::new()));
        }
        allow_only(
            schema,
            &["type", "items", keywords[0], keywords[1], keywords[2]],
        )?;
        let items = self.schema(schema.get("items").unwrap_or(&Value::Bool(true)))?;
        let kind = FieldType::Json(JsonShape::Array(Box::new(items)));
        Ok((kind, checks::read(schema, &keywords)?))
    }

    fn object(&self, schema: &Map<String, Value>) -> Result<JsonShape, String> {
        allow_only(
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
                    .map_err(|message| at_member(name, &message))?,
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

const STRING_FORMATS: &str =
    "date-time, partial-date-time, date, partial-time, uuid, email, uri, ip, ipv4 or ipv6";

const OF_NUMBERS: [&str; 3] = ["exclusiveMinimum", "exclusiveMaximum", "enum"];

const NUMBER_KEYWORDS: [&str; 7] = [
    "type",
    "format",
    "minimum",
    "maximum",
    OF_NUMBERS[0],
    OF_NUMBERS[1],
    OF_NUMBERS[2],
];

/// Keywords that do not restrict values.
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

/// Refuses keywords other than the known ones, instead of ignoring them silently.
fn allow_only(schema: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
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

/// The types of a schema without null, and whether null is one of them.
fn types(schema: &Map<String, Value>) -> Result<(Vec<&str>, bool), String> {
    let all: Vec<&str> = match schema.get("type") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err("the type is neither a string nor an array".into()),
    };
    let nullable = all.contains(&"null");
    Ok((
        all.into_iter().filter(|one| *one != "null").collect(),
        nullable,
    ))
}

/// The strings in an array.
fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The type of a value that one of these schemas accepts. Where all are texts, it is a text.
fn one_of(schemas: Vec<Schema>) -> FieldType {
    let is_text = |schema: &Schema| matches!(schema.kind, FieldType::Text { .. });
    if !schemas.iter().all(is_text) {
        return FieldType::Json(JsonShape::OneOf(schemas));
    }
    let mut values = Some(Vec::new());
    for schema in schemas {
        let some = match schema.kind {
            FieldType::Text { one_of, .. } => one_of,
            _ => None,
        };
        values = values.zip(some).map(|(mut values, some)| {
            values.extend(some);
            values
        });
    }
    FieldType::Text {
        max_length: None,
        one_of: values,
    }
}

fn text_type(schema: &Map<String, Value>) -> Result<(FieldType, Vec<Check>), String> {
    allow_only(
        schema,
        &[
            "type",
            "format",
            "minLength",
            "maxLength",
            "pattern",
            "enum",
            "const",
        ],
    )?;
    let one_of = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), None) => {
            let texts = values.iter().filter(|value| !value.is_null());
            let texts = texts.map(|value| {
                value
                    .as_str()
                    .map(str::to_owned)
                    .ok_or("enum is supported only for strings")
            });
            Some(texts.collect::<Result<Vec<_>, _>>()?)
        }
        (None, Some(Value::String(one))) => Some(vec![one.clone()]),
        (None, None) => None,
        _ => return Err("enum and const are supported only for strings".into()),
    };
    let max_length = match schema.get("maxLength") {
        Some(max) => Some(max.as_u64().ok_or("maxLength is not a whole number")? as usize),
        None => None,
    };
    let text = FieldType::Text { max_length, one_of };
    let mut checks = checks::read(schema, &["minLength", "pattern"])?;
    let Some(format) = schema.get("format").and_then(Value::as_str) else {
        return Ok((text, checks));
    };
    if let Some(format) = TextFormat::named(format) {
        checks.push(Check::Format(format));
        return Ok((text, checks));
    }
    let kind = match format {
        "date-time" => FieldType::DateTime,
        "partial-date-time" => FieldType::LocalDateTime,
        "date" => FieldType::Date,
        "partial-time" => FieldType::Time,
        "uuid" => FieldType::Uuid,
        other => {
            return Err(format!(
                "format {other:?} is not supported for strings: use {STRING_FORMATS}"
            ));
        }
    };
    let is_plain = text
        == FieldType::Text {
            max_length: None,
            one_of: None,
        };
    if is_plain && checks.is_empty() {
        Ok((kind, checks))
    } else {
        Err(format!(
            "format {format:?} can't be combined with a length, a pattern or enum"
        ))
    }
}

fn integer_type(schema: &Map<String, Value>) -> Result<FieldType, String> {
    allow_only(schema, &NUMBER_KEYWORDS)?;
    let (min, max) = match schema.get("format").and_then(Value::as_str) {
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint" | "uint64") => (0, i64::MAX),
        Some("int" | "int64") => (i64::MIN, i64::MAX),
        None => (-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER),
        Some(other) => return Err(format!("format {other:?} is not supported for integers")),
    };
    let bound = |keyword: &str| match schema.get(keyword) {
        Some(bound) => whole_number(bound)
            .map(Some)
            .ok_or_else(|| format!("{keyword} is not a whole number")),
        None => Ok(None),
    };
    let clamped = |bound: i128| {
        i64::try_from(bound.clamp(min.into(), max.into()))
            .expect("the bound was clamped to the range of i64")
    };
    Ok(FieldType::Integer {
        min: bound("minimum")?.map_or(min, clamped),
        max: bound("maximum")?.map_or(max, clamped),
    })
}

fn number_type(schema: &Map<String, Value>) -> Result<FieldType, String> {
    allow_only(schema, &NUMBER_KEYWORDS)?;
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
