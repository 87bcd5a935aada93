//! Settings that are one word of a few.

use crate::kernels::InstructionSet;
use crate::request::Truncation;

/// A type whose every value has one word.
pub(super) trait Choice: Copy + 'static {
    /// Every word with its value, in the order in which help lists them.
    const WORDS: &'static [(&'static str, Self)];
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
        let word = Self::WORDS.iter().find(|(_, value)| value == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

impl Choice for EngineChoice {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("native", Self::Native), ("portable", Self::Portable), ("fp32", Self::Fp32)];
}

impl Choice for InstructionSet {
    const WORDS: &'static [(&'static str, Self)] =
        &[("avx512-vnni", Self::Avx512Vnni), ("avx2", Self::Avx2), ("plain", Self::Plain)];
}

impl Choice for Truncation {
    const WORDS: &'static [(&'static str, Self)] =
        &[("end", Self::End), ("start", Self::Start), ("reject", Self::Reject)];
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

impl Choice for bool {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("true", true),
        ("false", false),
        ("on", true),
        ("off", false),
        ("yes", true),
        ("no", false),
        ("1", true),
        ("0", false),
    ];
}
