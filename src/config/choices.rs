//! Settings that are one word of a few.

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

/// What happens to a text of more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truncation {
    /// Its end is cut off.
    End,
    /// Its start is cut off.
    Start,
    /// The request fails.
    Reject,
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

impl Choice for EngineChoice {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("native", Self::Native), ("portable", Self::Portable), ("fp32", Self::Fp32)];
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
