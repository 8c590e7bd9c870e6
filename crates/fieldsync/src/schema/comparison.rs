//! How the values of a field compare: which are equal, and which is the lesser, as in SQL.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::schema::field_type::FieldType;

/// How the values of a field compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Boolean,
    /// By value, with every digit. `NaN` equals itself, and is the greatest.
    Decimal,
    /// By value. `NaN` equals itself, and is the greatest.
    Double,
    /// By code point.
    Text,
    /// By instant, date or time of day.
    Time,
    Uuid,
}

impl Comparison {
    /// `None` for a type whose values do not compare.
    pub(crate) fn of(kind: &FieldType) -> Option<Self> {
        match kind {
            FieldType::Boolean => Some(Self::Boolean),
            FieldType::Integer { .. } | FieldType::Decimal => Some(Self::Decimal),
            FieldType::Number { .. } => Some(Self::Double),
            FieldType::Text { .. } => Some(Self::Text),
            FieldType::DateTime | FieldType::LocalDateTime | FieldType::Date | FieldType::Time => {
                Some(Self::Time)
            }
            FieldType::Uuid => Some(Self::Uuid),
            FieldType::Bytes | FieldType::Json(_) => None,
        }
    }

    /// Whether one value can be less than another in every collection. Texts have an order only where their collection says so.
    pub(crate) fn has_order(self) -> bool {
        !matches!(self, Self::Boolean | Self::Text)
    }

    /// Compares two values. `None` if one of them is null, or of another type: SQL's unknown.
    pub(crate) fn compare(self, one: &Value, other: &Value) -> Option<Ordering> {
        match self {
            Self::Boolean => Some(one.as_bool()?.cmp(&other.as_bool()?)),
            Self::Decimal => match (one.as_i64(), other.as_i64()) {
                (Some(one), Some(other)) => Some(one.cmp(&other)),
                _ => Some(DecimalKey::of(&digits(one)?)?.cmp(&DecimalKey::of(&digits(other)?)?)),
            },
            Self::Double => {
                let (one, other) = (double(one)?, double(other)?);
                // Negative zero equals zero.
                Some(
                    one.partial_cmp(&other)
                        .unwrap_or_else(|| one.is_nan().cmp(&other.is_nan())),
                )
            }
            Self::Text | Self::Uuid => Some(one.as_str()?.cmp(other.as_str()?)),
            Self::Time => Some(time(one)?.cmp(&time(other)?)),
        }
    }
}

impl Comparison {
    /// A text that equal values share, and no others. `None` for null, and for a value of another type.
    pub(crate) fn canonical(self, value: &Value) -> Option<String> {
        match self {
            Self::Boolean => Some(value.as_bool()?.to_string()),
            Self::Decimal => Some(DecimalKey::of(&digits(value)?)?.to_string()),
            // Adding zero makes a negative zero positive.
            Self::Double => Some((double(value)? + 0.0).to_string()),
            Self::Text | Self::Time | Self::Uuid => value.as_str().map(str::to_owned),
        }
    }
}

/// The digits of a number, which may be a string.
fn digits(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// `None` for a text that is no time. A column of text may have any.
fn time(value: &Value) -> Option<TimeKey<'_>> {
    let text = value.as_str()?;
    let begins = |letter: char| letter.is_ascii_digit() || letter == '-';
    (text.starts_with(begins) || text == "infinity").then(|| TimeKey::of(text))
}

fn double(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.parse().ok(),
        None => value.as_f64(),
    }
}

/// A decimal number without leading and trailing zeros, or a special value.
#[derive(Debug, PartialEq, Eq)]
struct DecimalKey<'a> {
    /// −1 or 1, or 0 for zero; −2 and 2 for infinities, 3 for `NaN`.
    sign: i8,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> DecimalKey<'a> {
    /// `None` for what is not a number.
    fn of(text: &'a str) -> Option<Self> {
        let special = match text {
            "NaN" => Some(3),
            "Infinity" => Some(2),
            "-Infinity" => Some(-2),
            _ => None,
        };
        if let Some(sign) = special {
            let (whole, fraction) = ("", "");
            return Some(Self {
                sign,
                whole,
                fraction,
            });
        }
        let (sign, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (-1, unsigned),
            None => (1, text),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let (whole, fraction) = (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        );
        let sign = if whole.is_empty() && fraction.is_empty() {
            0
        } else {
            sign
        };
        Some(Self {
            sign,
            whole,
            fraction,
        })
    }
}

impl fmt::Display for DecimalKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = match self.sign {
            0 => ("0", ""),
            3 => ("NaN", ""),
            2 | -2 => ("Infinity", ""),
            _ => (self.whole, self.fraction),
        };
        let sign = if self.sign < 0 { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

impl Ord for DecimalKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = |key: &Self| {
            (
                key.whole.len(),
                key.whole.to_owned(),
                key.fraction.to_owned(),
            )
        };
        self.sign.cmp(&other.sign).then_with(|| {
            let order = magnitude(self).cmp(&magnitude(other));
            if self.sign < 0 {
                order.reverse()
            } else {
                order
            }
        })
    }
}

impl PartialOrd for DecimalKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A time in its canonical form, as it compares: `infinity`, years before Christ, and years of more than four digits included.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TimeKey<'a> {
    /// −1 and 1 for `-infinity` and `infinity`.
    rank: i8,
    /// 0 for a time of day.
    year: i64,
    rest: &'a str,
}

impl<'a> TimeKey<'a> {
    fn of(text: &'a str) -> Self {
        let rank = match text {
            "infinity" => 1,
            "-infinity" => -1,
            _ => 0,
        };
        let (text, is_before_christ) = match text.strip_suffix(" BC") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (digits, is_negative) = match text.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let end = digits.find(|letter: char| !letter.is_ascii_digit());
        let (year, rest) = digits.split_at(end.unwrap_or(digits.len()));
        let year = year
            .parse()
            .ok()
            .filter(|_| rank == 0 && rest.starts_with('-'));
        let Some(year) = year else {
            let (year, rest) = (0, text);
            return Self { rank, year, rest };
        };
        let year: i64 = year;
        // The year 1 BC is before the year 1.
        let year = match (is_before_christ, is_negative) {
            (true, _) => 1 - year,
            (_, true) => -year,
            _ => year,
        };
        Self { rank, year, rest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Checks that the values are in this order, and that those in one group are equal.
    #[track_caller]
    fn check(comparison: Comparison, groups: &[&[Value]]) {
        for (one, first) in groups.iter().enumerate() {
            for (other, second) in groups.iter().enumerate() {
                for (left, right) in first
                    .iter()
                    .flat_map(|left| second.iter().map(move |right| (left, right)))
                {
                    assert_eq!(
                        comparison.compare(left, right),
                        Some(one.cmp(&other)),
                        "{left} and {right}"
                    );
                }
            }
        }
    }

    #[test]
    fn numbers_compare_by_value_with_every_digit() {
        check(
            Comparison::Decimal,
            &[
                &[json!("-Infinity")],
                &[json!("-12345678901234567890.5")],
                &[json!(-9), json!("-9"), json!("-9.000")],
                &[json!("-0.25"), json!("-0.250")],
                &[json!(0), json!("-0"), json!("0.000"), json!("000")],
                &[json!("0.2"), json!("0.20")],
                &[json!("0.25")],
                &[json!(9)],
                &[json!(10), json!("10.0"), json!("0010")],
                &[json!(9_007_199_254_740_991_i64)],
                &[json!("9007199254740993")],
                &[json!("9007199254740993.1")],
                &[json!("Infinity")],
                &[json!("NaN")],
            ],
        );
        check(
            Comparison::Double,
            &[
                &[json!("-Infinity")],
                &[json!(-1.5)],
                &[json!(0), json!(-0.0), json!(0.0)],
                &[json!(0.1)],
                &[json!(1), json!(1.0)],
                &[json!(1e300)],
                &[json!("Infinity")],
                &[json!("NaN")],
            ],
        );
    }

    #[test]
    fn times_compare_by_instant() {
        check(
            Comparison::Time,
            &[
                &[json!("-infinity")],
                &[json!("0045-01-01 BC")],
                &[json!("0044-03-14 BC")],
                &[json!("0044-03-15 BC")],
                &[json!("0001-12-31 BC")],
                &[json!("0001-01-01")],
                &[json!("0999-12-31")],
                &[json!("2026-01-13")],
                &[json!("9999-12-31")],
                &[json!("10000-01-01")],
                &[json!("infinity")],
            ],
        );
        check(
            Comparison::Time,
            &[
                &[json!("2026-01-13T09:59:59.999999Z")],
                &[json!("2026-01-13T10:00:00.000000Z")],
                &[json!("2026-01-13T10:00:00.000001Z")],
                &[json!("12345-01-01T00:00:00.000000Z")],
            ],
        );
        check(
            Comparison::Time,
            &[
                &[json!("00:00:00")],
                &[json!("10:00:00")],
                &[json!("10:00:00.12")],
                &[json!("10:00:00.5")],
                &[json!("10:00:01")],
            ],
        );
    }

    #[test]
    fn null_and_other_types_are_unknown() {
        for comparison in [
            Comparison::Boolean,
            Comparison::Decimal,
            Comparison::Double,
            Comparison::Text,
            Comparison::Time,
            Comparison::Uuid,
        ] {
            assert_eq!(comparison.compare(&Value::Null, &json!(1)), None);
            assert_eq!(comparison.compare(&json!("x"), &json!({})), None);
        }
        assert_eq!(Comparison::Decimal.compare(&json!("x"), &json!(1)), None);
    }

    proptest! {
        #[test]
        fn integers_compare_like_integers(one: i64, other: i64) {
            let text = |number: i64| Value::String(number.to_string());
            for (left, right) in [(json!(one), text(other)), (text(one), json!(other)), (json!(one), json!(other))] {
                prop_assert_eq!(Comparison::Decimal.compare(&left, &right), Some(one.cmp(&other)));
            }
        }

        #[test]
        fn decimals_compare_like_scaled_integers(one in -1_000_000_i64..1_000_000, other in -1_000_000_i64..1_000_000) {
            let text = |number: i64| {
                let sign = if number < 0 { "-" } else { "" };
                let digits = number.abs();
                Value::String(format!("{sign}{}.{:03}", digits / 1000, digits % 1000))
            };
            prop_assert_eq!(Comparison::Decimal.compare(&text(one), &text(other)), Some(one.cmp(&other)));
        }
    }
}
