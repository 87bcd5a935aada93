//! Parsers for the values of arguments that are not settings.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::config::{parse_count, parse_duration};

const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

/// Accepts one of a few words, each of which stands for a value.
pub(super) fn one_of<T, const N: usize>(words: [(&'static str, T); N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(words.map(|(word, _)| word)).try_map(move |given| {
        let found = words.iter().find(|(word, _)| *word == given);
        found.map(|(_, value)| *value).ok_or("not one of the possible values")
    })
}

/// A whole number from 1 to `max`.
pub(super) fn count(max: usize) -> impl Fn(&str) -> Result<NonZeroUsize, String> + Clone + Send + Sync + 'static {
    move |text| parse_count(text, max).map_err(expected)
}

pub(super) fn cosine(text: &str) -> Result<f64, String> {
    let cosine = text.parse::<f64>().ok().filter(|cosine| (-1.0..=1.0).contains(cosine));
    cosine.ok_or_else(|| expected("a number from -1 to 1"))
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text, MAX_TIME).map_err(expected)
}

pub(super) fn positive_time(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| if time.is_zero() { Err(expected("a time above 0")) } else { Ok(time) })
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| expected("requests per second, above 0 and at most 1000000"))
}

fn expected(what: impl std::fmt::Display) -> String {
    format!("expected {what}")
}
