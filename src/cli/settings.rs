//! The flags for settings, generated from the table of settings.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::config::{Flags, Kind, Setting, TABLE, by_key};

/// The settings of commands that fetch or convert models.
const SHARED: [&str; 6] = ["model", "revision", "home", "offline", "log_format", "log_level"];
/// The settings of commands that measure engines, in addition to the shared ones.
const MEASURE: [&str; 5] = ["device", "bundle", "onnxruntime", "threads", "instruction_set"];

/// Adds the flags for the settings that the command uses, and `--config`.
pub(super) fn add_to(command: Command) -> Command {
    let flags: Vec<Arg> = match command.get_name() {
        "serve" => TABLE.iter().map(flag).collect(),
        "fetch" => {
            let help = "The processor that ONNX Runtime is fetched for: `cpu`, or `cuda` (NVIDIA GPUs)";
            named(&SHARED).chain(described("device", help)).collect()
        }
        "convert" => {
            let help = "The processor that the bundle is for: `cpu` (INT8 engines), or `cuda` (a float16 engine for \
                        NVIDIA GPUs; the conversion does not need one)";
            named(&SHARED).chain(described("device", help)).collect()
        }
        "package" => {
            let help = "Pack this bundle [default: the model's in the cache folder]";
            named(&["bundle"]).map(|bundle| bundle.help(help)).chain(named(&SHARED)).collect()
        }
        "validate" | "bench" | "report" => named(&SHARED).chain(named(&MEASURE)).collect(),
        "health" => Vec::new(),
        // Clients of a server have no settings.
        _ => return command,
    };
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help_heading(Resettable::Reset)
        .help("A TOML file with settings [variable: EMBEDD_CONFIG]");
    command.arg(file).args(flags)
}

/// The settings that were given as flags.
pub(super) fn flags(matches: &ArgMatches) -> Flags {
    // A command has flags for only some of the settings: a missing one is not an error.
    let given = |key: &'static str| Some((key, matches.try_get_one::<String>(key).ok()??.clone()));
    let values = TABLE.iter().filter_map(|setting| given(setting.key)).collect();
    let file = matches.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    Flags { values, file }
}

fn named(keys: &'static [&str]) -> impl Iterator<Item = Arg> {
    keys.iter().filter_map(|key| by_key(key)).map(flag)
}

/// The flag for a setting that has another effect on the command than on the server.
fn described(key: &str, help: &str) -> Option<Arg> {
    let setting = by_key(key)?;
    Some(flag(setting).help(with_default(setting, help)))
}

fn with_default(setting: &Setting, help: &str) -> String {
    let variables: Vec<String> =
        std::iter::once(setting.variable()).chain(setting.also.iter().map(|name| (*name).to_owned())).collect();
    format!("{help} [default: {}] [variable: {}]", setting.default, variables.join(", "))
}

fn flag(setting: &Setting) -> Arg {
    let flag = Arg::new(setting.key)
        .long(setting.name())
        .value_name(setting.placeholder)
        .help_heading(setting.group.title())
        .help(with_default(setting, setting.help()))
        // `--max-tokens -5` is an invalid value, not an unknown flag.
        .allow_negative_numbers(true);
    match setting.kind {
        // A bare `--offline` means `--offline=true`; `--offline false` would look like a switch and an argument.
        Kind::Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::Text | Kind::Number => flag,
    }
}
