//! Plots as inline SVG. Colours come from the page's style sheet, so that they follow its colour scheme.

use std::collections::BTreeMap;

use super::Report;
use super::format::{html, megabytes, ms};
use crate::accuracy::TextAccuracy;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 56.0;
/// The place for labels behind the last point of a line.
const RIGHT: f64 = 190.0;
/// Lines of text closer than this cannot be read.
const LINE: f64 = 15.0;
/// Cosines nearer to 1 than this are drawn here: that is what double precision leaves of a sum of hundreds of products.
const NEAREST: f64 = 1e-14;
/// Series have so many colours.
const COLOURS: usize = 8;

/// A logarithmic axis from `low` to `high` over the pixels `from` to `to`.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln());
        self.from + share * (self.to - self.from)
    }
}

/// P50 by tokens, one line for each engine, batch 1, both axes logarithmic.
pub(super) fn latency(report: &Report) -> Option<String> {
    let mut lines: BTreeMap<(bool, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for row in report.latency.iter().filter(|row| row.batch == 1) {
        lines.entry((row.from.is_some(), &row.engine)).or_default().push((row.tokens as f64, row.p50_ms));
    }
    let points: Vec<(f64, f64)> = lines.values().flatten().copied().collect();
    let (first, last) = range(points.iter().map(|point| point.0))?;
    let (least, most) = range(points.iter().map(|point| point.1))?;
    let height = 420.0;
    // One length alone would have no axis.
    let x = Axis { low: first / 1.1, high: last.max(first * 1.5) * 1.02, from: LEFT, to: WIDTH - RIGHT };
    let y = Axis { low: least / 1.3, high: most * 1.3, from: height - 44.0, to: 14.0 };
    let mut out = open(height, "P50 in ms by tokens of the text, one line for each engine");
    out += &grid(&x, &y, &points);
    let mut ends = Vec::new();
    for (number, ((elsewhere, name), line)) in lines.iter_mut().enumerate() {
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let class = format!("c{}{}", number % COLOURS, if *elsewhere { " elsewhere" } else { "" });
        let path: Vec<String> =
            line.iter().map(|&(tokens, p50)| format!("{:.1},{:.1}", x.at(tokens), y.at(p50))).collect();
        out += &format!("<polyline class=\"line {class}\" points=\"{}\"/>", path.join(" "));
        for &(tokens, p50) in line.iter() {
            out += &format!("<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\">", x.at(tokens), y.at(p50));
            out += &format!("<title>{}: {tokens} tokens, P50 {} ms</title></circle>", html(name), ms(p50));
        }
        if let Some(&(tokens, p50)) = line.last() {
            ends.push(End { x: x.at(tokens), y: y.at(p50), class, label: format!("{name} {}", ms(p50)) });
        }
    }
    Some(out + &labels(ends, x.to + 22.0, height - 44.0) + "</svg>")
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
        out += &format!("<text class=\"label {class}\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>", y + 4.0, html(&end.label));
    }
    out
}

fn grid(x: &Axis, y: &Axis, points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    for tick in decades(y.low, y.high) {
        let at = y.at(tick);
        out += &format!("<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>", x.from, x.to);
        out += &format!("<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{tick}</text>", x.from - 6.0, at + 4.0);
    }
    let mut lengths: Vec<u64> = points.iter().map(|point| point.0 as u64).collect();
    lengths.sort_unstable();
    lengths.dedup();
    for length in lengths {
        let at = x.at(length as f64);
        out += &format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>", y.to, y.from);
        out += &format!("<text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{length}</text>", y.from + 16.0);
    }
    let middle = f64::midpoint(x.from, x.to);
    out +=
        &format!("<text class=\"axis middle\" x=\"{middle:.1}\" y=\"{:.1}\">tokens of the text</text>", y.from + 36.0);
    out + "<text class=\"axis\" x=\"4\" y=\"12\">ms</text>"
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

/// A point for each text at 1 − cosine, on a logarithmic axis: a row for each model, and the threshold.
pub(super) fn cosines(report: &Report) -> Option<String> {
    let rows: Vec<_> = report.variants.iter().filter_map(|entry| Some((entry, entry.accuracy.as_ref()?))).collect();
    let all = rows.iter().flat_map(|(_, accuracy)| &accuracy.texts).map(|text| text.cosine);
    let thresholds = rows.iter().map(|(_, accuracy)| accuracy.summary.threshold);
    let (low, high) = range(all.chain(thresholds).filter(|cosine| cosine.is_finite()).map(distance))?;
    let (low, high) = (10f64.powf((low * 0.7).log10().floor()), (high * 2.0).min(2.0));
    let row_height = 84.0;
    let height = 30.0 + row_height * rows.len() as f64 + 44.0;
    let x = Axis { low, high, from: LEFT + 30.0, to: WIDTH - 20.0 };
    let mut out = open(height, "One minus cosine of every text, a row for each model, and the threshold");
    let bottom = height - 44.0;
    for exponent in low.log10().round() as i32..=high.log10().floor() as i32 {
        let at = x.at(10f64.powi(exponent));
        out += &format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"26\" y2=\"{bottom:.1}\"/>");
        out += &format!("<text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">1e{exponent}</text>", bottom + 16.0);
    }
    for (number, (entry, accuracy)) in rows.iter().enumerate() {
        let middle = 26.0 + row_height * (number as f64 + 0.5);
        out += &format!(
            "<text class=\"label c{number} end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x.from - 8.0,
            middle + 4.0,
            entry.variant
        );
        out += &dots(&x, number, middle, row_height, &accuracy.texts);
        out += &threshold(&x, middle, row_height, accuracy.summary.threshold);
    }
    let caption = format!("1 − cosine to PyTorch: left is nearer (what is below {NEAREST:e} is drawn there)");
    out += &format!("<text class=\"axis middle\" x=\"{:.1}\" y=\"{:.1}\">{caption}</text>", WIDTH / 2.0, bottom + 36.0);
    Some(out + "</svg>")
}

fn distance(cosine: f64) -> f64 {
    (1.0 - cosine).max(NEAREST)
}

fn dots(x: &Axis, colour: usize, middle: f64, row_height: f64, texts: &[TextAccuracy]) -> String {
    let mut out = String::new();
    for text in texts.iter().filter(|text| text.cosine.is_finite()) {
        // The golden ratio spreads neighbours, and the same report is drawn the same every time.
        let spread = (text.index as f64 * 0.618_034).fract() - 0.5;
        let (cx, cy) = (x.at(distance(text.cosine)), middle + spread * row_height * 0.7);
        let (id, cosine) = (html(&text.id), text.cosine);
        out += &format!("<circle class=\"dot c{colour}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.8\">");
        out += &format!("<title>{id}: {cosine:.6}</title></circle>");
    }
    out
}

fn threshold(x: &Axis, middle: f64, row_height: f64, threshold: f64) -> String {
    let at = x.at(distance(threshold));
    let (top, bottom) = (middle - row_height / 2.0, middle + row_height / 2.0);
    format!(
        "<line class=\"threshold\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/><text class=\"limit \
         end\" x=\"{:.1}\" y=\"{:.1}\">threshold {threshold}</text>",
        at - 4.0,
        top + 10.0
    )
}

/// A bar for each file.
pub(super) fn sizes(report: &Report) -> Option<String> {
    let source = report.model.source_weights_bytes.map(|bytes| ("PyTorch weights".to_owned(), bytes, COLOURS - 1));
    let models = report.variants.iter().enumerate();
    let models = models.map(|(colour, entry)| (format!("{} ({})", entry.variant, entry.file), entry.bytes, colour));
    let bars: Vec<(String, u64, usize)> = source.into_iter().chain(models).collect();
    let most = bars.iter().map(|bar| bar.1).max().filter(|&most| most > 0)?;
    let height = 12.0 + 44.0 * bars.len() as f64;
    let mut out = open(height, "Sizes of the files");
    for (number, (label, bytes, colour)) in bars.iter().enumerate() {
        let top = 6.0 + 44.0 * number as f64;
        let width = (*bytes as f64 / most as f64) * (WIDTH - 110.0);
        out += &format!("<text class=\"tick\" x=\"0\" y=\"{:.1}\">{}</text>", top + 11.0, html(label));
        out += &format!(
            "<rect class=\"c{colour}\" x=\"0\" y=\"{:.1}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"/>",
            top + 17.0
        );
        out += &format!(
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            width + 8.0,
            top + 30.0,
            megabytes(*bytes)
        );
    }
    Some(out + "</svg>")
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        html(title)
    )
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
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
}
