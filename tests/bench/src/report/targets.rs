//! What Tidegate is meant to reach, and whether it does.

use super::svg::number_text;

/// A target and what was measured.
pub struct Verdict {
    /// In words.
    pub what: String,
    /// The bound.
    pub bound: Bound,
    /// The figure; `None` when it was not measured.
    pub measured: Option<f64>,
    /// The range behind the figure, if it has one.
    pub range: Option<(f64, f64)>,
}

/// At which side of a number a figure has to be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Verdict {
    /// A row of the table of targets.
    pub fn row(&self) -> String {
        let (bound, met) = match self.bound {
            Bound::AtMost(most) => (
                format!("≤ {}", number_text(most)),
                self.measured.map(|figure| figure <= most),
            ),
            Bound::AtLeast(least) => (
                format!("≥ {}", number_text(least)),
                self.measured.map(|figure| figure >= least),
            ),
        };
        let measured = match (self.measured, self.range) {
            (Some(figure), Some((min, max))) => {
                format!("{} ({}–{})", short(figure), short(min), short(max))
            }
            (Some(figure), None) => short(figure),
            (None, _) => "–".to_owned(),
        };
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        format!("| {} | {bound} | {measured} | {verdict} |\n", self.what)
    }
}

/// Enough digits to judge by.
pub fn short(figure: f64) -> String {
    if figure.abs() < 100.0 && figure.fract() != 0.0 {
        format!("{figure:.2}")
    } else {
        number_text(figure)
    }
}
