//! `embed`: texts to vectors by way of a server.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Arg, ArgMatches, value_parser};

use super::load_test::positive_time;
use super::{client, switch};
use crate::config::Flags;
use embedd_client::{ClientOptions, DEFAULT_SERVER, EmbedOptions, Truncation};

/// `embedd embed`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embed {
    /// Settings given as flags: there are none.
    pub flags: Flags,
    /// The servers.
    pub client: ClientOptions,
    /// None: the lines of standard input.
    pub texts: Vec<String>,
    /// How they are embedded.
    pub options: EmbedOptions,
    /// How long a request may take.
    pub deadline: Option<Duration>,
    /// Print each text with its embedding.
    pub with_text: bool,
    /// How embeddings are printed.
    pub output: Output,
}

/// How embeddings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// An object a line.
    #[default]
    JsonLines,
    /// An array of them.
    Json,
}

pub(super) fn read(matches: &ArgMatches) -> Embed {
    let options = EmbedOptions {
        normalize: !matches.get_flag("no-normalize"),
        dimensions: matches.get_one("dimensions").copied(),
        truncation: matches.get_one("truncation").copied().unwrap_or(Truncation::Unspecified),
        skip_cache: matches.get_flag("skip-cache"),
    };
    Embed {
        flags: Flags::default(),
        client: client::options(matches),
        texts: matches.get_many("texts").into_iter().flatten().cloned().collect(),
        options,
        deadline: matches.get_one("deadline").copied(),
        with_text: matches.get_flag("with-text"),
        output: matches.get_one("output").copied().unwrap_or_default(),
    }
}

pub(super) fn command() -> clap::Command {
    clap::Command::new("embed")
        .about("Have a server embed texts, and print the embeddings")
        .after_help(
            "Each embedding is a JSON object: `index` (from 0), `embedding`, `token_count`, `truncated`, `cached`. Lines \
             of standard input are embedded as they come, and printed in their order. What cannot be embedded is told on \
             standard error by its number (from 1) and left out. Exit codes: 0 all are embedded, 1 some are not, or no \
             server answers, 64 wrong use.",
        )
        .args([texts(), output(), switch("with-text", "Print each text with its embedding")])
        .args(options())
        .args(client::args().map(|arg| match arg.get_id().as_str() {
            "server" => arg.value_name("URL,URL").help(format!(
                "`host:port`, `https://host:port` for TLS, several with commas between them, or `dns:///host:port` for \
                 every address of a name [default: {DEFAULT_SERVER}]"
            )),
            _ => arg,
        }))
}

fn texts() -> Arg {
    Arg::new("texts").value_name("TEXT").num_args(0..).help("The texts [default: the lines of standard input]")
}

fn output() -> Arg {
    let outputs = PossibleValuesParser::new(["jsonl", "json"]).map(|name| match name.as_str() {
        "json" => Output::Json,
        _ => Output::JsonLines,
    });
    let help = "An object a line, or an array of them [default: jsonl]";
    Arg::new("output").long("output").value_name("FORMAT").value_parser(outputs).help(help)
}

fn options() -> impl Iterator<Item = Arg> {
    let truncations = PossibleValuesParser::new(["end", "start", "reject"]).map(|name| match name.as_str() {
        "end" => Truncation::End,
        "start" => Truncation::Start,
        _ => Truncation::Reject,
    });
    let value = |name: &'static str, placeholder: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(placeholder).help(help)
    };
    let args = [
        value("dimensions", "N", "Components of a vector to keep, from the first [default: all]")
            .value_parser(value_parser!(u32).range(1..)),
        switch("no-normalize", "Do not scale vectors to L2 norm 1"),
        value(
            "truncation",
            "SIDE",
            "What becomes of a text that is too long: its end or start is cut off, or it is \
             refused [default: the server's]",
        )
        .value_parser(truncations),
        switch("skip-cache", "Have every embedding computed"),
        value("deadline", "TIME", "How long a request may take, its repetitions included [default: none]")
            .value_parser(positive_time),
    ];
    args.into_iter().map(|arg| arg.help_heading("Requests"))
}
