//! `load`: a load test.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Arg, ArgGroup, ArgMatches, value_parser};

use super::{client, switch};
use crate::config::{Flags, parse_duration};
use embedd_load::plan::{Arrivals, Lengths, Plan, Source, Step};
use embedd_proto::Encoding;

/// The callers of the steps where the user names no load.
const CONCURRENCY: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const DURATION: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(2);
/// Tokens of the short texts that prompt-injection detectors embed.
const LENGTHS: Lengths = Lengths { least: 11, most: 11 };
/// Requests without a reply at one time, in an open loop.
const MAX_IN_FLIGHT: usize = 1000;
/// More callers, connections or texts are a mistake.
const MOST: u64 = 100_000;
const MOST_CONNECTIONS: u64 = 1000;
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `embedd load`
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Settings given as flags: there are none.
    pub flags: Flags,
    /// What is done.
    pub plan: Plan,
    /// A file whose texts take the place of the plan's.
    pub texts: Option<PathBuf>,
    /// Where results are written as CSV.
    pub csv: Option<PathBuf>,
    /// Where results are written as JSON.
    pub json: Option<PathBuf>,
    /// Where results are written as a page.
    pub html: Option<PathBuf>,
}

pub(super) fn read(matches: &ArgMatches) -> Load {
    let file = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let number = |name: &str| matches.get_one::<u64>(name).and_then(|&number| NonZeroUsize::new(number as usize));
    let time = |name: &str| matches.get_one::<Duration>(name).copied();
    let plan = Plan {
        client: client::options(matches),
        steps: steps(matches),
        duration: time("duration").unwrap_or(DURATION),
        warm_up: time("warm-up").unwrap_or(WARM_UP),
        connections: number("connections"),
        source: Source::Generated {
            lengths: matches.get_one("tokens").copied().unwrap_or(LENGTHS),
            distinct: number("distinct"),
        },
        texts_per_request: number("texts-per-request").unwrap_or(NonZeroUsize::MIN),
        skip_cache: !matches.get_flag("cache"),
        deadline: time("deadline"),
        encoding: matches.get_one("encoding").copied().unwrap_or(Encoding::Float),
        verify: matches.get_flag("verify"),
        seed: matches.get_one("seed").copied().unwrap_or(0),
    };
    let (texts, csv, json, html) = (file("texts"), file("csv"), file("json"), file("html"));
    Load { flags: Flags::default(), plan, texts, csv, json, html }
}

fn steps(matches: &ArgMatches) -> Vec<Step> {
    if let Some(rates) = matches.get_many::<f64>("rate") {
        let arrivals = matches.get_one("arrivals").copied().unwrap_or_default();
        let max_in_flight = matches.get_one::<u64>("max-in-flight").map_or(MAX_IN_FLIGHT, |&most| most as usize);
        return rates.map(|&rate| Step::Open { rate, arrivals, max_in_flight }).collect();
    }
    let closed = |concurrency: usize| Step::Closed { concurrency };
    match matches.get_many::<u64>("concurrency") {
        Some(steps) => steps.map(|&callers| closed(callers as usize)).collect(),
        None => CONCURRENCY.map(closed).to_vec(),
    }
}

pub(super) fn command() -> clap::Command {
    clap::Command::new("load")
        .about("Load a server and measure throughput and latency")
        .after_help(
            "Exit codes: 0 done, or interrupted after something was measured; 1 failed: no server, no request that \
             succeeded, or, with --verify, an embedding that differs; 64 wrong use. docs/LOAD.md says how to read the \
             figures.",
        )
        .args(load_args())
        .args(text_args())
        .args(request_args())
        .args(output_args())
        .args(client::args())
        .group(ArgGroup::new("list").args(["texts", "distinct"]))
}

fn load_args() -> impl Iterator<Item = Arg> {
    let arrivals = PossibleValuesParser::new(["poisson", "constant"]).map(|name| match name.as_str() {
        "constant" => Arrivals::Constant,
        _ => Arrivals::Poisson,
    });
    let open = |arg: Arg| arg.requires("rate");
    let args = [
        number("concurrency", MOST, "Closed loop: callers at one time, a step for each [default: 1,2,4,8,16,32,64]")
            .value_delimiter(',')
            .value_name("N,N")
            .conflicts_with("rate"),
        value("rate", "N,N", "Open loop: requests a second, a step for each").value_delimiter(',').value_parser(rate),
        open(value("arrivals", "KIND", "How the requests of --rate are spread [default: poisson]"))
            .value_parser(arrivals),
        open(number("max-in-flight", MOST, "Requests without a reply; more of --rate are not sent [default: 1000]")),
        time("duration", "Measured time of a step [default: 10s]").value_parser(positive_time),
        time("warm-up", "Time before that [default: 2s]"),
        number("connections", MOST_CONNECTIONS, "HTTP/2 connections [default: one a caller, at most 8]"),
    ];
    args.into_iter().map(|arg| arg.help_heading("Load"))
}

fn text_args() -> impl Iterator<Item = Arg> {
    let tokens = |text: &str| text.parse::<Lengths>().map_err(|error| error.to_string());
    let args = [
        value("tokens", "N|N-N", "Made texts: tokens of each, special tokens included [default: 11]")
            .value_parser(tokens),
        number("distinct", MOST, "Made texts: draw from so many [default: no two texts are alike]"),
        file("texts", "Draw from these texts: one a line, plain or as JSON with `text`")
            .conflicts_with_all(["tokens", "distinct"]),
        value("seed", "N", "The same seed gives the same texts and arrivals [default: 0]")
            .value_parser(value_parser!(u64)),
    ];
    args.into_iter().map(|arg| arg.help_heading("Texts"))
}

fn request_args() -> impl Iterator<Item = Arg> {
    let encodings = PossibleValuesParser::new(["float", "bytes"]).map(|name| match name.as_str() {
        "bytes" => Encoding::Bytes,
        _ => Encoding::Float,
    });
    let args = [
        number("texts-per-request", MOST, "Texts of a request [default: 1]"),
        switch("skip-cache", "Have every embedding computed: the default").conflicts_with("cache"),
        switch("cache", "Let the server's cache answer"),
        time("deadline", "Deadline of a request [default: none]").value_parser(positive_time),
        value("encoding", "KIND", "How vectors are written in replies [default: float]").value_parser(encodings),
        switch("verify", "Compare every embedding, bit by bit, with that of its text alone").requires("list"),
    ];
    args.into_iter().map(|arg| arg.help_heading("Requests"))
}

fn output_args() -> impl Iterator<Item = Arg> {
    let args = [
        file("csv", "Write results as CSV"),
        file("json", "Write results as JSON"),
        file("html", "Write results as a page with plots"),
    ];
    args.into_iter().map(|arg| arg.help_heading("Results"))
}

fn value(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    // `--rate -5` is a wrong value, not an unknown flag.
    Arg::new(name).long(name).value_name(placeholder).help(help).allow_negative_numbers(true)
}

fn number(name: &'static str, most: u64, help: &'static str) -> Arg {
    value(name, "N", help).value_parser(value_parser!(u64).range(1..=most))
}

fn file(name: &'static str, help: &'static str) -> Arg {
    value(name, "FILE", help).value_parser(value_parser!(PathBuf))
}

fn time(name: &'static str, help: &'static str) -> Arg {
    value(name, "TIME", help).value_parser(any_time)
}

fn any_time(text: &str) -> Result<Duration, String> {
    parse_duration(text, LONGEST).map_err(|expected| format!("expected {expected}"))
}

pub(super) fn positive_time(text: &str) -> Result<Duration, String> {
    any_time(text).and_then(|time| if time.is_zero() { Err("expected more than no time".to_owned()) } else { Ok(time) })
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| "expected requests a second, above 0 and at most 1000000".to_owned())
}
