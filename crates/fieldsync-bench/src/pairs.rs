//! Interleaved pairs: theirs, ours, theirs, ours… so that what else the machine does meets both.

/// The figures of two sides, pair by pair.
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

    /// The least and the most that comparing a pair gives.
    pub(crate) fn range(&self, compare: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let compared = self.theirs.iter().zip(&self.ours);
        let compared = compared.map(|(theirs, ours)| compare(*theirs, *ours));
        compared.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| {
            (least.min(one), most.max(one))
        })
    }
}

pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// What so many of the figures do not exceed.
pub(crate) fn percentile(figures: &mut [f64], percent: usize) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[(figures.len() * percent / 100).min(figures.len() - 1)]
}
