//! The report's plots.

use std::collections::BTreeMap;

use super::Report;
use super::format::megabytes;
use embedd_common::page::plot::{Axis, COLORS, LEFT, Lines, Series, WIDTH, open, range};
use embedd_common::page::{escape, ms};
use embedd_model::accuracy::TextAccuracy;

/// The minimum 1 − cosine in the plot: the precision of a sum of hundreds of products in float64.
const MIN_DISTANCE: f64 = 1e-14;

/// P50 by number of tokens for batches of one text: one line per engine, logarithmic axes.
pub(super) fn latency(report: &Report) -> Option<String> {
    let mut lines: BTreeMap<(bool, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for row in report.latency.iter().filter(|row| row.batch == 1) {
        lines.entry((row.from.is_some(), &row.engine)).or_default().push((row.tokens as f64, row.p50_ms));
    }
    let series = |((elsewhere, name), points): ((bool, &str), _)| Series { name: name.to_owned(), elsewhere, points };
    let lines = Lines {
        title: "P50 in ms by number of tokens, one line per engine",
        x_caption: "tokens per text",
        x_unit: "tokens",
        y_name: "P50",
        y_unit: "ms",
        y_text: ms,
        series: lines.into_iter().map(series).collect(),
    };
    lines.svg()
}

/// 1 − cosine of each text on a logarithmic axis, with a row and the threshold for each model.
pub(super) fn cosines(report: &Report) -> Option<String> {
    let rows: Vec<_> = report.variants.iter().filter_map(|entry| Some((entry, entry.accuracy.as_ref()?))).collect();
    let all = rows.iter().flat_map(|(_, accuracy)| &accuracy.texts).map(|text| text.cosine);
    let thresholds = rows.iter().map(|(_, accuracy)| accuracy.summary.threshold);
    let (low, high) = range(all.chain(thresholds).filter(|cosine| cosine.is_finite()).map(distance))?;
    let low = 10f64.powf((low * 0.7).log10().floor());
    let high = (high * 2.0).min(2.0);
    let row_height = 84.0;
    let height = 30.0 + row_height * rows.len() as f64 + 44.0;
    let x = Axis { low, high, from: LEFT + 30.0, to: WIDTH - 20.0 };
    let mut out = open(height, "1 minus cosine of each text, with a row and the threshold for each model");
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
    let caption = format!(
        "1 − cosine to PyTorch: further left is better (values below {MIN_DISTANCE:e} are drawn at {MIN_DISTANCE:e})"
    );
    out += &format!("<text class=\"axis middle\" x=\"{:.1}\" y=\"{:.1}\">{caption}</text>", WIDTH / 2.0, bottom + 36.0);
    Some(out + "</svg>")
}

fn distance(cosine: f64) -> f64 {
    (1.0 - cosine).max(MIN_DISTANCE)
}

fn dots(x: &Axis, color: usize, middle: f64, row_height: f64, texts: &[TextAccuracy]) -> String {
    let mut out = String::new();
    for text in texts.iter().filter(|text| text.cosine.is_finite()) {
        // The golden ratio spreads neighboring points deterministically.
        let spread = (text.index as f64 * 0.618_034).fract() - 0.5;
        let cx = x.at(distance(text.cosine));
        let cy = middle + spread * row_height * 0.7;
        let id = escape(&text.id);
        let cosine = text.cosine;
        out += &format!("<circle class=\"dot c{color}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.8\">");
        out += &format!("<title>{id}: {cosine:.6}</title></circle>");
    }
    out
}

fn threshold(x: &Axis, middle: f64, row_height: f64, threshold: f64) -> String {
    let at = x.at(distance(threshold));
    let top = middle - row_height / 2.0;
    let bottom = middle + row_height / 2.0;
    format!(
        "<line class=\"threshold\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/><text class=\"limit \
         end\" x=\"{:.1}\" y=\"{:.1}\">threshold {threshold}</text>",
        at - 4.0,
        top + 10.0
    )
}

/// A bar per file.
pub(super) fn sizes(report: &Report) -> Option<String> {
    let source = report.model.source_weights_bytes.map(|bytes| ("PyTorch weights".to_owned(), bytes, COLORS - 1));
    let models = report.variants.iter().enumerate();
    let models = models.map(|(color, entry)| (format!("{} ({})", entry.variant, entry.file), entry.bytes, color));
    let bars: Vec<(String, u64, usize)> = source.into_iter().chain(models).collect();
    let max = bars.iter().map(|bar| bar.1).max().filter(|&max| max > 0)?;
    let height = 12.0 + 44.0 * bars.len() as f64;
    let mut out = open(height, "File sizes");
    for (number, (label, bytes, color)) in bars.iter().enumerate() {
        let top = 6.0 + 44.0 * number as f64;
        let width = (*bytes as f64 / max as f64) * (WIDTH - 110.0);
        out += &format!("<text class=\"tick\" x=\"0\" y=\"{:.1}\">{}</text>", top + 11.0, escape(label));
        out += &format!(
            "<rect class=\"c{color}\" x=\"0\" y=\"{:.1}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"/>",
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
