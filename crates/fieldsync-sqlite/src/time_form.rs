//! The forms in which frameworks store times in SQLite. A column is written in the form that it has.

use fieldsync::Timestamp;
use fieldsync_sql::Side;

/// How a column stores times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeForm {
    /// Text in UTC.
    Text {
        /// Between the date and the time: a space or `T`.
        separator: char,
        /// After the time: nothing, `Z`, `+00:00`, or ` +00:00`.
        suffix: &'static str,
        /// The number of fractional digits.
        digits: usize,
    },
    /// Milliseconds since 1970.
    Millis,
    /// Seconds since 1970.
    Seconds,
}

/// Up to here a number counts as seconds: the year 5138. As milliseconds it would be in the year 1973.
const MAX_SECONDS: i64 = 100_000_000_000;

/// Tells SQLite that a condition is true of few rows. It takes a range for a quarter of the table, for which no index is worth its while,
/// and queries are for few of many records.
pub(crate) fn rare(condition: &str) -> String {
    format!("likelihood({condition}, 0.03)")
}

impl TimeForm {
    /// `2026-01-13 10:00:00.123456`.
    pub(crate) const SQL: Self = Self::Text {
        separator: ' ',
        suffix: "",
        digits: 6,
    };

    /// The form of a value that the column holds.
    pub(crate) fn of(sample: &str) -> Self {
        if let Ok(number) = sample.parse::<i64>() {
            return if number.abs() < MAX_SECONDS {
                Self::Seconds
            } else {
                Self::Millis
            };
        }
        if Timestamp::from_sql_text(sample).is_none() {
            return Self::SQL;
        }
        let fraction = sample.split('.').nth(1).unwrap_or_default();
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let after = sample.get(10..).unwrap_or_default();
        let suffix = if after.ends_with(['Z', 'z']) {
            "Z"
        } else if after.contains(" +") || after.contains(" -") {
            " +00:00"
        } else if after.contains(['+', '-']) {
            "+00:00"
        } else {
            ""
        };
        Self::Text {
            separator: if after.starts_with('T') { 'T' } else { ' ' },
            suffix,
            // Frameworks leave out a fraction that is zero.
            digits: if digits == 0 && suffix.is_empty() {
                6
            } else {
                digits.min(6)
            },
        }
    }

    /// The condition that a column in this form has a time, or one that is at least or at most that. Its own index serves it. Rows whose
    /// form is another are among those that meet it.
    pub(crate) fn comparison(self, column: &str, side: Side, time: &str) -> String {
        let Self::Text { .. } = self else {
            let comparison = format!("{column} {} {time}", side.operator());
            return format!("({comparison} or {column} >= '')");
        };
        // Text begins with the date at its offset, which is at most a day away.
        let day = |days: &str| format!("date(substr({time}, 1, 19), '{days} days')");
        let at_least = rare(&format!("{column} >= coalesce({}, '')", day("-1")));
        let at_most = rare(&format!("{column} < coalesce({}, x'')", day("+2")));
        match side {
            Side::Equal => format!("({at_least} and {at_most})"),
            Side::AtLeast => at_least,
            Side::AtMost => at_most,
        }
    }

    /// Whether it is text with nothing after the time. Then a fraction may have any number of digits, or be left out, and the order of the
    /// texts is still that of the times.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Self::Text { suffix: "", .. })
    }

    /// This form, with all digits of the fraction if it is bare.
    pub(crate) fn in_full(self) -> Self {
        match self {
            Self::Text {
                separator,
                suffix: suffix @ "",
                ..
            } => Self::Text {
                separator,
                suffix,
                digits: 6,
            },
            other => other,
        }
    }

    /// Whether a text is in this form, which is bare.
    pub(crate) fn has(self, text: &str) -> bool {
        let Self::Text { separator, .. } = self else {
            return false;
        };
        let mut after_date = text.chars().skip(10);
        after_date.next() == Some(separator)
            && after_date.all(|one| one.is_ascii_digit() || matches!(one, ':' | '.'))
    }

    /// The condition that a column in a bare form stands so to a time [in full](Self::in_full). Its value may have fewer digits.
    pub(crate) fn compare_bare(column: &str, operator: &str, time: &str) -> String {
        let shortest = format!("rtrim(rtrim({time}, '0'), '.')");
        match operator {
            "=" => format!("({column} >= {shortest} and {column} <= {time})"),
            ">=" | "<" => format!("{column} {operator} {shortest}"),
            _ => format!("{column} {operator} {time}"),
        }
    }

    /// A time as text in this form, or `None` if the form is a number.
    pub(crate) fn text(self, time: Timestamp) -> Option<String> {
        let Self::Text {
            separator,
            suffix,
            digits,
        } = self
        else {
            return None;
        };
        let text = time.to_sql_text().replacen(' ', &separator.to_string(), 1);
        let end = match digits {
            0 => text.len() - 7,
            digits => text.len() - 6 + digits,
        };
        Some(format!("{}{suffix}", &text[..end]))
    }

    /// A time as a number in this form.
    pub(crate) fn number(self, time: Timestamp) -> i64 {
        match self {
            Self::Seconds => time.as_micros().div_euclid(1_000_000),
            _ => time.as_micros().div_euclid(1000),
        }
    }

    /// The time that a number stands for. `None` if the column stores text.
    pub(crate) fn time_of(self, number: i64) -> Option<Timestamp> {
        let factor = match self {
            Self::Text { .. } => return None,
            Self::Millis => 1000,
            Self::Seconds => 1_000_000,
        };
        Timestamp::from_micros(number.checked_mul(factor)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_the_form_that_the_column_has() {
        let time: Timestamp = "2026-01-13T10:00:00.123456Z".parse().unwrap();
        for (sample, expected) in [
            ("2025-12-31 23:00:00.5", "2026-01-13 10:00:00.1"),
            ("2025-12-31 23:00:00", "2026-01-13 10:00:00.123456"),
            ("2025-12-31T23:00:00.000Z", "2026-01-13T10:00:00.123Z"),
            ("2025-12-31T23:00:00Z", "2026-01-13T10:00:00Z"),
            (
                "2025-12-31 23:00:00.000 +00:00",
                "2026-01-13 10:00:00.123 +00:00",
            ),
            ("2025-12-31T23:00:00+02:00", "2026-01-13T10:00:00+00:00"),
            ("yesterday", "2026-01-13 10:00:00.123456"),
        ] {
            assert_eq!(
                TimeForm::of(sample).text(time).unwrap(),
                expected,
                "{sample}"
            );
        }
        let (millis, seconds) = (TimeForm::of("1768298400123"), TimeForm::of("1768298400"));
        assert_eq!(millis.number(time), 1_768_298_400_123);
        assert_eq!(seconds.number(time), 1_768_298_400);
        let read = millis.time_of(1_768_298_400_123).unwrap();
        assert_eq!(read.to_string(), "2026-01-13T10:00:00.123000Z");
    }
}
