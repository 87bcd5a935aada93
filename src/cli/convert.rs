//! `embedd convert`

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Arg, ArgMatches};

use super::{config_file, flags, min_cosine, path, shared_settings, switch};
use crate::config::Flags;
use embedd_convert::recipe::Recipe;
use embedd_convert::{Gate, Making};

/// `embedd convert`
#[derive(Debug, Clone, PartialEq)]
pub struct Convert {
    /// Settings given as flags.
    pub flags: Flags,
    /// The folder of the bundle; none: its place in the cache folder.
    pub output: Option<PathBuf>,
    /// Convert again where there is a bundle already.
    pub force: bool,
    /// What is made.
    pub making: Making,
}

pub(super) fn read(matches: &ArgMatches) -> Convert {
    let default = Gate::default();
    let gate = Gate {
        min_cosine: matches.get_one("min-cosine").copied().unwrap_or(default.min_cosine),
        allow_inaccurate: matches.get_flag("allow-inaccurate"),
    };
    let recipe = match (matches.get_one::<Recipe>("recipe"), matches.get_one::<String>("precision")) {
        (Some(recipe), _) => Some(*recipe),
        (None, Some(precision)) => Recipe::ALL.into_iter().find(|recipe| recipe.precision() == precision),
        (None, None) => Some(Recipe::default()),
    };
    let making = Making {
        recipe,
        gate,
        reference: matches.get_one("reference").cloned(),
        baseline: matches.get_one("baseline").cloned(),
        report: !matches.get_flag("no-report"),
    };
    let (output, force) = (matches.get_one("output").cloned(), matches.get_flag("force"));
    Convert { flags: flags(matches), output, force, making }
}

pub(super) fn command() -> clap::Command {
    let recipes = PossibleValuesParser::new(Recipe::ALL.map(Recipe::name)).try_map(|name| name.parse::<Recipe>());
    clap::Command::new("convert")
        .about("Convert a model into a bundle: ONNX and INT8, compared with PyTorch")
        .args([
            path("output", "DIR", "The folder of the bundle [default: its place in the cache folder]"),
            Arg::new("precision")
                .long("precision")
                .value_name("PRECISION")
                .value_parser(PossibleValuesParser::new(["int8", "fp16", "fp32"]))
                .conflicts_with("recipe")
                .help("Of the portable model's weights; fp32: no portable model [default: int8]"),
            Arg::new("recipe")
                .long("recipe")
                .value_name("RECIPE")
                .value_parser(recipes)
                .help("How the portable model is quantised [default: int8-per-token]"),
            path("reference", "FILE", "The reference set to compare with [default: the built-in one]"),
            min_cosine("The least cosine to PyTorch that a text may have [default: 0.99]"),
            switch("allow-inaccurate", "Write a bundle that fails the gate all the same; the server refuses it"),
            path("baseline", "FILE", "Times of PyTorch and others for the report, as `embedd bench` takes them"),
            switch("no-report", "Leave out the benchmark and the report, which take longest"),
            switch("force", "Convert again where there is a bundle already"),
            config_file(),
        ])
        .args(shared_settings())
}
