//! The report as an HTML page: the sections of the Markdown, with cards and plots. It has no scripts and no external
//! resources, and is well-formed XML.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use super::format::{cosine, megabytes, overlap, percent, verdict};
use super::{Report, markdown, plot};
use embedd_common::page::{card, escape, figure, ms, page};

pub(super) fn render(report: &Report) -> String {
    let name = escape(&report.model.name);
    let date = escape(&report.machine.date);
    let accuracy = markdown::accuracy(report) + "\n" + &markdown::worst(report);
    let sections = [
        summary(report),
        section(&markdown::latency(report), plot::latency(report).map(|plot| plot + dashed_note(report))),
        section(&accuracy, plot::cosines(report)),
        section(&markdown::models(report), plot::sizes(report)),
        section(&markdown::recipes(report), None),
        section(&markdown::machine(report), None),
    ];
    let title = format!("{}: conversion report", report.model.name);
    let body = format!("<h1>{name}</h1>\n<p class=\"sub\">ONNX conversion report, {date}</p>\n{}", sections.join("\n"));
    page(&title, &body)
}

fn summary(report: &Report) -> String {
    let mut cards = String::new();
    for variant in &report.variants {
        let name = variant.variant.to_string();
        if let Some(accuracy) = &variant.accuracy {
            let min = cosine(accuracy.summary.min_cosine);
            let threshold = accuracy.summary.threshold;
            let verdict = verdict(accuracy.summary.passed);
            let below = format!("minimum cosine of {} texts, threshold {threshold}: {verdict}", accuracy.summary.texts);
            cards += &card(&format!("{name}: accuracy"), &min, &below, &verdict.to_lowercase());
        }
        if let Some(share) = variant.top10_overlap {
            let below = "of the ten nearest texts of each text are the same as in float32";
            cards += &card(&format!("{name}: top-10 overlap"), &overlap(share), below, "");
        }
        let own = |row: &&super::LatencyRow| row.from.is_none() && row.batch == 1 && row.engine == name;
        if let Some(row) = report.latency.iter().filter(own).min_by_key(|row| row.tokens) {
            let speed_up = row.speed_up.map_or(String::new(), |times| format!(", {times:.1} times as fast as PyTorch"));
            let below = format!("P50 for {} tokens, P95 {} ms{speed_up}", row.tokens, ms(row.p95_ms));
            cards += &card(&format!("{name}: latency"), &format!("{} ms", ms(row.p50_ms)), &below, "");
        }
        let below = variant.reduction.map_or(String::new(), |saved| format!("{} smaller than fp32", percent(saved)));
        cards += &card(&format!("{name}: size"), &megabytes(variant.bytes), &below, "");
    }
    format!("<div class=\"cards\">\n{cards}</div>")
}

/// A section of the Markdown. The plot comes before the first table; text under a third-level heading is collapsed.
fn section(markdown: &str, plot: Option<String>) -> String {
    if markdown.is_empty() {
        return String::new();
    }
    let mut plot = plot.map(|plot| figure(Some(plot), ""));
    let mut collapsed = false;
    let mut events = Vec::new();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        let starts_table = matches!(event, Event::Start(Tag::Table(_)));
        let starts_details = matches!(event, Event::Start(Tag::Heading { level: HeadingLevel::H3, .. }));
        if starts_table || starts_details {
            events.extend(plot.take().map(|plot| Event::Html(plot.into())));
        }
        match event {
            Event::Start(Tag::Table(_)) => events.extend([raw("<div class=\"scroll\">"), event]),
            Event::End(TagEnd::Table) => events.extend([event, raw("</div>\n")]),
            Event::Start(Tag::Heading { level: HeadingLevel::H3, .. }) => {
                events.push(raw(if collapsed { "</details>\n<details><summary>" } else { "<details><summary>" }));
                collapsed = true;
            }
            Event::End(TagEnd::Heading(HeadingLevel::H3)) => events.push(raw("</summary>\n")),
            other => events.push(other),
        }
    }
    events.extend(collapsed.then(|| raw("</details>\n")));
    events.extend(plot.take().map(|plot| Event::Html(plot.into())));
    let mut out = "<section>".to_owned();
    html::push_html(&mut out, events.into_iter());
    out + "</section>"
}

fn dashed_note(report: &Report) -> &'static str {
    if report.baselines.is_empty() { "" } else { "<p>Dashed lines: separate runs.</p>" }
}

fn raw(html: &'static str) -> Event<'static> {
    Event::Html(html.into())
}
