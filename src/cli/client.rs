//! The flags of the commands that call a server.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};

use embedd_client::{ClientOptions, DEFAULT_SERVER};

pub(super) fn options(matches: &ArgMatches) -> ClientOptions {
    let file = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let server = matches.get_one::<String>("server").cloned();
    ClientOptions {
        server: server.unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
        ca: file("ca"),
        certificate: file("certificate"),
        key: file("key"),
        token_file: file("token-file"),
    }
}

pub(super) fn args() -> [Arg; 5] {
    let server = Arg::new("server")
        .long("server")
        .value_name("URL")
        .help(format!("`host:port`, or `https://host:port` for TLS [default: {DEFAULT_SERVER}]"));
    let args = [
        server,
        file("ca", "PEM certificates that the server's must come from [default: those of the system]"),
        file("certificate", "The client's certificate, in PEM").requires("key"),
        file("key", "The key of --certificate, in PEM").requires("certificate"),
        file("token-file", "A file with the bearer token"),
    ];
    args.map(|arg| arg.help_heading("Server"))
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
}
