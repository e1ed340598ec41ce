//! Two kinds of plot, written as SVG by hand: lines over categories, and grouped bars with ranges.

use crate::statistics::Spread;
use std::fmt::Write as _;

/// Size of a plot and its margins, in SVG units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 86.0;

/// Distinguishable also without colours in print.
const COLOURS: [&str; 4] = ["#1f5fa8", "#d9822b", "#2e8b57", "#a03c78"];

/// Values over common categories.
pub struct Series {
    /// For the legend.
    pub name: String,
    /// One per category.
    pub values: Vec<Option<Spread>>,
}

/// A horizontal line with a name.
pub struct Mark {
    /// Its text.
    pub name: String,
    /// Where.
    pub value: f64,
}

/// What both kinds have in common.
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// Left of it.
    pub unit: String,
    /// Below it, each with its place.
    pub categories: Vec<String>,
    /// What the categories are.
    pub axis: String,
    /// The values.
    pub series: Vec<Series>,
    /// Lines for comparison.
    pub marks: Vec<Mark>,
    /// A target of each category, for bars: drawn over its group.
    pub targets: Vec<Option<f64>>,
}

impl Plot {
    /// Connected points.
    pub fn lines(&self) -> String {
        let mut svg = self.frame();
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let points: Vec<(f64, f64)> = series
                .values
                .iter()
                .enumerate()
                .filter_map(|(place, value)| {
                    Some((self.centre(place), self.height((*value)?.median)))
                })
                .collect();
            let path: Vec<String> = points
                .iter()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                path.join(" ")
            );
            for (x, y) in points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
                );
            }
        }
        svg + "</svg>\n"
    }

    /// Bars in groups, the range of each as a whisker and its median as a number.
    pub fn bars(&self) -> String {
        let mut svg = self.frame();
        let group = self.step() * 0.8;
        let bar = group / self.series.len().max(1) as f64;
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            for (place, value) in series.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let x = self.centre(place) - group / 2.0 + bar * number as f64;
                let (low, top) = (self.height(0.0), self.height(value.median));
                let middle = x + bar / 2.0;
                let (min, max) = (self.height(value.min), self.height(value.max));
                let _ = writeln!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                     <line x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{min:.1}\" y2=\"{max:.1}\" stroke=\"#222\"/>\
                     <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.2}</text>",
                    x + 1.0,
                    bar - 2.0,
                    low - top,
                    max.min(top) - 5.0,
                    value.median
                );
            }
        }
        for (place, target) in self.targets.iter().enumerate() {
            if let Some(target) = target {
                let (y, x) = (self.height(*target), self.centre(place) - group / 2.0);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#c00\" stroke-width=\"2\" stroke-dasharray=\"5 3\"/>",
                    x + group
                );
            }
        }
        svg + "</svg>\n"
    }

    /// Everything but the values.
    fn frame(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
            escaped(&self.title)
        );
        let right = WIDTH - RIGHT;
        let tick = self.tick();
        let ticks = (self.top() / tick).round() as usize;
        for number in 0..=ticks {
            let value = tick * number as f64;
            let y = self.height(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                number_text(value)
            );
        }
        for (place, category) in self.categories.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                self.centre(place),
                HEIGHT - BOTTOM + 18.0,
                escaped(category)
            );
        }
        let middle = f64::midpoint(LEFT, right);
        let height = f64::midpoint(TOP, HEIGHT - BOTTOM);
        let _ = writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(18 {height}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM + 38.0,
            escaped(&self.axis),
            escaped(&self.unit)
        );
        for mark in &self.marks {
            let y = self.height(mark.value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#c00\" stroke-dasharray=\"5 3\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#c00\">{}</text>",
                right - 2.0,
                y - 4.0,
                escaped(&mark.name)
            );
        }
        for (number, series) in self.series.iter().enumerate() {
            let x = LEFT + number as f64 * (right - LEFT) / self.series.len() as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
                HEIGHT - 28.0,
                COLOURS[number % COLOURS.len()],
                x + 18.0,
                HEIGHT - 18.0,
                escaped(&series.name)
            );
        }
        svg
    }

    fn step(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.categories.len().max(1) as f64
    }

    fn centre(&self, place: usize) -> f64 {
        LEFT + self.step() * (place as f64 + 0.5)
    }

    fn height(&self, value: f64) -> f64 {
        let low = HEIGHT - BOTTOM;
        low - (low - TOP) * value / self.top()
    }

    /// The largest thing that is drawn.
    fn largest(&self) -> f64 {
        let values = self.series.iter().flat_map(|series| series.values.iter());
        let values = values.flatten().map(|value| value.max);
        let marks = self.marks.iter().map(|mark| mark.value);
        values
            .chain(marks)
            .chain(self.targets.iter().flatten().copied())
            .fold(f64::MIN_POSITIVE, f64::max)
    }

    /// 1, 2 or 5 times a power of ten, so that there are four to ten of them.
    fn tick(&self) -> f64 {
        let rough = self.largest() * 1.05 / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|tick| *tick >= rough)
            .unwrap_or(10.0 * power)
    }

    fn top(&self) -> f64 {
        let tick = self.tick();
        (self.largest() * 1.05 / tick).ceil() * tick
    }
}

/// 12000 as 12,000; small numbers with their decimals.
pub fn number_text(value: f64) -> String {
    if value.abs() < 100.0 && value.fract().abs() > 1e-9 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::number_text;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(number_text(1_234_567.0), "1,234,567");
        assert_eq!(number_text(100.0), "100");
        assert_eq!(number_text(0.0), "0");
        assert_eq!(number_text(2.5), "2.5");
    }
}
