//! Times as PostgreSQL sends them: microseconds since 2000, in a wider range than the core's.

use std::error::Error;
use std::fmt;

use fieldsync::Timestamp;
use tokio_postgres::types::{FromSql, Type};

/// The value of a `timestamptz`, or of a `timestamp` in UTC. Displayed as RFC 3339, whatever the year; `infinity` as itself.
#[derive(Debug, PartialEq)]
pub(crate) struct Time(i64);

/// 2000-01-01, in microseconds since 1970.
const BEGIN: i64 = 946_684_800_000_000;
/// 0001-01-01, in microseconds since 1970.
const FIRST: i64 = -62_135_596_800_000_000;
/// The calendar repeats after 400 years.
const CYCLE: i64 = 146_097 * 24 * 3600 * 1_000_000;

impl<'a> FromSql<'a> for Time {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TIMESTAMPTZ | Type::TIMESTAMP)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            i64::MAX => return f.write_str("infinity"),
            i64::MIN => return f.write_str("-infinity"),
            _ => {}
        }
        let near = self.0.checked_add(BEGIN).and_then(Timestamp::from_micros);
        if let Some(time) = near.filter(|time| time.as_micros() > FIRST) {
            return time.fmt(f);
        }
        let in_cycle =
            Timestamp::from_micros(BEGIN + self.0.rem_euclid(CYCLE)).ok_or(fmt::Error)?;
        let text = in_cycle.to_string();
        let (year, rest) = text.split_at(4);
        let year: i64 = year.parse().map_err(|_| fmt::Error)?;
        match year + 400 * self.0.div_euclid(CYCLE) {
            year @ 1.. => write!(f, "{year:04}{rest}"),
            // The year 1 BC is before the year 1.
            year => write!(f, "{:04}{rest} BC", 1 - year),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_year_are_displayed() {
        const DAY: i64 = 24 * 3600 * 1_000_000;
        for (micros, text) in [
            (0, "2000-01-01T00:00:00.000000Z"),
            (-1, "1999-12-31T23:59:59.999999Z"),
            (CYCLE * 20, "10000-01-01T00:00:00.000000Z"),
            (CYCLE * 100 + 31 * DAY + 1, "42000-02-01T00:00:00.000001Z"),
            (-BEGIN + FIRST - 1, "0001-12-31T23:59:59.999999Z BC"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(Time(micros).to_string(), text);
        }
    }
}
