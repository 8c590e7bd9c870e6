//! The JSON Schema of a field type. `json_schema` reads the reverse.

use serde_json::{Map, Value, json};

use crate::model::record::MAX_SAFE_INTEGER;
use crate::schema::field_type::{FieldType, JsonShape, Schema};

/// A decimal number without an exponent.
pub(crate) const DECIMAL: &str = r"^-?\d+(\.\d+)?$";

impl Schema {
    /// The JSON Schema (draft 2020-12) of the values.
    #[must_use]
    pub fn to_json_schema(&self) -> Value {
        let mut schema = match &self.kind {
            FieldType::Text { max_length, one_of } => {
                let mut schema = json!({"type": "string"});
                if let Some(max) = max_length {
                    schema["maxLength"] = (*max).into();
                }
                if let Some(values) = one_of {
                    schema["enum"] = values.clone().into();
                }
                schema
            }
            FieldType::DateTime => json!({"type": "string", "format": "date-time"}),
            FieldType::LocalDateTime => json!({"type": "string", "format": "partial-date-time"}),
            FieldType::Time => json!({"type": "string", "format": "partial-time"}),
            FieldType::Decimal => json!({"type": ["string", "number"], "pattern": DECIMAL}),
            FieldType::Date => json!({"type": "string", "format": "date"}),
            FieldType::Uuid => json!({"type": "string", "format": "uuid"}),
            FieldType::Integer { min, max } => {
                let is_safe = *min >= -MAX_SAFE_INTEGER && *max <= MAX_SAFE_INTEGER;
                let types = if is_safe {
                    json!("integer")
                } else {
                    json!(["integer", "string"])
                };
                json!({"type": types, "minimum": min, "maximum": max})
            }
            FieldType::Number { min, max } => {
                let mut schema = json!({"type": "number"});
                for (keyword, bound) in [("minimum", min), ("maximum", max)] {
                    if let Some(bound) = bound {
                        schema[keyword] = (*bound).into();
                    }
                }
                schema
            }
            FieldType::Boolean => json!({"type": "boolean"}),
            FieldType::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            FieldType::Json(JsonShape::Any) => return json!({}),
            FieldType::Json(JsonShape::OneOf(schemas)) => {
                let mut schemas: Vec<_> = schemas.iter().map(Self::to_json_schema).collect();
                schemas.extend(self.nullable.then(|| json!({"type": "null"})));
                return json!({"anyOf": schemas});
            }
            FieldType::Json(shape) => of_shape(shape),
        };
        self.checks
            .iter()
            .for_each(|check| check.describe(&mut schema));
        if self.nullable {
            let types = match schema["type"].take() {
                Value::Array(mut types) => {
                    types.push(json!("null"));
                    types
                }
                one => vec![one, json!("null")],
            };
            schema["type"] = types.into();
            if let Some(Value::Array(values)) = schema.get_mut("enum") {
                values.push(Value::Null);
            }
        }
        schema
    }
}

/// The JSON Schema of an array or an object.
fn of_shape(shape: &JsonShape) -> Value {
    match shape {
        JsonShape::Any | JsonShape::OneOf(_) => json!({}),
        JsonShape::Array(items) => json!({"type": "array", "items": items.to_json_schema()}),
        JsonShape::Tuple(schemas) => {
            let items: Vec<_> = schemas.iter().map(Schema::to_json_schema).collect();
            json!({"type": "array", "prefixItems": items, "minItems": items.len(), "maxItems": items.len()})
        }
        JsonShape::Object {
            properties,
            required,
            additional,
        } => {
            let properties: Map<_, _> = properties
                .iter()
                .map(|(name, schema)| (name.clone(), schema.to_json_schema()))
                .collect();
            let additional = additional
                .as_ref()
                .map_or(json!(false), |schema| schema.to_json_schema());
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": additional})
        }
    }
}
