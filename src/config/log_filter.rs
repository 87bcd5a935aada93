//! The log filter.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::filter::{Directive, EnvFilter, LevelFilter};

/// Libraries that log every connection or graph node at `info`. Their warnings matter to operators, except for those of
/// h2: peers cause them at will, with a few bytes each.
const VERBOSE: [(&str, LevelFilter); 8] = [
    ("h2", LevelFilter::ERROR),
    ("hyper", LevelFilter::WARN),
    ("ort", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("tokenizers", LevelFilter::WARN),
    ("tonic", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
    ("ureq", LevelFilter::WARN),
];

/// Valid directives, such as `info` or `info,embedd::batch=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(Vec<Directive>);

/// The text is not a valid log filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), optionally followed by module levels, such as \
     `info,embedd::batch=debug`"
)]
pub struct InvalidLogFilter;

impl LogFilter {
    /// The filter for the subscriber. Verbose libraries stay at `warn` or `error` unless they are named.
    pub fn env_filter(&self) -> EnvFilter {
        let silent = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).parse_lossy("");
        let everywhere = self.0.iter().rev().find_map(|directive| directive.to_string().parse::<LevelFilter>().ok());
        // If everything is as quiet as a library, it needs no directive of its own.
        let verbose = VERBOSE
            .iter()
            .filter(|(_, level)| everywhere.is_some_and(|everywhere| everywhere > *level))
            .filter_map(|(library, level)| format!("{library}={level}").parse().ok());
        // The user's directives come last: the later of two directives for one target wins.
        verbose.chain(self.0.iter().cloned()).fold(silent, EnvFilter::add_directive)
    }
}

impl FromStr for LogFilter {
    type Err = InvalidLogFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let directives = parts.map(directive).collect::<Result<Vec<_>, _>>()?;
        if directives.is_empty() { Err(InvalidLogFilter) } else { Ok(Self(directives)) }
    }
}

/// Stricter than the library, which takes a bare `inof` for a target to log at `trace` (and turns everything else off).
fn directive(part: &str) -> Result<Directive, InvalidLogFilter> {
    if !part.contains(['=', '[']) {
        return part.parse::<LevelFilter>().map(Into::into).map_err(|_| InvalidLogFilter);
    }
    if part.ends_with('=') {
        return Err(InvalidLogFilter);
    }
    part.parse().map_err(|_| InvalidLogFilter)
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(Directive::to_string).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_valid_level_is_rejected() {
        for text in ["", " ", ",", "inof", "verbose", "embedd=loud", "embedd=", "info,inof", "=info", "[x"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn levels_and_modules_may_be_surrounded_by_spaces() {
        for text in ["info", "INFO", "off", " warn , embedd::batch=debug ", "info,[request]=trace"] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn verbose_libraries_stay_quiet_unless_they_are_named_or_all_are_quieter() {
        let effective = |text: &str| text.parse::<LogFilter>().expect("valid").env_filter().to_string();
        assert!(effective("info").contains("h2=error"));
        assert!(effective("debug").contains("hyper=warn"));
        let named = effective("info,h2=debug");
        assert!(named.contains("h2=debug") && !named.contains("h2=error"), "{named}");
        assert!(effective("warn").contains("h2=error") && !effective("warn").contains("hyper"));
        assert!(!effective("error").contains("h2"));
        assert!(!effective("embedd=debug").contains("h2"));
        assert_eq!(effective("off"), "off");
    }

    #[test]
    fn every_verbose_library_has_a_valid_directive() {
        let directives = VERBOSE.iter().map(|(library, level)| format!("{library}={level}"));
        assert!(directives.into_iter().all(|directive| directive.parse::<Directive>().is_ok()));
    }
}
