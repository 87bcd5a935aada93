//! Parsers from text to typed values, for all sources. The error of a parser describes what it expected.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;

use super::choices::Choice;
use crate::cors_origins::CorsOrigins;
use crate::model_names::ModelNames;
use embedd_fetch::model_ref::ModelRef;
use embedd_fetch::revision::{InvalidRevision, Revision};
use embedd_model::PromptChoice;
use embedd_model::bundle::{MAX_PROMPT_NAME_BYTES, is_prompt_name};

/// A value, or what was expected instead.
pub(super) type Parsed<T> = Result<T, String>;

/// An error message lists all names.
const MAX_MODEL_NAMES: usize = 8;
const MAX_MODEL_NAME_BYTES: usize = 256;
const MAX_ORIGINS: usize = 64;
const KIB: usize = 1 << 10;
const SIZE_UNITS: [(&str, usize); 7] = [
    ("KiB", KIB),
    ("MiB", KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];
/// `ms` comes before `s`: the first suffix that matches wins.
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

pub(super) fn model(text: &str) -> Parsed<ModelRef> {
    text.parse().map_err(|_| {
        "a hub id such as `sentence-transformers/all-mpnet-base-v2`, or the path of a sentence-transformers folder \
         that exists or begins with `/` or `.`"
            .to_owned()
    })
}

pub(super) fn revision(text: &str) -> Parsed<Revision> {
    text.parse().map_err(|_: InvalidRevision| {
        "the name of a branch, a tag, a commit or `refs/pr/N`: at most 256 bytes, without spaces, control characters and \
         `..`"
            .to_owned()
    })
}

/// The names of a model, the first of which replies have.
pub(super) fn model_names(text: &str) -> Parsed<ModelNames> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_name = |name: &String| {
        (1..=MAX_MODEL_NAME_BYTES).contains(&name.len())
            && !name.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    let valid = names.len() <= MAX_MODEL_NAMES && names.iter().all(is_name);
    let mut names = names.into_iter().filter(|_| valid);
    names.next().map(|main| ModelNames::new(main, names.collect())).ok_or_else(|| {
        format!(
            "1 to {MAX_MODEL_NAMES} names separated by commas, of at most {MAX_MODEL_NAME_BYTES} bytes and without spaces"
        )
    })
}

/// Origins of web pages, or `*`.
pub(super) fn origins(text: &str) -> Parsed<CorsOrigins> {
    if text == "*" {
        return Ok(CorsOrigins::Any);
    }
    let origin = |text: &str| {
        let uri: Uri = text.trim().parse().ok()?;
        let is_origin = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some()
            && uri.path_and_query().is_none_or(|path| path == "/")
            && !text.trim().ends_with('/');
        if is_origin { text.trim().to_ascii_lowercase().parse().ok() } else { None }
    };
    let origins: Option<Vec<_>> = text.split(',').map(origin).collect();
    origins.filter(|origins| origins.len() <= MAX_ORIGINS).map(CorsOrigins::List).ok_or_else(|| {
        format!("up to {MAX_ORIGINS} origins separated by commas, such as `https://app.example.com` (no path), or `*`")
    })
}

/// `None` if the text is `word`, else what `parse` returns.
pub(super) fn unless<T>(word: &str, text: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    if text.eq_ignore_ascii_case(word) {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|expected| format!("{expected}, or `{word}`"))
}

/// A path as it is written: nothing is expanded, and it need not exist.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    // Only a shell expands `~`; surely nobody means a folder of that name.
    if text.is_empty() || text.starts_with('~') {
        return Err("an absolute or relative path (`~` is not expanded here)".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// The name of a prompt. Which names exist is known when the model is loaded.
pub(super) fn prompt(text: &str) -> Parsed<PromptChoice> {
    match text {
        "auto" => Ok(PromptChoice::Default),
        "none" | "" => Ok(PromptChoice::None),
        name if is_prompt_name(name) => Ok(PromptChoice::named(name)),
        _ => Err(format!("the name of a prompt, of at most {MAX_PROMPT_NAME_BYTES} bytes, `auto` or `none`")),
    }
}

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        "an IP address (not a host name) and a port, such as `0.0.0.0:50051`, `127.0.0.1:50051` or `[::]:50051`"
            .to_owned()
    })
}

/// The URL of a gRPC server. It must not contain credentials, because settings are logged.
pub(super) fn url(text: &str) -> Parsed<Uri> {
    let known = |uri: &Uri| {
        let authority = uri.authority().map(Authority::as_str);
        matches!(uri.scheme_str(), Some("http" | "https")) && authority.is_some_and(|text| !text.contains('@'))
    };
    let parsed = text.parse().ok().filter(known);
    parsed.ok_or_else(|| "a URL that begins with `http://` or `https://` and contains no user name".to_owned())
}

/// A count, from 1 to `max`.
///
/// # Errors
/// What was expected.
pub fn count(text: &str, max: usize) -> Result<NonZeroUsize, String> {
    let parsed = text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= max);
    parsed.ok_or_else(|| format!("a whole number from 1 to {max}"))
}

pub(super) fn tokens(text: &str, range: RangeInclusive<u32>) -> Parsed<u32> {
    let parsed = text.parse().ok().filter(|tokens| range.contains(tokens));
    parsed.ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// A number of bytes: `65536`, `64KiB`, `64 kib`, `1MB`.
pub(super) fn size(text: &str, range: RangeInclusive<usize>) -> Parsed<NonZeroUsize> {
    let lower = text.to_ascii_lowercase();
    let unit =
        SIZE_UNITS.iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(&unit.to_ascii_lowercase())?, *bytes)));
    let (number, bytes) = unit.unwrap_or((&lower, 1));
    let parsed = number.trim_end().parse::<usize>().ok().and_then(|number| number.checked_mul(bytes));
    parsed.filter(|size| range.contains(size)).and_then(NonZeroUsize::new).ok_or_else(|| {
        let min = show_size(*range.start());
        let max = show_size(*range.end());
        format!("a number of bytes such as `65536`, `64KiB` or `1MiB`, from {min} to {max}")
    })
}

fn show_size(bytes: usize) -> String {
    let unit = SIZE_UNITS.iter().take(3).rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// A time with its unit: `500ms`, `2s`, `1m`, `1h`. Only zero is unambiguous without a unit.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str, max: Duration) -> Result<Duration, String> {
    let unit = TIME_UNITS.iter().find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, *millis)));
    let millis = match unit {
        Some((number, unit)) => number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(unit)),
        None if text == "0" => Some(0),
        None => None,
    };
    let parsed = millis.map(Duration::from_millis).filter(|duration| *duration <= max);
    parsed.ok_or_else(|| format!("a time with its unit, such as `500ms`, `2s` or `1m`, at most {max:?}"))
}

/// Like [`duration`], but at least a second.
pub(super) fn seconds(text: &str, max: Duration) -> Parsed<Duration> {
    match duration(text, max) {
        Ok(time) if time < Duration::from_secs(1) => Err(format!("a time from 1s to {max:?}")),
        parsed => parsed,
    }
}

pub(super) fn choice<T: Choice>(text: &str) -> Parsed<T> {
    let words = T::words();
    let found = words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        format!("one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests;
