//! What pages of figures are made of: escaped text, tables, plots, and one style sheet for light and dark.
//!
//! A page has no scripts and nothing from elsewhere, and is well-formed as XML, too.

pub mod plot;

const STYLE: &str = include_str!("page/style.css");

/// A whole page; `body` is HTML.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/><title>{title}</title>\n<style>{STYLE}</style>\
         </head>\n<body><main>\n{body}\n</main></body></html>\n"
    )
}

/// A part of a page under its title; `inside` is HTML.
pub fn section(title: &str, inside: &str) -> String {
    format!("<section><h2>{title}</h2>\n{inside}</section>")
}

/// A plot, where there is one, and HTML below it.
pub fn figure(plot: Option<String>, below: &str) -> String {
    plot.map_or_else(String::new, |plot| format!("<div class=\"plot\">{plot}</div>\n")) + below
}

/// A table; columns of figures are aligned to the right.
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

/// A figure that is worth a place of its own; `class` may be `pass` or `fail`.
pub fn card(title: &str, value: &str, below: &str, class: &str) -> String {
    let (title, value, below) = (escape(title), escape(value), escape(below));
    format!("<div class=\"card {class}\"><h3>{title}</h3><p class=\"big\">{value}</p><p>{below}</p></div>\n")
}

/// Milliseconds with the three digits that matter: `0.42`, `4.45`, `44.5`, `445`.
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

/// Characters that rearrange the text around them.
pub fn is_directional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text in HTML, in attributes as well. Characters that XML forbids are left out.
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
    fn figures_have_the_digits_that_matter() {
        assert_eq!([0.421, 4.449, 44.46, 445.4].map(ms), ["0.42", "4.45", "44.5", "445"]);
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escape("<b a=\"1\">&'\u{0}"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39; ");
    }

    #[test]
    fn a_page_is_well_formed_whatever_its_title() {
        let page = page("<a & b>", &section("x", &table(["h"], [["<td>".to_owned()]], 0..1)));
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
        let document = roxmltree::Document::parse_with_options(&page, options).expect("well-formed");
        assert!(document.descendants().any(|node| node.has_tag_name("td") && node.text() == Some("<td>")));
    }
}
