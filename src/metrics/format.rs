//! The two text formats of Prometheus, chosen by what the client accepts, as Prometheus' own client libraries do.

use http::HeaderMap;
use http::header::ACCEPT;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0, for clients that ask for it.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, for all others.
    Text,
}

impl Format {
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut types = values.flat_map(|value| value.split(','));
        let accepts = types.any(|accepted| {
            let mut parts = accepted.split(';').map(str::trim);
            let is_openmetrics =
                parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            is_openmetrics && parts.all(|part| part.strip_prefix("q=").is_none_or(|weight| weight.parse() != Ok(0.0)))
        });
        if accepts { Self::OpenMetrics } else { Self::Text }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The metrics, which are encoded as OpenMetrics, in this format.
    pub(super) fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => as_text(&openmetrics),
        }
    }
}

/// In the older format, the names of counters and infos have their suffix in the descriptions, too, and there are neither
/// units nor an end.
fn as_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help of a metric comes before its type.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(described, _)| *described == name) {
                text += &format!("# HELP {name}{suffix} {help}\n");
            }
            text += &format!("# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_clients_that_ask_for_it() {
        let accepted = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, value.parse().expect("a header"));
            Format::accepted(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(accepted(prometheus), Format::OpenMetrics);
        for other in ["text/plain; version=0.0.4", "*/*", "application/openmetrics-text;q=0", "text/html"] {
            assert_eq!(accepted(other), Format::Text, "{other}");
        }
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn the_text_format_has_suffixes_in_descriptions_and_no_end() {
        let openmetrics = "# HELP a_bytes Bytes.\n# TYPE a_bytes gauge\n# UNIT a_bytes bytes\na_bytes 1\n\
                           # HELP b Calls.\n# TYPE b counter\nb_total{x=\"# y\"} 2\n\
                           # HELP c Build.\n# TYPE c info\nc_info{v=\"1\"} 1\n# TYPE d histogram\nd_bucket{le=\"1\"} 3\n# EOF\n";
        let expected = "# HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes 1\n\
                        # HELP b_total Calls.\n# TYPE b_total counter\nb_total{x=\"# y\"} 2\n\
                        # HELP c_info Build.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n# TYPE d histogram\nd_bucket{le=\"1\"} 3\n";
        assert_eq!(Format::Text.of(openmetrics.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.of(openmetrics.to_owned()), openmetrics);
    }
}
