//! Numbers in JSON that a double can't represent. `serde_json` would round them, but a JSON column keeps every digit.
//!
//! In a [`Value`] such a number is a marked string: NUL, and the digits. No other string of a field begins with NUL, which no
//! request may contain. JSON text is marked before it is parsed, and what is written as JSON is unmarked again.

use std::borrow::Cow;

use memchr::memmem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

/// A marked string begins like this in JSON text.
const MARK: &str = "\"\\u0000";

/// The digits of a marked number.
pub(crate) fn digits(value: &Value) -> Option<&str> {
    value
        .as_str()?
        .strip_prefix('\0')
        .filter(|text| is_number(text))
}

/// Parses JSON whose numbers keep every digit.
///
/// # Errors
/// When the text is not JSON, or does not fit the type.
pub fn from_json<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(&mark(text))
}

/// Writes a value as JSON as fieldsync sends it: a number in a JSON column has every digit that it has in the database.
///
/// In [`Fields`](crate::Fields) a number that a double can't represent is a string: NUL, then its digits. `serde_json` alone would write that
/// string.
///
/// ```
/// # use fieldsync::{Fields, to_json};
/// let mut fields = Fields::new();
/// fields.insert("exact".into(), "\u{0}12345678901234567890123".into());
/// assert_eq!(to_json(&fields), r#"{"exact":12345678901234567890123}"#);
/// ```
#[must_use]
pub fn to_json(value: &impl Serialize) -> String {
    let bytes = to_json_bytes(value);
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

pub(crate) fn to_json_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    write_json(&mut bytes, value);
    bytes
}

/// Appends a value as JSON.
pub(crate) fn write_json(bytes: &mut Vec<u8>, value: &impl Serialize) {
    let start = bytes.len();
    serde_json::to_writer(&mut *bytes, value).expect("a value can be written as JSON");
    if has_mark(&bytes[start..]) {
        let unmarked = unmark(&bytes[start..]);
        bytes.truncate(start);
        bytes.extend(unmarked);
    }
}

/// A number as it is kept in a field: marked if a double can't represent it.
pub(crate) fn canonical(number: &Number) -> Value {
    if number.is_f64() || is_exact(&number.to_string()) {
        Value::Number(number.clone())
    } else {
        Value::String(format!("\0{number}"))
    }
}

/// The value with each marked number as `serde_json` reads it: an integer of 64 bits, or rounded to a double. One outside the
/// range of a double is a string of its digits.
pub(crate) fn rounded(value: Value) -> Value {
    if let Some(digits) = digits(&value) {
        return serde_json::from_str(digits).unwrap_or_else(|_| digits.into());
    }
    match value {
        Value::Array(items) => items.into_iter().map(rounded).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members
                .map(|(name, value)| (name, rounded(value)))
                .collect()
        }
        other => other,
    }
}

/// Gives back their digits to numbers that were rounded and not changed since.
pub(crate) fn restore(value: &mut Value, exact: &Value) {
    match (value, exact) {
        (Value::Array(items), Value::Array(exact)) => {
            items
                .iter_mut()
                .zip(exact)
                .for_each(|(item, exact)| restore(item, exact));
        }
        (Value::Object(members), Value::Object(exact)) => {
            for (name, member) in members {
                if let Some(exact) = exact.get(name) {
                    restore(member, exact);
                }
            }
        }
        (value, exact) => {
            if digits(exact).is_some() && *value == rounded(exact.clone()) {
                *value = exact.clone();
            }
        }
    }
}

/// Whether JSON text has a string that begins like a marked one.
pub(crate) fn has_mark(text: &[u8]) -> bool {
    memmem::find(text, MARK.as_bytes()).is_some()
}

/// JSON text with each number that a double can't represent as a marked string.
pub(crate) fn mark(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut marked, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let start = at;
                at += bytes[at..]
                    .iter()
                    .take_while(|byte| is_in_number(**byte))
                    .count();
                let token = &text[start..at];
                if is_number(token) && !is_exact(token) {
                    marked.push_str(&text[copied..start]);
                    marked.push_str(MARK);
                    marked.push_str(token);
                    marked.push('"');
                    copied = at;
                }
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    marked.push_str(&text[copied..]);
    Cow::Owned(marked)
}

/// The position after the quote that ends a string.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

fn unmark(json: &[u8]) -> Vec<u8> {
    let (mut unmarked, mut copied) = (Vec::with_capacity(json.len()), 0);
    for start in memmem::find_iter(json, MARK.as_bytes()) {
        let digits = &json[start + MARK.len()..];
        let length = digits
            .iter()
            .take_while(|byte| is_in_number(**byte))
            .count();
        let (digits, rest) = digits.split_at(length);
        // An escaped quote begins no string, and the name of a member is no value.
        let is_value = start == 0 || json[start - 1] != b'\\';
        let ends = rest.first() == Some(&b'"') && rest.get(1) != Some(&b':');
        if is_value && ends && str::from_utf8(digits).is_ok_and(is_number) {
            unmarked.extend(&json[copied..start]);
            unmarked.extend(digits);
            copied = start + MARK.len() + length + 1;
        }
    }
    unmarked.extend(&json[copied..]);
    unmarked
}

fn is_in_number(byte: u8) -> bool {
    matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
}

/// Whether a text is a number of JSON (RFC 8259, section 6).
pub(crate) fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
}

/// Whether a number has the same digits after it was read as a double.
fn is_exact(token: &str) -> bool {
    // A double keeps 15 digits.
    if token.len() <= 15 && !token.contains(['e', 'E']) {
        return true;
    }
    let value = token.parse::<f64>().unwrap_or(f64::INFINITY);
    value.is_finite() && decimal(token) == decimal(&format!("{value:e}"))
}

/// The greatest exponent of a number that is written. With it a few characters become as many digits in the database.
const MAX_EXPONENT: u32 = 400;

/// Whether the exponent of a number is too great for it to be written.
pub(crate) fn is_out_of_range(digits: &str) -> bool {
    let exponent = digits.split_once(['e', 'E']).map(|(_, exponent)| exponent);
    let exponent = exponent.map(str::parse::<i32>);
    exponent.is_some_and(|exponent| exponent.map_or(true, |one| one.unsigned_abs() > MAX_EXPONENT))
}

/// The significant digits of a decimal number, and the power of ten of the last digit.
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
    use serde_json::json;

    use super::*;

    const LONG: [&str; 8] = [
        "12345678901234567890123",
        "-9007199254740993",
        "0.12345678901234567890123",
        "1e400",
        "0.01e-9223372036854775808",
        "1e99999999999999999999",
        "9223372036854775807",
        "123456789012345678.5E-7",
    ];

    #[track_caller]
    fn check_unchanged(text: &str) {
        let value: Value = from_json(text).unwrap();
        assert_eq!(to_json(&value), text);
    }

    #[test]
    fn numbers_keep_every_digit_wherever_they_are() {
        for number in LONG {
            check_unchanged(number);
            check_unchanged(&format!(
                r#"{{"a\"":[{number},"{number}","\"{number}\""],"b":{{"{number}":{number}}}}}"#
            ));
            let value: Value = from_json(number).unwrap();
            assert_eq!(digits(&value), Some(number));
        }
    }

    #[test]
    fn numbers_that_a_double_represents_are_plain() {
        for number in [
            "0",
            "-0.0",
            "1.5",
            "100.0",
            "9007199254740992",
            "0.1",
            "1e22",
        ] {
            assert_eq!(
                from_json::<Value>(number).unwrap(),
                serde_json::from_str::<Value>(number).unwrap(),
            );
        }
    }

    /// SQLite's text may contain NUL, and so may the names and the texts of its JSON.
    #[test]
    fn only_values_that_are_numbers_are_unmarked() {
        for text in [
            r#"{"\u0000123":1}"#,
            r#"["\"\u0000123"]"#,
            r#"["\u0000"]"#,
            r#"["\u0000abc","\u0000],[","\u000001"]"#,
            r#""\u00001\u0000""#,
        ] {
            check_unchanged(text);
        }
    }

    #[test]
    fn a_number_that_was_not_changed_gets_its_digits_back() {
        let exact: Value =
            from_json(r#"{"a":[12345678901234567890123,1],"b":0.12345678901234567890123}"#)
                .unwrap();
        let mut after = rounded(exact.clone());
        after["a"][1] = json!(2);
        after["b"] = json!(0.5);
        restore(&mut after, &exact);
        assert_eq!(
            to_json(&after),
            r#"{"a":[12345678901234567890123,2],"b":0.5}"#
        );
    }
}
