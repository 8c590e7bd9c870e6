//! Reading JSON strictly (RFC 8259 within the limits of I-JSON, RFC 7493): what would be dropped, doubled or
//! rounded on the way is refused. Both doors use it: HTTP bodies and the messages on a socket.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::model::record::Fields;

/// Objects and arrays may lie this deep in each other.
pub(crate) const MAX_DEPTH: usize = 64;

/// Why a text was not taken.
#[derive(Debug)]
pub(crate) enum JsonError {
    /// It is not JSON, or not an object; says where.
    Malformed(String),
    /// The value of this field can't be taken as it is.
    Field(String, String),
}

/// Reads one JSON object, whose values are checked one by one so that an error names its field.
pub(crate) fn read_object(text: &[u8]) -> Result<Fields, JsonError> {
    let text = std::str::from_utf8(text).map_err(|error| {
        JsonError::Malformed(format!(
            "the body is not UTF-8 (first bad byte at {})",
            error.valid_up_to()
        ))
    })?;
    let members = serde_json::from_str::<Members<'_>>(text).map_err(|error| {
        let message = error.to_string();
        // What is said of other data quotes them.
        let own = !error.is_data() || message.starts_with(TWICE);
        JsonError::Malformed(if own {
            message
        } else {
            "the body must be a JSON object".into()
        })
    })?;
    let mut fields = Fields::new();
    for (name, raw) in members.0 {
        if name.contains('\0') {
            return Err(JsonError::Field(
                name.replace('\0', "\\u0000"),
                "has NUL in its name".into(),
            ));
        }
        let value = read_value(raw.get()).map_err(|message| match message {
            Refused::Malformed(message) => JsonError::Malformed(message),
            Refused::Depth => {
                JsonError::Malformed(format!("{name} is nested deeper than {MAX_DEPTH} levels"))
            }
            Refused::Value(message) => JsonError::Field(name.clone(), message),
        })?;
        fields.insert(name, value);
    }
    Ok(fields)
}

enum Refused {
    Malformed(String),
    Depth,
    Value(String),
}

fn read_value(text: &str) -> Result<Value, Refused> {
    // serde_json would take the number already rounded, so the tokens are looked at first.
    if let Some(message) = first_rounded_number(text) {
        return Err(Refused::Value(message));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Strict { depth: 1 }
        .deserialize(&mut deserializer)
        .map_err(|error| {
            let message = error.to_string();
            match message.strip_prefix(BAD_VALUE) {
                Some(value_error) => Refused::Value(
                    value_error
                        .split(" at line ")
                        .next()
                        .unwrap_or(value_error)
                        .to_owned(),
                ),
                None if message.starts_with(TOO_DEEP) => Refused::Depth,
                None => Refused::Malformed(message),
            }
        })
}

/// Begins the error for a name that an object has twice.
const TWICE: &str = "twice in one object: the name ";
/// Says that the depth is over the limit, of whatever field.
const TOO_DEEP: &str = "nested too deep";
/// Marks the errors below that speak of a value rather than of the syntax.
const BAD_VALUE: &str = "value: ";

/// The members of an object, their values still as text.
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
                let mut names = std::collections::HashSet::new();
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("{TWICE}{name:?}")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

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
        if value.contains('\0') {
            return Err(E::custom(format_args!("{BAD_VALUE}must not hold NUL")));
        }
        Ok(value.into())
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
                    "{BAD_VALUE}must not hold NUL in a name"
                )));
            }
            if members.contains_key(&name) {
                return Err(de::Error::custom(format_args!("{TWICE}{name:?}")));
            }
            let value = map.next_value_seed(inner)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// Looks at the number tokens of a JSON text for one that a double, all that JavaScript has, does not hold exactly.
fn first_rounded_number(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < bytes.len()
                    && matches!(bytes[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
                {
                    at += 1;
                }
                if !survives(&text[start..at]) {
                    return Some("is a number that would be rounded".into());
                }
            }
            _ => at += 1,
        }
    }
    None
}

/// Whether a number token comes back with the same digits after it was read.
fn survives(token: &str) -> bool {
    match token.parse::<f64>() {
        Ok(value) if value.is_finite() => decimal(token) == decimal(&format!("{value:e}")),
        Ok(_) => false,
        Err(_) => true, // Not a number at all: the parser says where.
    }
}

/// A decimal number as its significant digits and the power of ten of the last one.
fn decimal(token: &str) -> (String, i64) {
    let token = token.trim_start_matches('-');
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return (String::new(), 0);
    }
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MAX / 2);
    (
        significant.to_owned(),
        exponent
            .saturating_sub(fraction.len() as i64)
            .saturating_add((digits.len() - significant.len()) as i64),
    )
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
    fn what_fits_is_read_as_it_is() {
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
    fn doubled_names_are_malformed_also_when_escaped_and_nested() {
        check(r#"{"a":1,"a":2}"#, "malformed");
        check(r#"{"a":1,"\u0061":2}"#, "malformed");
        check(r#"{"x":{"a":1,"a":2}}"#, "malformed");
    }

    #[test]
    fn what_is_not_an_object_is_malformed() {
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
    fn numbers_that_would_be_rounded_name_their_field() {
        for number in [
            "1e400",
            "-1e400",
            "123456789012345678901234",
            "9007199254740993",
            "9223372036854775807",
            "0.01e-9223372036854775808",
            "1e99999999999999999999",
            "0.12345678901234567890123",
        ] {
            check(
                &format!(r#"{{"a":{number}}}"#),
                "a is a number that would be rounded",
            );
            check(
                &format!(r#"{{"a":["1e400",{number}]}}"#),
                "a is a number that would be rounded",
            );
        }
    }

    #[test]
    fn nul_is_refused_wherever_it_stands() {
        check(r#"{"a":"x\u0000y"}"#, "a must not hold NUL");
        check(r#"{"a":{"x\u0000":1}}"#, "a must not hold NUL in a name");
        check(r#"{"a\u0000":1}"#, "a\\u0000 has NUL in its name");
    }

    #[test]
    fn depth_is_bounded_whatever_it_is() {
        let nested =
            |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(read_object(nested(63).as_bytes()).is_ok());
        check(&nested(64), "a is nested deeper than 64 levels");
        check(&nested(100_000), "a is nested deeper than 64 levels");
    }
}
