//! The JSON Schema of a field type. `json_schema` reads the reverse.

use serde_json::{Map, Value, json};

use crate::model::record::MAX_SAFE_INTEGER;
use crate::schema::field_type::{FieldType, JsonShape, Schema};

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
            FieldType::Json(JsonShape::Array(items)) => {
                json!({"type": "array", "items": items.to_json_schema()})
            }
            FieldType::Json(JsonShape::Object {
                properties,
                required,
                additional,
            }) => {
                let properties: Map<_, _> = properties
                    .iter()
                    .map(|(name, schema)| (name.clone(), schema.to_json_schema()))
                    .collect();
                let additional = additional
                    .as_ref()
                    .map_or(json!(false), |schema| schema.to_json_schema());
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": additional})
            }
        };
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
