//! Interleaved pairs: theirs, ours, theirs, ours… so that what else the machine does meets both.

/// The figures of two sides, pair by pair.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    theirs: Vec<f64>,
    ours: Vec<f64>,
}

impl Pairs {
    pub(crate) fn push(&mut self, theirs: f64, ours: f64) {
        self.theirs.push(theirs);
        self.ours.push(ours);
    }

    /// Prints both medians, their ratio, and the range of the pairs' ratios.
    pub(crate) fn print(&self, title: &str, unit: &str, target: &str) {
        let ratios: Vec<f64> = self
            .ours
            .iter()
            .zip(&self.theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        println!("{title}");
        println!("  ours {ours:.2} {unit}, theirs {theirs:.2} {unit}");
        println!(
            "  ratio {:.2} ({least:.2} to {most:.2} in {} pairs); target: {target}\n",
            ours / theirs,
            ratios.len()
        );
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
