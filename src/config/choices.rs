//! Settings whose value is one of a few words.

use std::fmt;

use crate::cache::CacheSharing;
use crate::caller::Priority;
use embedd_kernels::InstructionSet;
use embedd_model::tokenize::{AcceptedIds, SpecialTokens, Truncation};

/// A type with a fixed list of values, each written as one word.
pub(super) trait Choice: Copy + 'static {
    /// All words with their values, in the order in which help lists them.
    fn words() -> Vec<(&'static str, Self)>;
}

/// The engine that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineChoice {
    /// The fastest on the device among those that pass the accuracy gate.
    Auto,
    /// INT8 with embedd's own operator.
    Native,
    /// INT8 with standard ONNX Runtime operators.
    Portable,
    /// Float16, for GPUs.
    Fp16,
    /// The unquantized model.
    Fp32,
}

/// Whether the APIs are served on the HTTP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpApiChoice {
    /// Only if it gives no access that the gRPC listener denies by TLS or by its address.
    Auto,
    /// Regardless of the gRPC listener.
    On,
    /// Never.
    Off,
}

/// Whether a call is traced because its caller traces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TraceParentChoice {
    /// `trace-ratio` applies to it, as to all other calls.
    Ratio,
    /// Always.
    Follow,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::words().into_iter().find(|(_, value)| value == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

impl Choice for EngineChoice {
    fn words() -> Vec<(&'static str, Self)> {
        vec![
            ("auto", Self::Auto),
            ("native", Self::Native),
            ("portable", Self::Portable),
            ("fp16", Self::Fp16),
            ("fp32", Self::Fp32),
        ]
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

impl Choice for HttpApiChoice {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)]
    }
}

impl Choice for Priority {
    fn words() -> Vec<(&'static str, Self)> {
        Self::NAMES.to_vec()
    }
}

impl Choice for TraceParentChoice {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("ratio", Self::Ratio), ("follow", Self::Follow)]
    }
}

impl Choice for CacheSharing {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("shared", Self::Shared), ("caller", Self::Caller)]
    }
}

impl Choice for SpecialTokens {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("interpret", Self::Interpret), ("text", Self::Text)]
    }
}

impl Choice for AcceptedIds {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("marked", Self::Marked), ("any", Self::Any)]
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
