//! How commands end.

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command succeeded.
    Done,
    /// The command ran, but a model or a text did not reach its accuracy threshold.
    GateFailed,
}

impl Outcome {
    pub(super) fn of_gate(passed: bool) -> Self {
        if passed { Self::Done } else { Self::GateFailed }
    }
}

/// An error and its causes on one line. Most of our errors include their cause, so causes that the line already
/// contains are skipped.
pub fn describe(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_printed_once() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let error = anyhow!(missing()).context(format!("the file ({})", missing()));
        assert_eq!(describe(&error), format!("the file ({})", missing()));
        assert_eq!(describe(&anyhow!(missing()).context("the file")), format!("the file: {}", missing()));
    }
}
