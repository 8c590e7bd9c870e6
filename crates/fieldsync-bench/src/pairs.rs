//! Interleaved pairs of measurements: theirs, ours, theirs, ours. Other load on the machine then affects both sides.

/// The measurements of both sides, pair by pair.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) theirs: Vec<f64>,
    pub(crate) ours: Vec<f64>,
}

impl Pairs {
    pub(crate) fn push(&mut self, theirs: f64, ours: f64) {
        self.theirs.push(theirs);
        self.ours.push(ours);
    }

    /// The lowest and the highest result of comparing a pair.
    pub(crate) fn range(&self, compare: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let compared = self.theirs.iter().zip(&self.ours);
        let compared = compared.map(|(theirs, ours)| compare(*theirs, *ours));
        compared.fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(lowest, highest), one| (lowest.min(one), highest.max(one)),
        )
    }
}

pub(crate) fn median(measurements: &[f64]) -> f64 {
    let mut sorted = measurements.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// The value that a percentage of the measurements does not exceed.
pub(crate) fn percentile(measurements: &mut [f64], percent: usize) -> f64 {
    measurements.sort_unstable_by(f64::total_cmp);
    measurements[(measurements.len() * percent / 100).min(measurements.len() - 1)]
}
