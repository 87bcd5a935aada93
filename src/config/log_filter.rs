//! Which log lines are written.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::filter::{Directive, EnvFilter, LevelFilter};

/// Libraries that tell of every connection or node at `info`; what they say at `warn` matters to operators.
const CHATTY: [&str; 8] =
    ["h2=warn", "hyper=warn", "ort=warn", "rustls=warn", "tokenizers=warn", "tonic=warn", "tower=warn", "ureq=warn"];

/// Directives such as `info` or `info,embedd::batch=debug`, known to be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(Vec<Directive>);

/// Text that is no log filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a level (`off`, `error`, `warn`, `info`, `debug`, `trace`) and, where wanted, levels of modules behind commas, such \
     as `info,embedd::batch=debug`"
)]
pub struct InvalidLogFilter;

impl LogFilter {
    /// The filter for the subscriber. Chatty libraries stay at `warn` unless they are named.
    pub fn env_filter(&self) -> EnvFilter {
        let silent = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).parse_lossy("");
        let everywhere = self.0.iter().rev().find_map(|directive| directive.to_string().parse::<LevelFilter>().ok());
        // Quieter than `warn` is what the user wants of everyone.
        let hush = everywhere.is_some_and(|level| level > LevelFilter::WARN);
        let chatty = CHATTY.iter().filter(|_| hush).filter_map(|directive| directive.parse().ok());
        // The user's come last: of two directives for one target the later one counts.
        chatty.chain(self.0.iter().cloned()).fold(silent, EnvFilter::add_directive)
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

/// Stricter than the library, to which a bare `inof` is a target at `trace` (and everything else off).
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
    fn what_names_no_level_is_no_filter() {
        for text in ["", " ", ",", "inof", "verbose", "embedd=loud", "embedd=", "info,inof", "=info", "[x"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn levels_and_modules_are_taken_with_spaces_around() {
        for text in ["info", "INFO", "off", " warn , embedd::batch=debug ", "info,[request]=trace"] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn chatty_libraries_are_hushed_unless_named_or_everyone_is_quieter() {
        let effective = |text: &str| text.parse::<LogFilter>().expect("valid").env_filter().to_string();
        assert!(effective("info").contains("h2=warn"));
        assert!(effective("debug").contains("hyper=warn"));
        let named = effective("info,h2=debug");
        assert!(named.contains("h2=debug") && !named.contains("h2=warn"), "{named}");
        assert!(!effective("error").contains("h2"));
        assert!(!effective("embedd=debug").contains("h2"));
        assert_eq!(effective("off"), "off");
    }

    #[test]
    fn every_chatty_library_has_a_valid_directive() {
        assert!(CHATTY.iter().all(|directive| directive.parse::<Directive>().is_ok()));
    }
}
