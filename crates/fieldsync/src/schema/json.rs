//! Strict JSON (RFC 8259, within the limits of I-JSON, RFC 7493). Duplicate names and NUL are errors, and numbers keep every
//! digit. HTTP bodies and WebSocket messages are both read here.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::model::exact_number;
use crate::model::record::Fields;

/// How deep objects and arrays may be nested.
pub(crate) const MAX_DEPTH: usize = 64;

/// Why a text is not accepted.
#[derive(Debug)]
pub(crate) enum JsonError {
    /// The text is not a JSON object. The message says where.
    Malformed(String),
    /// The value of a field is not accepted: the name of the field, and a message.
    Field(String, String),
}

/// Reads a JSON object. The values are read one by one, so that an error names its field.
pub(crate) fn read_object(text: &[u8]) -> Result<Fields, JsonError> {
    let text = std::str::from_utf8(text).map_err(|error| {
        JsonError::Malformed(format!(
            "not UTF-8: the byte at offset {} is invalid",
            error.valid_up_to()
        ))
    })?;
    let members = serde_json::from_str::<Members<'_>>(text).map_err(|error| {
        let message = error.to_string();
        // serde's own messages about data may quote the input.
        let quotes_input = error.is_data() && !message.starts_with(DUPLICATE_NAME);
        JsonError::Malformed(if quotes_input {
            "expected a JSON object".into()
        } else {
            message
        })
    })?;
    let mut fields = Fields::new();
    for (name, raw) in members.0 {
        if name.contains('\0') {
            return Err(JsonError::Field(
                name.replace('\0', "\\u0000"),
                "must not have NUL in its name".into(),
            ));
        }
        let value = read_value(raw.get()).map_err(|message| match message {
            ValueError::Malformed(message) => JsonError::Malformed(message),
            ValueError::TooDeep => {
                JsonError::Malformed(format!("{name} is nested deeper than {MAX_DEPTH} levels"))
            }
            ValueError::Unacceptable(message) => JsonError::Field(name.clone(), message),
        })?;
        fields.insert(name, value);
    }
    Ok(fields)
}

enum ValueError {
    Malformed(String),
    TooDeep,
    Unacceptable(String),
}

fn read_value(text: &str) -> Result<Value, ValueError> {
    if exact_number::has_mark(text.as_bytes()) {
        return Err(ValueError::Unacceptable("must not contain NUL".into()));
    }
    let text = exact_number::mark(text);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    Strict { depth: 1 }
        .deserialize(&mut deserializer)
        .map_err(|error| {
            let message = error.to_string();
            match message.strip_prefix(BAD_VALUE) {
                Some(value_error) => ValueError::Unacceptable(
                    value_error
                        .split(" at line ")
                        .next()
                        .unwrap_or(value_error)
                        .to_owned(),
                ),
                None if message.starts_with(TOO_DEEP) => ValueError::TooDeep,
                None => ValueError::Malformed(message),
            }
        })
}

/// The start of the error message for a name that an object contains twice.
const DUPLICATE_NAME: &str = "duplicate name in an object: ";
/// The start of the error message for a value that is nested deeper than [`MAX_DEPTH`].
const TOO_DEEP: &str = "nested too deeply";
/// The start of an error message about a value, in contrast to the syntax.
const BAD_VALUE: &str = "value: ";

/// The members of an object, with the text of their values.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut names = HashSet::new();
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("{DUPLICATE_NAME}{name:?}")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Deserializes a value strictly, at this depth.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        let is_refused = value.contains('\0');
        let value = Value::from(value);
        if is_refused && exact_number::digits(&value).is_none() {
            return Err(E::custom(format_args!("{BAD_VALUE}must not contain NUL")));
        }
        Ok(value)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if name.contains('\0') {
                return Err(de::Error::custom(format_args!(
                    "{BAD_VALUE}must not contain NUL in a member name"
                )));
            }
            if members.contains_key(&name) {
                return Err(de::Error::custom(format_args!("{DUPLICATE_NAME}{name:?}")));
            }
            let value = map.next_value_seed(inner)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match read_object(text.as_bytes()) {
            Ok(fields) => serde_json::to_string(&fields).unwrap(),
            Err(JsonError::Malformed(message)) if message.contains("deeper") => message,
            Err(JsonError::Malformed(_)) => "malformed".into(),
            Err(JsonError::Field(name, message)) => format!("{name} {message}"),
        };
        assert_eq!(got, expected, "{}", &text[..text.len().min(80)]);
    }

    #[test]
    fn exact_values_are_read_unchanged() {
        check(
            r#"{"a":"\u00e9","b":[1,-2.5,{"c":null}],"d":true}"#,
            r#"{"a":"é","b":[1,-2.5,{"c":null}],"d":true}"#,
        );
        check(
            r#"{"a":0.1,"b":1e2,"c":-0,"d":1.50,"e":9007199254740991,"f":-9007199254740992}"#,
            r#"{"a":0.1,"b":100.0,"c":-0.0,"d":1.5,"e":9007199254740991,"f":-9007199254740992}"#,
        );
    }

    #[test]
    fn duplicate_names_are_malformed_also_when_escaped_or_nested() {
        check(r#"{"a":1,"a":2}"#, "malformed");
        check(r#"{"a":1,"\u0061":2}"#, "malformed");
        check(r#"{"x":{"a":1,"a":2}}"#, "malformed");
    }

    #[test]
    fn a_text_that_is_not_an_object_is_malformed() {
        for text in [
            "",
            "[]",
            "\"x\"",
            "1",
            "null",
            "{} {}",
            "{\"a\":NaN}",
            "{\"a\":01}",
            "\u{feff}{}",
            "{\"a\":\"\\ud800\"}",
        ] {
            check(text, "malformed");
        }
    }

    #[test]
    fn numbers_keep_every_digit() {
        for number in [
            "1e400",
            "123456789012345678901234",
            "9007199254740993",
            "-0.12345678901234567890123",
        ] {
            let text = format!(r#"{{"a":["1e400",{number}]}}"#);
            let fields = read_object(text.as_bytes()).unwrap();
            assert_eq!(exact_number::to_json(&fields), text);
        }
    }

    #[test]
    fn nul_is_refused_in_values_and_in_names() {
        check(r#"{"a":"x\u0000y"}"#, "a must not contain NUL");
        check(r#"{"a":["\u00001e400", 1e400]}"#, "a must not contain NUL");
        check(
            r#"{"a":{"x\u0000":1}}"#,
            "a must not contain NUL in a member name",
        );
        check(r#"{"a\u0000":1}"#, "a\\u0000 must not have NUL in its name");
    }

    #[test]
    fn deeply_nested_values_are_refused() {
        let nested =
            |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(read_object(nested(63).as_bytes()).is_ok());
        check(&nested(64), "a is nested deeper than 64 levels");
        check(&nested(100_000), "a is nested deeper than 64 levels");
    }
}
