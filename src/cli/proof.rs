//! The commands that measure: `validate`, `bench` and `report`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Arg, ArgMatches, value_parser};

use super::{SHARED, config_file, flags, min_cosine, path, setting, switch};
use crate::config::{Flags, by_key};
use embedd_model::bundle::Variant;

/// The settings that matter to what measures, besides the shared ones.
const MEASURED: [&str; 4] = ["bundle", "onnxruntime", "threads", "instruction_set"];
/// More runs than anyone waits for.
const MOST_RUNS: u64 = 1_000_000;
/// Texts of one batch, and tokens of one text: beyond any model.
const MOST: u64 = 65_536;

/// `embedd validate`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validate {
    /// Settings given as flags.
    pub flags: Flags,
    /// The model of the bundle; none: the last of fp32, portable and native that it has.
    pub variant: Option<Variant>,
    /// A reference set instead of the bundle's.
    pub reference: Option<PathBuf>,
    /// Texts to compare with the bundle's float32 model on, instead of a reference set.
    pub texts_against_fp32: Option<PathBuf>,
    /// The least cosine that a text must have.
    pub min_cosine: Option<f64>,
    /// Print JSON.
    pub json: bool,
    /// Print every text.
    pub all: bool,
}

/// What is timed, of `bench` and `report`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timed {
    /// Tokens of a text; empty: the usual ones.
    pub lengths: Vec<usize>,
    /// Texts of a batch; empty: one.
    pub batches: Vec<usize>,
    /// Runs of each.
    pub runs: Option<usize>,
    /// A file with figures of other programs.
    pub baseline: Option<PathBuf>,
    /// A command that prints such figures.
    pub baseline_command: Option<String>,
}

/// `embedd bench`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bench {
    /// Settings given as flags.
    pub flags: Flags,
    /// What is timed.
    pub timed: Timed,
    /// Print JSON.
    pub json: bool,
}

/// `embedd report`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Settings given as flags.
    pub flags: Flags,
    /// What is timed.
    pub timed: Timed,
    /// A reference set instead of the bundle's.
    pub reference: Option<PathBuf>,
    /// The least cosine that a text must have.
    pub min_cosine: Option<f64>,
    /// Where the files are written; none: the current folder.
    pub output: Option<PathBuf>,
}

pub(super) fn validate(matches: &ArgMatches) -> Validate {
    Validate {
        flags: flags(matches),
        variant: matches.get_one::<Variant>("variant").copied(),
        reference: matches.get_one("reference").cloned(),
        texts_against_fp32: matches.get_one("texts").cloned(),
        min_cosine: matches.get_one("min-cosine").copied(),
        json: matches.get_flag("json"),
        all: matches.get_flag("all"),
    }
}

pub(super) fn bench(matches: &ArgMatches) -> Bench {
    Bench { flags: flags(matches), timed: timed(matches), json: matches.get_flag("json") }
}

pub(super) fn report(matches: &ArgMatches) -> Report {
    Report {
        flags: flags(matches),
        timed: timed(matches),
        reference: matches.get_one("reference").cloned(),
        min_cosine: matches.get_one("min-cosine").copied(),
        output: matches.get_one("output").cloned(),
    }
}

fn timed(matches: &ArgMatches) -> Timed {
    let numbers =
        |name: &str| matches.get_many::<u64>(name).into_iter().flatten().map(|&number| number as usize).collect();
    Timed {
        lengths: numbers("lengths"),
        batches: numbers("batches"),
        runs: matches.get_one::<u64>("runs").map(|&runs| runs as usize),
        baseline: matches.get_one("baseline").cloned(),
        baseline_command: matches.get_one("baseline-command").cloned(),
    }
}

pub(super) fn validate_command() -> clap::Command {
    let named = |name: String| Variant::ALL.into_iter().find(|variant| variant.name() == name);
    let variants = PossibleValuesParser::new(Variant::ALL.map(Variant::name))
        .try_map(move |name| named(name).ok_or("a bundle has no such model"));
    let variant = Arg::new("variant")
        .long("variant")
        .value_parser(variants)
        .help("Which of the bundle's models [default: the last of fp32, portable, native that it has]");
    let against = Arg::new("against")
        .long("against")
        .value_parser(PossibleValuesParser::new(["fp32"]))
        .requires("texts")
        .conflicts_with("reference")
        .help("Compare with the bundle's float32 model, on the texts of --texts");
    let texts =
        path("texts", "FILE", "Texts for --against: one a line, plain or as JSON with `text`").requires("against");
    clap::Command::new("validate")
        .about("Compare a bundle's embeddings with PyTorch's")
        .after_help("Exit codes: 0 every text passes, 2 one does not, 1 failed, 64 wrong use or configuration.")
        .args([variant, reference(), against, texts, least()])
        .args([json(), switch("all", "Print every text, not the worst ones only")])
        .args(settings())
}

pub(super) fn bench_command() -> clap::Command {
    clap::Command::new("bench")
        .about("Time a bundle's models side by side")
        .args(timed_args())
        .arg(json())
        .args(settings())
}

pub(super) fn report_command() -> clap::Command {
    clap::Command::new("report")
        .about("Validate and time a bundle's models, and write report.json, report.md and report.html")
        .after_help("Exit codes: 0 every text passes, 2 one does not, 1 failed, 64 wrong use or configuration.")
        .args(timed_args())
        .args([reference(), least()])
        .arg(path("output", "DIR", "The folder for the three files [default: the current one]"))
        .args(settings())
}

fn settings() -> impl Iterator<Item = Arg> {
    SHARED.iter().chain(&MEASURED).filter_map(|key| by_key(key)).map(setting).chain([config_file()])
}

fn timed_args() -> [Arg; 5] {
    let numbers = |name: &'static str, most: u64, help: &'static str| {
        Arg::new(name).long(name).value_parser(value_parser!(u64).range(1..=most)).help(help)
    };
    let list = |arg: Arg| arg.value_delimiter(',').value_name("N,N");
    [
        list(numbers("lengths", MOST, "Tokens of a text [default: 11,32,64,128,384, up to the model's maximum]")),
        list(numbers("batches", MOST, "Texts of a batch [default: 1]")),
        numbers("runs", MOST_RUNS, "Timed runs for each length and batch [default: 40]").value_name("N"),
        path("baseline", "FILE", "JSON with times of PyTorch and others on the same model, shown beside")
            .conflicts_with("baseline-command"),
        Arg::new("baseline-command")
            .long("baseline-command")
            .value_name("COMMAND")
            .help("A shell command that prints such JSON; it may take 30 minutes"),
    ]
}

fn reference() -> Arg {
    path("reference", "FILE", "A reference set [default: the bundle's, else the one that comes with embedd]")
}

pub(super) fn json() -> Arg {
    switch("json", "Print JSON")
}

pub(super) fn least() -> Arg {
    min_cosine("The least cosine that a text must have [default: the bundle's own threshold, else 0.99]")
}
