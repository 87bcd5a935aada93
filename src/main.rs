//! Parses arguments, runs the command and sets the exit code.

use std::process::ExitCode;

use embedd::cli::{self, Invocation, WRONG_USE};
use embedd::commands::{self, Outcome};
use embedd::config::Configuration;

/// The exit code of a command that failed.
const FAILED: u8 = 1;
/// The exit code if a model or a text does not reach its accuracy threshold.
const GATE_FAILED: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(invocation) => run(&invocation),
        Err(exit) => {
            // Fails only if the reader has closed the pipe, and then nobody needs the text.
            let _ = exit.print();
            ExitCode::from(exit.code())
        }
    }
}

fn run(invocation: &Invocation) -> ExitCode {
    let configuration = match Configuration::load(&invocation.flags) {
        Ok(configuration) => configuration,
        Err(errors) => {
            eprintln!("error: {errors}");
            return ExitCode::from(WRONG_USE);
        }
    };
    match commands::run(&invocation.command, configuration) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::GateFailed) => ExitCode::from(GATE_FAILED),
        Err(error) => {
            eprintln!("error: {}", commands::describe(&error));
            ExitCode::from(FAILED)
        }
    }
}
