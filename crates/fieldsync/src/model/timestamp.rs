//! Points in time with microsecond precision, written as RFC 3339 in UTC.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::ToSpan as _;
use jiff::civil::{DateTime, date};
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
pub struct Timestamp {
    /// Microseconds since 1970-01-01T00:00:00Z.
    micros: i64,
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 3600 * SECOND;
/// The days of the first and of the last year that are valid.
const FIRST_DAY: i64 = -4_371_587;
const LAST_DAY: i64 = 2_932_896;

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
        (FIRST_DAY..=LAST_DAY)
            .contains(&micros.div_euclid(DAY))
            .then_some(Self { micros })
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.micros
    }

    /// The date and the time of day in UTC.
    fn civil(self) -> DateTime {
        let (days, of_day) = (self.micros.div_euclid(DAY), self.micros.rem_euclid(DAY));
        let date = date(1970, 1, 1).checked_add(days.days());
        let date = date.expect("the days are between the years -9999 and 9999");
        let of_day = jiff::SignedDuration::from_micros(of_day);
        let time = date
            .to_datetime(jiff::civil::Time::midnight())
            .checked_add(of_day);
        time.expect("the time is within the day")
    }

    /// Parses a date and a time of day, and subtracts the offset from UTC. Digits beyond microseconds are cut off.
    fn parse(text: &str, offset: i64) -> Option<Self> {
        let civil: DateTime = text.parse().ok()?;
        let days = i64::from(civil.date().since(date(1970, 1, 1)).ok()?.get_days());
        let of_day = civil.time().since(jiff::civil::Time::midnight()).ok()?;
        let of_day =
            i64::try_from(jiff::SignedDuration::try_from(of_day).ok()?.as_micros()).ok()?;
        Self::from_micros(days * DAY + of_day - offset)
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
        let after_date = text.get(10..)?;
        // With hyphens: then such texts are in the order of their dates.
        if text.as_bytes().get(4) != Some(&b'-') {
            return None;
        }
        let Some(at) = after_date.find(['Z', 'z', '+', '-']) else {
            return Self::parse(text, 0);
        };
        let (time, offset) = text.split_at(10 + at);
        Self::parse(time.trim_end(), parse_offset(offset)?)
    }
}

/// Microseconds of `Z`, `+02:00`, `+0200` or `+02`.
fn parse_offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text.get(1..)?.chars().filter(|one| *one != ':').collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let minutes = if minutes.is_empty() { "0" } else { minutes };
    if !is_number(hours) || !is_number(minutes) || minutes.len() > 2 {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60 * SECOND)
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

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        let since = Duration::from_micros(timestamp.micros.unsigned_abs());
        let time = if timestamp.micros < 0 {
            UNIX_EPOCH.checked_sub(since)
        } else {
            UNIX_EPOCH.checked_add(since)
        };
        // Some systems have no time that early.
        time.unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}Z", self.civil())
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    /// Parses an RFC 3339 time (section 5.6). Digits beyond microseconds are cut off, as databases do.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = is_rfc_3339(text).then(|| Self::from_sql_text(text));
        let error = || "must be an RFC 3339 time, like 2026-01-13T10:00:00Z".to_owned();
        time.flatten().ok_or_else(error)
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
            (
                "2026-01-13 10:00:00.000 +00:00",
                "2026-01-13T10:00:00.000000Z",
            ),
            ("2026-01-13 10:00:00+00", "2026-01-13T10:00:00.000000Z"),
            ("9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
            ("1969-12-31 23:59:59.5", "1969-12-31T23:59:59.500000Z"),
        ] {
            let time = Timestamp::from_sql_text(sql).unwrap();
            assert_eq!(time.to_string(), rfc);
            assert_eq!(Timestamp::from_sql_text(&time.to_sql_text()), Some(time));
        }
        assert_eq!(Timestamp::from_sql_text("yesterday"), None);
    }

    #[test]
    fn digits_beyond_microseconds_are_cut_off() {
        let time: Timestamp = "2026-01-13T10:00:00.1234569Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-01-13T10:00:00.123456Z");
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
