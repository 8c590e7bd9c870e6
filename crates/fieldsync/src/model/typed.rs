//! Fields as the app's own types.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

use crate::model::exact_number::rounded;

/// Fields as the app's own type. An integer may be a string of digits, which it is where JSON readers would round it, and a number
/// of more digits than a double is what `serde_json` makes of it.
pub(crate) fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> serde_json::Result<T> {
    T::deserialize(Typed(Value::Object(fields)))
}

struct Typed(Value);

impl Typed {
    /// The integer that a string of digits stands for.
    fn integer<T: FromStr<Err: Display>>(&self) -> Option<Result<T, Error>> {
        let text = self.0.as_str()?;
        let is_integer =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_integer(text.strip_prefix('-').unwrap_or(text))
            .then(|| text.parse().map_err(Error::custom))
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.integer() {
                Some(integer) => visitor.$visit(integer?),
                None => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Typed {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Typed));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(members) => {
                let members = members.into_iter();
                visitor.visit_map(MapDeserializer::new(
                    members.map(|(name, value)| (name, Self(value))),
                ))
            }
            other => rounded(other).deserialize_any(visitor),
        }
    }

    integers! {
        deserialize_i8 visit_i8
        deserialize_i16 visit_i16
        deserialize_i32 visit_i32
        deserialize_i64 visit_i64
        deserialize_i128 visit_i128
        deserialize_u8 visit_u8
        deserialize_u16 visit_u16
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
        deserialize_u128 visit_u128
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        rounded(self.0).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Typed {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Id(i64);

    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {
        Plain,
        Sized { size: f64 },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        id: Id,
        small: Option<u8>,
        large: u64,
        list: Vec<i64>,
        text: String,
        kinds: Vec<Kind>,
        any: Value,
        map: BTreeMap<String, i64>,
    }

    fn row(value: Value) -> Result<Row, String> {
        let fields = serde_json::from_value(value).unwrap();
        typed(fields).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_of_64_bits_are_read_from_strings_of_digits() {
        let value = json!({
            "id": "-9223372036854775808", "small": null, "large": "18446744073709551615",
            "list": [1, "9007199254740993"], "text": "7", "kinds": ["Plain", {"Sized": {"size": "\u{0}0.12345678901234567890"}}],
            "any": {"n": "\u{0}12345678901234567890123", "s": "8"}, "map": {"a": "9007199254740993"},
        });
        let expected = Row {
            id: Id(i64::MIN),
            small: None,
            large: u64::MAX,
            list: vec![1, 9_007_199_254_740_993],
            text: "7".into(),
            kinds: vec![
                Kind::Plain,
                Kind::Sized {
                    size: 0.123_456_789_012_345_68,
                },
            ],
            any: json!({"n": 1.234_567_890_123_456_8e22, "s": "8"}),
            map: BTreeMap::from([("a".into(), 9_007_199_254_740_993)]),
        };
        assert_eq!(row(value), Ok(expected));
    }

    #[test]
    fn what_is_no_integer_is_an_error() {
        let with_id = |id: Value| json!({"id": id, "large": 1, "list": [], "text": "", "kinds": [], "any": null, "map": {}});
        assert!(row(with_id(json!(1))).is_ok());
        for id in [
            json!("x"),
            json!(""),
            json!("+1"),
            json!("9223372036854775808"),
            json!(1.5),
        ] {
            assert!(row(with_id(id.clone())).is_err(), "{id}");
        }
    }
}
