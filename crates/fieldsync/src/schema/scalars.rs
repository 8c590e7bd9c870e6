//! The validation of texts, numbers and times: what no other value is part of.

use serde_json::Value;

use crate::model::exact_number;
use crate::model::record::{MAX_SAFE_INTEGER, integer_value};
use crate::model::timestamp::Timestamp;

/// The most characters of a decimal number.
const MAX_DECIMAL: usize = 1000;

/// A whole number. One that JSON readers would round may be a string, where the field allows such numbers.
pub(crate) fn check_integer(value: &Value, min: i64, max: i64) -> Result<Value, String> {
    let number = match value {
        // Smaller integers have one form.
        Value::String(digits) if min < -MAX_SAFE_INTEGER || max > MAX_SAFE_INTEGER => {
            whole_number_of_text(digits)
        }
        value => whole_number(value),
    };
    let number = number.ok_or("must be a whole number")?;
    if number < i128::from(min) || number > i128::from(max) {
        return Err(format!("must be from {min} to {max}"));
    }
    let number = i64::try_from(number).expect("the number is within the bounds");
    Ok(integer_value(number))
}

pub(crate) fn check_date(value: &Value) -> Result<Value, String> {
    let text = value.as_str().unwrap_or_default();
    let date = text.parse::<jiff::civil::Date>().ok();
    let date = date.filter(|date| date.to_string() == text);
    Ok(date
        .ok_or("must be a date like 2026-01-13")?
        .to_string()
        .into())
}

/// A date and a time without an offset. Digits beyond microseconds are cut off.
pub(crate) fn check_local_time(value: &Value) -> Result<Value, String> {
    let text = value.as_str().unwrap_or_default();
    let time = format!("{text}Z").parse::<Timestamp>();
    let time = time.map_err(|_| "must be a time without an offset, like 2026-01-13T10:00:00")?;
    Ok(time.to_string().trim_end_matches('Z').into())
}

pub(crate) fn check_text(
    value: &Value,
    max_length: Option<usize>,
    one_of: Option<&[String]>,
) -> Result<Value, String> {
    let text = value.as_str().ok_or("must be a string")?;
    if text.contains('\0') {
        return Err("must not contain NUL".into());
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

pub(crate) fn check_number(
    value: &Value,
    min: Option<f64>,
    max: Option<f64>,
) -> Result<Value, String> {
    let number = value.as_f64().ok_or("must be a number")?;
    if whole_number(value).is_some_and(|whole| whole.abs() > i128::from(MAX_SAFE_INTEGER))
        && !value.is_f64()
    {
        return Err("has more digits than a double can represent exactly".into());
    }
    if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
        return Err(match (min, max) {
            (Some(min), Some(max)) => format!("must be from {min} to {max}"),
            (Some(min), None) => format!("must be at least {min}"),
            (None, max) => format!("must be at most {}", max.unwrap_or_default()),
        });
    }
    Ok(number.into())
}

/// A time of day. Digits beyond microseconds are cut off.
pub(crate) fn check_time(value: &Value) -> Result<Value, String> {
    let message = "must be a time of day like 10:00:00";
    let text = value
        .as_str()
        .filter(|text| text.len() >= 5 && !text.contains('T'));
    let time = text.and_then(|text| text.parse::<jiff::civil::Time>().ok());
    let time = time.ok_or(message)?;
    let micros = i32::from(time.millisecond()) * 1000 + i32::from(time.microsecond());
    let time = time.with().subsec_nanosecond(micros * 1000).build();
    Ok(time.map_err(|_| message)?.to_string().into())
}

/// A decimal number as text, as it was given. One with an exponent would have another text in a database.
pub(crate) fn check_decimal(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text.strip_prefix('\0').unwrap_or(text).to_owned(),
        Value::Number(number) if number.is_f64() => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    };
    if exact_number::is_number(&text) && !text.contains(['e', 'E']) && text.len() <= MAX_DECIMAL {
        Ok(text.into())
    } else {
        Err("must be a decimal number like 9.95".into())
    }
}

/// The whole number that a text of digits stands for, without leading zeros or a plus sign.
pub(crate) fn whole_number_of_text(text: &str) -> Option<i128> {
    let number: i128 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The value as a whole number. `1.0` and `1e2` are whole numbers too.
pub(crate) fn whole_number(value: &Value) -> Option<i128> {
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
