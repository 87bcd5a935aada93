//! Plots as inline SVG. Colours come from the page's style sheet, so that they follow its colour scheme.

use super::escape;

/// Of every plot, in its own units.
pub const WIDTH: f64 = 760.0;
/// The place for the labels of the vertical axis.
pub const LEFT: f64 = 56.0;
/// Series have so many colours.
pub const COLOURS: usize = 8;
/// The place for labels behind the last point of a line.
const RIGHT: f64 = 190.0;
/// The place for labels below the horizontal axis.
const BOTTOM: f64 = 44.0;
/// Lines of text closer than this cannot be read.
const LINE: f64 = 15.0;

/// A logarithmic axis from `low` to `high` over the pixels `from` to `to`.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// The least value.
    pub low: f64,
    /// The greatest value.
    pub high: f64,
    /// Where `low` is.
    pub from: f64,
    /// Where `high` is.
    pub to: f64,
}

impl Axis {
    /// Where a value is.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln());
        self.from + share * (self.to - self.from)
    }
}

/// A line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What stands at its end.
    pub name: String,
    /// Thin and dashed: it was measured elsewhere.
    pub elsewhere: bool,
    /// Its points; what is not above zero has no place on a logarithmic axis and is left out.
    pub points: Vec<(f64, f64)>,
}

/// Lines over two logarithmic axes.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    /// What the plot shows, for those who cannot see it.
    pub title: &'a str,
    /// What stands below the horizontal axis.
    pub x_caption: &'a str,
    /// The unit of a point's first number, as in `11 tokens`.
    pub x_unit: &'a str,
    /// What a point's second number is, as in `P50`.
    pub y_name: &'a str,
    /// Its unit.
    pub y_unit: &'a str,
    /// How it is written.
    pub y_text: fn(f64) -> String,
    /// In the order of their colours.
    pub series: Vec<Series>,
}

impl Lines<'_> {
    /// The plot; none where it would have no point.
    pub fn svg(mut self) -> Option<String> {
        for series in &mut self.series {
            series.points.retain(|(x, y)| *x > 0.0 && *y > 0.0);
            series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let points: Vec<(f64, f64)> = self.series.iter().flat_map(|series| &series.points).copied().collect();
        let (first, last) = range(points.iter().map(|point| point.0))?;
        let (least, most) = range(points.iter().map(|point| point.1))?;
        let height = 420.0;
        // One value alone would have no axis.
        let x = Axis { low: first / 1.1, high: last.max(first * 1.5) * 1.02, from: LEFT, to: WIDTH - RIGHT };
        let y = Axis { low: least / 1.3, high: most * 1.3, from: height - BOTTOM, to: 14.0 };
        let mut out = open(height, self.title) + &self.grid(&x, &y, &points);
        let mut ends = Vec::new();
        for (number, series) in self.series.iter().enumerate() {
            let class = format!("c{}{}", number % COLOURS, if series.elsewhere { " elsewhere" } else { "" });
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
            let (name, unit) = (escape(&series.name), self.x_unit);
            let tip = format!("{name}: {at} {unit}, {} {} {}", self.y_name, (self.y_text)(value), self.y_unit);
            let (cx, cy) = (x.at(at), y.at(value));
            out += &format!("<circle class=\"{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\">");
            out += &format!("<title>{tip}</title></circle>");
        }
        out
    }

    fn grid(&self, x: &Axis, y: &Axis, points: &[(f64, f64)]) -> String {
        let mut out = String::new();
        for tick in decades(y.low, y.high) {
            let (at, left, right) = (y.at(tick), x.from, x.to);
            out += &format!("<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
            out += &format!("<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{tick}</text>", left - 6.0, at + 4.0);
        }
        let mut values: Vec<f64> = points.iter().map(|point| point.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        for value in values {
            let (at, top, bottom) = (x.at(value), y.to, y.from);
            out += &format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>");
            out += &format!("<text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{value}</text>", bottom + 16.0);
        }
        let (middle, below, caption) = (f64::midpoint(x.from, x.to), y.from + 36.0, escape(self.x_caption));
        out += &format!("<text class=\"axis middle\" x=\"{middle:.1}\" y=\"{below:.1}\">{caption}</text>");
        out + &format!("<text class=\"axis\" x=\"4\" y=\"12\">{}</text>", escape(self.y_unit))
    }
}

/// Where a line ends, and what is written there.
struct End {
    x: f64,
    y: f64,
    class: String,
    label: String,
}

/// Labels beside the ends of their lines, moved apart where they would overlap, and back up from the bottom.
fn labels(mut ends: Vec<End>, x: f64, bottom: f64) -> String {
    ends.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut places: Vec<f64> = Vec::new();
    for end in &ends {
        places.push(places.last().map_or(end.y, |last| end.y.max(last + LINE)));
    }
    let mut lowest = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(lowest);
        lowest = *place - LINE;
    }
    let mut out = String::new();
    for (end, y) in ends.iter().zip(places) {
        let (from, to) = (end.x + 5.0, x - 4.0);
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

/// 1, 2 and 5 times the powers of ten within a range.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = exponents.flat_map(|exponent| {
        // Below 1 by division: 10^-2 is no exact float, 1/100 is the one nearest to 0.01.
        let scale = 10f64.powi(exponent.abs());
        [1.0, 2.0, 5.0].map(|digit| if exponent < 0 { digit / scale } else { digit * scale })
    });
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

/// The beginning of a plot; its end is `</svg>`.
pub fn open(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    )
}

/// The least and the greatest of what is above zero.
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
    fn labels_do_not_overlap_and_stay_in_the_plot() {
        let end = |y: f64| End { x: 0.0, y, class: "c0".to_owned(), label: format!("{y}") };
        let text = labels(vec![end(90.0), end(95.0), end(10.0), end(12.0)], 50.0, 100.0);
        let ys: Vec<f64> = text
            .match_indices("<text")
            .map(|(at, _)| {
                let (_, behind) = text[at..].split_once(" y=\"").expect("a place");
                behind.split('"').next().and_then(|y| y.parse().ok()).expect("a number")
            })
            .collect();
        assert_eq!(ys.len(), 4);
        assert!(ys.windows(2).all(|pair| pair[1] - pair[0] >= LINE - 0.11), "{ys:?}");
        assert!(ys.iter().all(|y| *y <= 104.0), "{ys:?}");
    }

    #[test]
    fn a_plot_has_its_points_and_leaves_out_what_has_no_place() {
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
