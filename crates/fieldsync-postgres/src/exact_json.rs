//! Arrays of numbers that keep every digit: one that a double can't represent is a string, as in a column of its type.

use std::collections::BTreeMap;

use fieldsync::backend::integer_value;
use serde_json::Value;
use serde_json::value::RawValue;

/// Parses what `to_jsonb` makes of an array. The database accepts a string where it expects a number.
pub(crate) fn exact_json(text: &str) -> Option<Value> {
    let text = text.trim_start();
    match text.bytes().next()? {
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            items.iter().map(|item| exact_json(item.get())).collect()
        }
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let members = members
                .into_iter()
                .map(|(name, member)| Some((name, exact_json(member.get())?)));
            members.collect::<Option<_>>().map(Value::Object)
        }
        b'-' | b'0'..=b'9' => Some(number(text.trim_end())),
        _ => serde_json::from_str(text).ok(),
    }
}

fn number(text: &str) -> Value {
    if let Ok(integer) = text.parse() {
        return integer_value(integer);
    }
    let digits = |text: &str| {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        digits
            .trim_start_matches('0')
            .trim_end_matches('0')
            .to_owned()
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && digits(&number.to_string()) == digits(text) => {
            number.into()
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let text = r#"[1, -2.50, 9007199254740993, {"a": [null, 0.1]}, 12345678901234567890.12345, 1e400, "x"]"#;
        let expected = json!([1, -2.5, "9007199254740993", {"a": [null, 0.1]}, "12345678901234567890.12345", "1e400", "x"]);
        assert_eq!(exact_json(text), Some(expected));
        assert_eq!(exact_json("[1,"), None);
    }
}
