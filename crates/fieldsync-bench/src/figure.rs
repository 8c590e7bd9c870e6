//! A figure: pairs of measurements, and the limit on their comparison. It is printed as a row of a table.

use std::fmt;

use crate::pairs::{Pairs, median};

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) pairs: Pairs,
    pub(crate) limit: Limit,
}

/// The limit on a figure, which also says how the two sides are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Ours divided by theirs.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    RatioBelow(f64),
    /// Ours minus theirs.
    AboveTheirsAtMost(f64),
    /// Ours alone.
    OursAtMost(f64),
}

impl Limit {
    fn compare(self, theirs: f64, ours: f64) -> f64 {
        match self {
            Self::RatioAtLeast(_) | Self::RatioAtMost(_) | Self::RatioBelow(_) => ours / theirs,
            Self::AboveTheirsAtMost(_) => ours - theirs,
            Self::OursAtMost(_) => ours,
        }
    }

    fn is_met(self, compared: f64) -> bool {
        match self {
            Self::RatioAtLeast(limit) => compared >= limit,
            Self::RatioBelow(limit) => compared < limit,
            Self::RatioAtMost(limit) | Self::AboveTheirsAtMost(limit) | Self::OursAtMost(limit) => {
                compared <= limit
            }
        }
    }
}

/// Prints the figures as a table in Markdown.
pub(crate) fn print(figures: &[Figure]) {
    println!("| figure | ours | theirs | compared, and the range of the pairs | limit |");
    println!("|---|---|---|---|---|");
    for figure in figures {
        println!("{figure}");
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            title,
            unit,
            pairs,
            limit,
        } = self;
        let (theirs, ours) = (median(&pairs.theirs), median(&pairs.ours));
        let compared = limit.compare(theirs, ours);
        let (lowest, highest) = pairs.range(|theirs, ours| limit.compare(theirs, ours));
        write!(
            f,
            "| {title} | {} {unit} | {} {unit} | ",
            short(ours),
            short(theirs)
        )?;
        write!(f, "**{compared:.2} ({lowest:.2} to {highest:.2})** | ")?;
        match limit {
            Limit::RatioAtLeast(limit) => write!(f, "at least {limit}")?,
            Limit::RatioAtMost(limit) => write!(f, "at most {limit}")?,
            Limit::RatioBelow(limit) => write!(f, "below {limit}")?,
            Limit::AboveTheirsAtMost(limit) => write!(f, "at most {limit} {unit} above theirs")?,
            Limit::OursAtMost(limit) => write!(f, "ours at most {limit} {unit}")?,
        }
        let missed = if limit.is_met(compared) {
            ""
        } else {
            ": **missed**"
        };
        write!(f, "{missed} |")
    }
}

/// Two decimals, or none for a large number.
fn short(figure: f64) -> String {
    if figure < 1000.0 {
        format!("{figure:.2}")
    } else {
        format!("{figure:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: [(f64, f64); 3], limit: Limit, expected: &str) {
        let mut figure = Figure {
            title: "speed".into(),
            unit: "ms",
            pairs: Pairs::default(),
            limit,
        };
        for (theirs, ours) in pairs {
            figure.pairs.push(theirs, ours);
        }
        assert_eq!(figure.to_string(), format!("| speed | {expected} |"));
    }

    #[test]
    fn a_figure_shows_the_medians_and_the_range_of_the_pairs() {
        let pairs = [(2.0, 6.0), (1.0, 5.0), (4.0, 4000.0)];
        let medians = "6.00 ms | 2.00 ms";
        check(
            pairs,
            Limit::RatioAtLeast(3.0),
            &format!("{medians} | **3.00 (3.00 to 1000.00)** | at least 3"),
        );
        check(
            pairs,
            Limit::RatioBelow(3.0),
            &format!("{medians} | **3.00 (3.00 to 1000.00)** | below 3: **missed**"),
        );
        check(
            pairs,
            Limit::AboveTheirsAtMost(3.5),
            &format!(
                "{medians} | **4.00 (4.00 to 3996.00)** | at most 3.5 ms above theirs: **missed**"
            ),
        );
        check(
            pairs,
            Limit::OursAtMost(6.0),
            &format!("{medians} | **6.00 (5.00 to 4000.00)** | ours at most 6 ms"),
        );
    }
}
