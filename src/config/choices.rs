//! Settings that are one word of a few.

use embedd_kernels::InstructionSet;
use embedd_model::tokenize::Truncation;

/// A type whose every value has one word.
pub(super) trait Choice: Copy + 'static {
    /// Every word with its value, in the order in which help lists them.
    fn words() -> Vec<(&'static str, Self)>;
}

/// Which implementation of the model serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineChoice {
    /// Whichever is fastest on this CPU among those that pass the accuracy gate.
    Auto,
    /// INT8 with embedd's own operators.
    Native,
    /// INT8 with standard ONNX Runtime operators.
    Portable,
    /// The unquantised model.
    Fp32,
}

/// Whether OpenAI's API is served on the HTTP port, which has no TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenAiChoice {
    /// Where it opens nothing that the gRPC listener closes, by TLS or by its address.
    Auto,
    /// Whatever the gRPC listener has.
    On,
    /// No.
    Off,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl std::fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = Self::words().into_iter().find(|(_, value)| value == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

impl Choice for EngineChoice {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("auto", Self::Auto), ("native", Self::Native), ("portable", Self::Portable), ("fp32", Self::Fp32)]
    }
}

impl Choice for InstructionSet {
    fn words() -> Vec<(&'static str, Self)> {
        Self::ALL.map(|set| (set.name(), set)).into()
    }
}

impl Choice for Truncation {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("end", Self::End), ("start", Self::Start), ("reject", Self::Reject)]
    }
}

impl Choice for OpenAiChoice {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)]
    }
}

impl Choice for LogFormat {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)]
    }
}

impl Choice for bool {
    fn words() -> Vec<(&'static str, Self)> {
        let pairs = [["true", "false"], ["on", "off"], ["yes", "no"], ["1", "0"]];
        pairs.into_iter().flat_map(|[yes, no]| [(yes, true), (no, false)]).collect()
    }
}
