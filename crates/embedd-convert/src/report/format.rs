//! Figures and texts as people read them.

use embedd_common::page::is_directional;

/// A cosine, rounded down: one that is below a threshold never looks like one at it. Close to 1 it has more digits, or
/// all would look alike.
pub(super) fn cosine(value: f64) -> String {
    if !value.is_finite() {
        return "none".to_owned();
    }
    let decimals = if value > 0.99999 { 8 } else { 6 };
    let scale = 10f64.powi(decimals);
    format!("{:.*}", decimals as usize, (value * scale).floor() / scale)
}

pub(super) fn error(value: f64) -> String {
    if value.is_finite() { format!("{value:.2e}") } else { "none".to_owned() }
}

pub(super) fn megabytes(bytes: u64) -> String {
    embedd_common::progress::bytes(bytes)
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

pub(super) fn verdict(passed: bool) -> &'static str {
    if passed { "PASS" } else { "FAIL" }
}

/// The beginning of a text on one line, without what could rearrange the lines around it.
pub(super) fn excerpt(text: &str, most: usize) -> String {
    let visible = |c: char| if c.is_control() || is_directional(c) { ' ' } else { c };
    let flat = text.chars().map(visible).collect::<String>();
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= most {
        return flat;
    }
    flat.chars().take(most - 1).chain(['…']).collect()
}

/// Text in a block of code in Markdown, which ends at backticks on a line of their own.
pub(super) fn code(text: &str) -> String {
    let plain = |c: char| if c == '`' { '\'' } else { c };
    excerpt(text, usize::MAX).chars().map(plain).collect()
}

/// Text in a Markdown table.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '$' | '!' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c if c.is_control() || is_directional(c) => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_below_the_threshold_does_not_look_like_one_at_it() {
        assert_eq!(cosine(0.989_999_9), "0.989999");
        assert_eq!(cosine(0.999_999_987), "0.99999998");
        assert_eq!(cosine(1.0), "1.00000000");
        assert_eq!(cosine(f64::NAN), "none");
    }

    #[test]
    fn a_share_is_told_in_percent() {
        assert_eq!(percent(0.7512), "75.1 %");
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(markdown("a|b`c*<i>\n"), "a\\|b\\`c\\*&lt;i&gt; ");
    }

    #[test]
    fn an_excerpt_is_one_line_and_ends_where_it_is_cut() {
        assert_eq!(excerpt("a\n\t b\u{202e}c", 60), "a b c");
        assert_eq!(excerpt("abcdef", 4), "abc…");
        assert_eq!(excerpt("ééé", 3), "ééé");
    }
}
