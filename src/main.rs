//! Arguments, dispatch to a command, exit code.

use std::process::ExitCode;

use embedd::cli::{self, Command, WRONG_USE};
use embedd::commands::{self, Outcome};
use embedd::config::Configuration;

/// The exit code of what failed.
const FAILED: u8 = 1;
/// The exit code where a text is below the threshold.
const GATE_FAILED: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => run(&command),
        Err(exit) => {
            // A reader that has left wanted no more of the text.
            let _ = exit.print();
            ExitCode::from(exit.code())
        }
    }
}

fn run(command: &Command) -> ExitCode {
    let configuration = match Configuration::load(command.flags()) {
        Ok(configuration) => configuration,
        Err(errors) => {
            eprintln!("error: {errors}");
            return ExitCode::from(WRONG_USE);
        }
    };
    match commands::run(command, configuration) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::GateFailed) => ExitCode::from(GATE_FAILED),
        Err(error) => {
            eprintln!("error: {}", commands::told(&error));
            ExitCode::from(FAILED)
        }
    }
}
