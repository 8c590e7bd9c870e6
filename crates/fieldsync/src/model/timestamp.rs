//! Points in time with microsecond precision, written as RFC 3339 in UTC.

use std::fmt;

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time with microsecond precision. In JSON it is an RFC 3339 string, always in UTC and with six fractional
/// digits.
///
/// ```
/// use fieldsync::Timestamp;
/// let noon: Timestamp = "2026-01-13T12:00:00+02:00".parse().unwrap();
/// assert_eq!(noon.to_string(), "2026-01-13T10:00:00.000000Z");
/// ```
///
/// The default is 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The current time of the system clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from_micros(jiff::Timestamp::now().as_microsecond())
            .expect("the system clock is between the years -9999 and 9999")
    }

    /// The time this many microseconds after 1970-01-01T00:00:00Z. `None` outside the years -9999 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        jiff::Timestamp::from_microsecond(micros).ok().map(Self)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0.as_microsecond()
    }

    /// SQL text in UTC, in the form that SQLite and most frameworks store: `2026-01-13 10:00:00.123456`.
    #[must_use]
    pub fn to_sql_text(self) -> String {
        let mut text = self.to_string();
        text.pop();
        text.replacen('T', " ", 1)
    }

    /// Parses SQL text such as `2026-01-13 10:00:00`. The fraction and the offset from UTC are optional; without an
    /// offset the time is in UTC. Digits beyond microseconds are cut off. `None` for other text.
    #[must_use]
    pub fn from_sql_text(text: &str) -> Option<Self> {
        let has_offset = text.get(10..)?.contains(['Z', 'z', '+', '-']);
        let time = if has_offset {
            text.parse::<jiff::Timestamp>()
        } else {
            format!("{text}Z").parse()
        };
        let time = time.ok()?;
        let whole_micros = time.as_nanosecond() % 1000 == 0;
        if whole_micros {
            Some(Self(time))
        } else {
            Self::from_micros(time.as_microsecond())
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A string with the format `date-time`. A field of this type is a [`FieldType::DateTime`](crate::backend::FieldType).
impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    /// Parses an RFC 3339 time (section 5.6). A time that is not a whole number of microseconds is an error: nothing is
    /// rounded.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = is_rfc_3339(text).then(|| text.parse::<jiff::Timestamp>().ok());
        let time = time
            .flatten()
            .ok_or("must be an RFC 3339 time, like 2026-01-13T10:00:00Z")?;
        if time.as_nanosecond() % 1000 != 0 {
            return Err("must be a time with at most six fractional digits".into());
        }
        Ok(Self(time))
    }
}

/// Whether the text has the form that RFC 3339 defines. jiff also accepts zone names, a comma, times without minutes
/// and leap seconds.
fn is_rfc_3339(text: &str) -> bool {
    let has_form = |bytes: &[u8], form: &[u8]| {
        bytes.len() == form.len()
            && bytes
                .iter()
                .zip(form)
                .all(|(byte, expected)| match expected {
                    b'0' => byte.is_ascii_digit(),
                    b'T' => matches!(byte, b'T' | b't' | b' '),
                    b'+' => matches!(byte, b'+' | b'-'),
                    expected => byte == expected,
                })
    };
    let Some((time, rest)) = text.as_bytes().split_at_checked(19) else {
        return false;
    };
    let digits = match rest.strip_prefix(b".") {
        Some(fraction) => fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count(),
        None => 0,
    };
    let offset = if digits == 0 {
        rest
    } else {
        &rest[1 + digits..]
    };
    has_form(time, b"0000-00-00T00:00:00")
        && !time.ends_with(b"60")
        && (matches!(offset, b"Z" | b"z") || has_form(offset, b"+00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_text_is_parsed_and_written_back() {
        for (sql, rfc) in [
            ("2026-01-13 10:00:00.123456", "2026-01-13T10:00:00.123456Z"),
            ("2026-01-13 10:00:00", "2026-01-13T10:00:00.000000Z"),
            ("2026-01-13 12:00:00+02:00", "2026-01-13T10:00:00.000000Z"),
            ("2026-01-13T10:00:00.5Z", "2026-01-13T10:00:00.500000Z"),
        ] {
            let time = Timestamp::from_sql_text(sql).unwrap();
            assert_eq!(time.to_string(), rfc);
            assert_eq!(Timestamp::from_sql_text(&time.to_sql_text()), Some(time));
        }
        assert_eq!(Timestamp::from_sql_text("yesterday"), None);
    }

    #[test]
    fn a_time_that_would_be_rounded_is_an_error() {
        assert!("2026-01-13T10:00:00.1234567Z".parse::<Timestamp>().is_err());
        assert!("2026-01-13".parse::<Timestamp>().is_err());
        assert!("2026-01-13T10:00:00".parse::<Timestamp>().is_err());
    }

    #[test]
    fn only_rfc_3339_times_are_parsed() {
        for text in [
            "2026-01-13T10:00:00Z",
            "2026-01-13t10:00:00.5z",
            "2026-01-13 10:00:00.123456-00:30",
        ] {
            assert!(text.parse::<Timestamp>().is_ok(), "{text}");
        }
        for text in [
            "2026-01-13T10Z",
            "2026-01-13T10:00Z",
            "2026-01-13T10:00:00,5Z",
            "2026-01-13T10:00:00.Z",
            "2026-01-13T10:00:00+0200",
            "2026-01-13T10:00:00+02",
            "2026-01-13T10:00:60Z",
            "2026-01-13T10:00:00Z[UTC]",
            "2026-01-13T10:00:00+02:00[Europe/Berlin]",
            "2026-13-13T10:00:00Z",
            "+002026-01-13T10:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
