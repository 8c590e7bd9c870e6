//! Rates, and how much of a rate is left to each of those that it limits.

use std::time::{Duration, Instant};

/// How many seconds of a rate per second may be used at once.
const BURST_SECONDS: f64 = 20.0;

/// How much of something may be used: this much at once, and in the long run what is regained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    at_once: f64,
    per_second: f64,
}

impl Rate {
    /// This much per second, and twenty times as much at once.
    pub(crate) fn per_second(amount: u32) -> Self {
        let per_second = f64::from(amount);
        Self {
            at_once: per_second * BURST_SECONDS,
            per_second,
        }
    }

    /// At most this much within the period: half of it at once.
    pub(crate) fn within(amount: u64, period: Duration) -> Self {
        let half = amount as f64 / 2.0;
        Self {
            at_once: half,
            per_second: half / period.as_secs_f64(),
        }
    }
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// What was left at that time. Below zero if more was used than was left.
    left: f64,
    as_of: Instant,
}

impl Allowance {
    /// An allowance of which nothing was used.
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self {
            left: rate.at_once,
            as_of: now,
        }
    }

    /// Uses this much, or nothing if less is left. The error is the time after which it can be used. What is more than may be used at
    /// once takes all of it.
    pub(crate) fn take(&mut self, amount: f64, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.regain(rate, now);
        let lacking = amount.min(rate.at_once) - self.left;
        if lacking > 0.0 {
            return Err(time_to_regain(lacking, rate));
        }
        self.left -= amount.min(rate.at_once);
        Ok(())
    }

    /// Whether one is left. The error is the time after which it is.
    pub(crate) fn check(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.regain(rate, now);
        if self.left >= 1.0 {
            return Ok(());
        }
        Err(time_to_regain(1.0 - self.left, rate))
    }

    /// Notes what was used, which may be more than was left.
    pub(crate) fn charge(&mut self, amount: f64, rate: Rate, now: Instant) {
        self.regain(rate, now);
        self.left -= amount;
    }

    /// Whether it is as if nothing was used.
    pub(crate) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.regain(rate, now);
        self.left >= rate.at_once
    }

    fn regain(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.as_of);
        let regained = passed.as_secs_f64() * rate.per_second;
        self.left = (self.left + regained).min(rate.at_once);
        self.as_of = self.as_of.max(now);
    }
}

fn time_to_regain(amount: f64, rate: Rate) -> Duration {
    let seconds = amount / rate.per_second;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_burst_is_taken_and_then_a_hundred_a_second() {
        let (rate, mut now) = (Rate::per_second(100), Instant::now());
        let mut allowance = Allowance::full(rate, now);
        assert!((0..2000).all(|_| allowance.take(1.0, rate, now).is_ok()));
        assert_eq!(
            allowance.take(1.0, rate, now),
            Err(Duration::from_millis(10))
        );
        let mut allowance = Allowance::full(rate, now);
        for _ in 0..10_000 {
            now += Duration::from_millis(10);
            assert!(allowance.take(1.0, rate, now).is_ok());
        }
    }

    #[test]
    fn what_was_used_beyond_the_allowance_is_regained_first() {
        let (rate, now) = (Rate::within(7200, HOUR), Instant::now());
        let mut allowance = Allowance::full(rate, now);
        assert!(allowance.is_full(rate, now));
        allowance.charge(3601.0, rate, now);
        assert_eq!(allowance.check(rate, now), Err(Duration::from_secs(2)));
        let later = now + Duration::from_secs(2);
        assert_eq!(allowance.check(rate, later), Ok(()));
        assert!(!allowance.is_full(rate, later));
        assert!(allowance.is_full(rate, later + HOUR));
    }

    #[test]
    fn more_than_may_be_used_at_once_takes_all() {
        let (rate, now) = (Rate::per_second(1), Instant::now());
        let mut allowance = Allowance::full(rate, now);
        assert_eq!(allowance.take(1000.0, rate, now), Ok(()));
        assert!(allowance.take(1.0, rate, now).is_err());
    }

    #[test]
    fn a_limit_that_is_lifted_is_not_reached() {
        let (rate, now) = (Rate::within(u64::MAX, HOUR), Instant::now());
        let mut allowance = Allowance::full(rate, now);
        allowance.charge(1e15, rate, now);
        assert_eq!(allowance.check(rate, now), Ok(()));
    }
}
