//! Plots as inline SVG. Colors come from the page's style sheet, so they follow its color scheme.

use super::escape;

/// The width of every plot in SVG units.
pub const WIDTH: f64 = 760.0;
/// Space for the labels of the vertical axis.
pub const LEFT: f64 = 56.0;
/// Number of distinct series colors.
pub const COLORS: usize = 8;
/// Space for the labels after the last point of each line.
const RIGHT: f64 = 190.0;
/// Space for the labels below the horizontal axis.
const BOTTOM: f64 = 44.0;
/// Minimum distance between lines of text.
const LINE: f64 = 15.0;

/// A logarithmic axis that maps the values `low` to `high` to the coordinates `from` to `to`.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// The smallest value.
    pub low: f64,
    /// The largest value.
    pub high: f64,
    /// The coordinate of `low`.
    pub from: f64,
    /// The coordinate of `high`.
    pub to: f64,
}

impl Axis {
    /// The coordinate of a value.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln());
        self.from + share * (self.to - self.from)
    }
}

/// One line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The label at the end of the line.
    pub name: String,
    /// Measured elsewhere: drawn thin and dashed.
    pub elsewhere: bool,
    /// The points. Points that are not positive are left out, because the axes are logarithmic.
    pub points: Vec<(f64, f64)>,
}

/// Lines over two logarithmic axes.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    /// A description of the plot, for screen readers.
    pub title: &'a str,
    /// The caption of the horizontal axis.
    pub x_caption: &'a str,
    /// The unit of the horizontal axis, as in `11 tokens`.
    pub x_unit: &'a str,
    /// The quantity on the vertical axis, such as `P50`.
    pub y_name: &'a str,
    /// The unit of the vertical axis.
    pub y_unit: &'a str,
    /// Formats a value of the vertical axis.
    pub y_text: fn(f64) -> String,
    /// The lines, in the order of their colors.
    pub series: Vec<Series>,
}

impl Lines<'_> {
    /// Draws the plot; `None` if it has no points.
    pub fn svg(mut self) -> Option<String> {
        for series in &mut self.series {
            series.points.retain(|(x, y)| *x > 0.0 && *y > 0.0);
            series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let points: Vec<(f64, f64)> = self.series.iter().flat_map(|series| &series.points).copied().collect();
        let (first, last) = range(points.iter().map(|point| point.0))?;
        let (lowest, highest) = range(points.iter().map(|point| point.1))?;
        let height = 420.0;
        // The axis of a single value would have no length.
        let x = Axis { low: first / 1.1, high: last.max(first * 1.5) * 1.02, from: LEFT, to: WIDTH - RIGHT };
        let y = Axis { low: lowest / 1.3, high: highest * 1.3, from: height - BOTTOM, to: 14.0 };
        let mut out = open(height, self.title) + &self.grid(&x, &y, &points);
        let mut ends = Vec::new();
        for (number, series) in self.series.iter().enumerate() {
            let class = format!("c{}{}", number % COLORS, if series.elsewhere { " elsewhere" } else { "" });
            out += &self.line(series, &class, &x, &y);
            if let Some(&(at, value)) = series.points.last() {
                let label = format!("{} {}", series.name, (self.y_text)(value));
                ends.push(End { x: x.at(at), y: y.at(value), class, label });
            }
        }
        Some(out + &labels(ends, x.to + 22.0, height - BOTTOM) + "</svg>")
    }

    fn line(&self, series: &Series, class: &str, x: &Axis, y: &Axis) -> String {
        let places = series.points.iter().map(|&(at, value)| format!("{:.1},{:.1}", x.at(at), y.at(value)));
        let path = places.collect::<Vec<_>>().join(" ");
        let mut out = format!("<polyline class=\"line {class}\" points=\"{path}\"/>");
        for &(at, value) in &series.points {
            let name = escape(&series.name);
            let unit = self.x_unit;
            let tip = format!("{name}: {at} {unit}, {} {} {}", self.y_name, (self.y_text)(value), self.y_unit);
            let cx = x.at(at);
            let cy = y.at(value);
            out += &format!("<circle class=\"{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\">");
            out += &format!("<title>{tip}</title></circle>");
        }
        out
    }

    fn grid(&self, x: &Axis, y: &Axis, points: &[(f64, f64)]) -> String {
        let mut out = String::new();
        for tick in decades(y.low, y.high) {
            let at = y.at(tick);
            let left = x.from;
            let right = x.to;
            out += &format!("<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
            out += &format!("<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{tick}</text>", left - 6.0, at + 4.0);
        }
        let mut values: Vec<f64> = points.iter().map(|point| point.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        for value in values {
            let at = x.at(value);
            let top = y.to;
            let bottom = y.from;
            out += &format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>");
            out += &format!("<text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{value}</text>", bottom + 16.0);
        }
        let middle = f64::midpoint(x.from, x.to);
        let below = y.from + 36.0;
        let caption = escape(self.x_caption);
        out += &format!("<text class=\"axis middle\" x=\"{middle:.1}\" y=\"{below:.1}\">{caption}</text>");
        out + &format!("<text class=\"axis\" x=\"4\" y=\"12\">{}</text>", escape(self.y_unit))
    }
}

/// The end of a line and its label.
struct End {
    x: f64,
    y: f64,
    class: String,
    label: String,
}

/// Labels next to the ends of their lines. Overlapping labels are moved down, and back up from the bottom edge.
fn labels(mut ends: Vec<End>, x: f64, bottom: f64) -> String {
    ends.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut positions: Vec<f64> = Vec::new();
    for end in &ends {
        positions.push(positions.last().map_or(end.y, |last| end.y.max(last + LINE)));
    }
    let mut lowest = bottom;
    for position in positions.iter_mut().rev() {
        *position = position.min(lowest);
        lowest = *position - LINE;
    }
    let mut out = String::new();
    for (end, y) in ends.iter().zip(positions) {
        let from = end.x + 5.0;
        let to = x - 4.0;
        let class = &end.class;
        out += &format!(
            "<line class=\"leader {class}\" x1=\"{from:.1}\" y1=\"{:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\"/>",
            end.y
        );
        out +=
            &format!("<text class=\"label {class}\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>", y + 4.0, escape(&end.label));
    }
    out
}

/// The numbers 1, 2 and 5 times a power of ten within a range.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = exponents.flat_map(|exponent| {
        // Divide below 1: 10^-2 has no exact float, and 1/100 rounds to the float nearest to 0.01.
        let scale = 10f64.powi(exponent.abs());
        [1.0, 2.0, 5.0].map(|digit| if exponent < 0 { digit / scale } else { digit * scale })
    });
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

/// The opening tag of a plot. Close it with `</svg>`.
pub fn open(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    )
}

/// The smallest and largest positive values.
pub fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| *value > 0.0).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(decades(0.4, 12.0), [0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(decades(0.01, 0.02), [0.01, 0.02]);
    }

    #[test]
    fn labels_neither_overlap_nor_leave_the_plot() {
        let end = |y: f64| End { x: 0.0, y, class: "c0".to_owned(), label: format!("{y}") };
        let text = labels(vec![end(90.0), end(95.0), end(10.0), end(12.0)], 50.0, 100.0);
        let ys: Vec<f64> = text
            .match_indices("<text")
            .map(|(at, _)| {
                let (_, after) = text[at..].split_once(" y=\"").expect("a coordinate");
                after.split('"').next().and_then(|y| y.parse().ok()).expect("a number")
            })
            .collect();
        assert_eq!(ys.len(), 4);
        assert!(ys.windows(2).all(|pair| pair[1] - pair[0] >= LINE - 0.11), "{ys:?}");
        assert!(ys.iter().all(|y| *y <= 104.0), "{ys:?}");
    }

    #[test]
    fn a_plot_shows_positive_points_and_skips_the_others() {
        let series = |name: &str, points: &[(f64, f64)]| Series {
            name: name.to_owned(),
            elsewhere: false,
            points: points.to_vec(),
        };
        let lines = Lines {
            title: "a < b",
            x_caption: "clients",
            x_unit: "clients",
            y_name: "P50",
            y_unit: "ms",
            y_text: |value| format!("{value:.1}"),
            series: vec![series("P<50", &[(4.0, 2.0), (1.0, 1.0)]), series("none", &[(1.0, 0.0)])],
        };
        let svg = lines.clone().svg().expect("a plot");
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let tips: Vec<_> = document.descendants().filter(|node| node.has_tag_name("title")).map(|n| n.text()).collect();
        assert_eq!(tips, [Some("P<50: 1 clients, P50 1.0 ms"), Some("P<50: 4 clients, P50 2.0 ms")]);
        assert_eq!(Lines { series: vec![series("none", &[])], ..lines }.svg(), None);
    }
}
