//! Building blocks of HTML pages: escaped text, tables, plots, and one style sheet for light and dark mode.
//!
//! A page is self-contained, has no scripts, and is also well-formed XML.

pub mod plot;

/// The style sheet of every page.
pub const STYLE: &str = include_str!("page/style.css");

/// A complete page. `body` is HTML.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/><title>{title}</title>\n<style>{STYLE}</style>\
         </head>\n<body><main>\n{body}\n</main></body></html>\n"
    )
}

/// A section of a page with its title. `body` is HTML.
pub fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{title}</h2>\n{body}</section>")
}

/// A plot, if any, with HTML below it.
pub fn figure(plot: Option<String>, below: &str) -> String {
    plot.map_or_else(String::new, |plot| format!("<div class=\"plot\">{plot}</div>\n")) + below
}

/// A table. The columns in `figures` are right-aligned.
pub fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    figures: std::ops::Range<usize>,
) -> String {
    let class = |column: usize| if figures.contains(&column) { " class=\"n\"" } else { "" };
    let cells = |tag: &str, cells: &[String]| {
        let cell = |(column, cell): (usize, &String)| format!("<{tag}{}>{}</{tag}>", class(column), escape(cell));
        cells.iter().enumerate().map(cell).collect::<String>()
    };
    let head = cells("th", &head.map(str::to_owned));
    let rows: String = rows.into_iter().map(|row| format!("<tr>{}</tr>\n", cells("td", &row))).collect();
    format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n")
}

/// A box with one important figure. `class` may be `pass` or `fail`.
pub fn card(title: &str, value: &str, below: &str, class: &str) -> String {
    let title = escape(title);
    let value = escape(value);
    let below = escape(below);
    format!("<div class=\"card {class}\"><h3>{title}</h3><p class=\"big\">{value}</p><p>{below}</p></div>\n")
}

/// Milliseconds with three significant digits: `0.42`, `4.45`, `44.5`, `445`.
pub fn ms(value: f64) -> String {
    let decimals = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.decimals$}")
}

/// Whether a character changes the direction of the text around it.
pub fn is_directional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes text for HTML, including attributes. Control and direction characters become spaces; characters that XML
/// forbids are removed.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => {}
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
    fn milliseconds_have_three_significant_digits() {
        assert_eq!([0.421, 4.449, 44.46, 445.4].map(ms), ["0.42", "4.45", "44.5", "445"]);
    }

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(escape("<b a=\"1\">&'\u{0}"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39; ");
    }

    #[test]
    fn a_page_is_well_formed_with_any_title() {
        let page = page("<a & b>", &section("x", &table(["h"], [["<td>".to_owned()]], 0..1)));
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
        let document = roxmltree::Document::parse_with_options(&page, options).expect("well-formed");
        assert!(document.descendants().any(|node| node.has_tag_name("td") && node.text() == Some("<td>")));
    }
}
