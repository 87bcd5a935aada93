//! Formats numbers and texts for people.

use embedd_common::page::is_directional;

/// A cosine, rounded down so that a value below the threshold never looks equal to it. Values close to 1 have more
/// digits, so that they can be distinguished.
pub(super) fn cosine(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    let decimals = if value > 0.99999 { 8 } else { 6 };
    let scale = 10f64.powi(decimals);
    format!("{:.*}", decimals as usize, (value * scale).floor() / scale)
}

pub(super) fn error(value: f64) -> String {
    if value.is_finite() { format!("{value:.2e}") } else { "n/a".to_owned() }
}

pub(super) fn megabytes(bytes: u64) -> String {
    embedd_common::progress::bytes(bytes)
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A share of equal results, rounded down so that only 1 looks like 1.
pub(super) fn overlap(share: f64) -> String {
    format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
}

pub(super) fn verdict(passed: bool) -> &'static str {
    if passed { "PASS" } else { "FAIL" }
}

/// The start of a text on one line, without characters that could rearrange the text around it.
pub(super) fn excerpt(text: &str, max: usize) -> String {
    let visible = |c: char| if c.is_control() || is_directional(c) || is_not_xml(c) { ' ' } else { c };
    let flat = text.chars().map(visible).collect::<String>();
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= max {
        return flat;
    }
    flat.chars().take(max - 1).chain(['…']).collect()
}

/// Text in Markdown code, without the backticks that could end it.
pub(super) fn code(text: &str) -> String {
    let plain = |c: char| if c == '`' { '\'' } else { c };
    excerpt(text, usize::MAX).chars().map(plain).collect()
}

/// Characters, besides control characters, that XML forbids.
fn is_not_xml(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Text in Markdown, tables included.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '$' | '!' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c if c.is_control() || is_directional(c) || is_not_xml(c) => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_below_the_threshold_does_not_look_equal_to_it() {
        assert_eq!(cosine(0.989_999_9), "0.989999");
        assert_eq!(cosine(0.999_999_987), "0.99999998");
        assert_eq!(cosine(1.0), "1.00000000");
        assert_eq!(cosine(f64::NAN), "n/a");
    }

    #[test]
    fn shares_are_formatted_as_percentages() {
        assert_eq!(percent(0.7512), "75.1 %");
    }

    #[test]
    fn only_a_full_overlap_looks_like_one() {
        assert_eq!(overlap(0.999_99), "99.99 %");
        assert_eq!(overlap(1.0), "100.00 %");
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(markdown("a|b`c*<i>\n"), "a\\|b\\`c\\*&lt;i&gt; ");
    }

    #[test]
    fn an_excerpt_is_one_line_with_an_ellipsis() {
        assert_eq!(excerpt("a\n\t b\u{202e}c", 60), "a b c");
        assert_eq!(excerpt("abcdef", 4), "abc…");
        assert_eq!(excerpt("ééé", 3), "ééé");
    }
}
