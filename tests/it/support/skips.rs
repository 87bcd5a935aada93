//! Reports what this machine cannot test.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;

use embedd_kernels::InstructionSet;

/// Whether this CPU has the instruction set; if not, reports that its test is skipped.
pub(crate) fn cpu_has(set: InstructionSet) -> bool {
    if !set.is_available() {
        not_tested(format_args!("this CPU does not support {set}"));
    }
    set.is_available()
}

/// Reports a skipped test on stderr, and in the file that `TEST_SKIPS` names, because libtest hides the output of tests
/// that pass. `.ci/run` prints the file at its end.
///
/// Only for missing hardware: a test that lacks a tool fails, because every machine can install it.
pub(crate) fn not_tested(reason: impl Display) {
    eprintln!("NOT TESTED: {reason}");
    if let Some(path) = std::env::var_os("TEST_SKIPS") {
        // libtest names threads after their tests.
        let thread = std::thread::current();
        let line = format!("{reason}\t{}\n", thread.name().unwrap_or("?"));
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("TEST_SKIPS names a file");
        // In one write, because other tests and processes append to the same file.
        file.write_all(line.as_bytes()).expect("the skip is recorded");
    }
}
