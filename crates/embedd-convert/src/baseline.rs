//! Latencies of other programs on the same model, read from a file or from standard input.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The engine that speed-ups are relative to.
pub const PYTORCH: &str = "pytorch";
/// The path that denotes standard input.
const STANDARD_INPUT: &str = "-";
/// A baseline has a few kilobytes. A file larger than this is something else.
const MAX_BYTES: u64 = 8 << 20;
/// The key for the whole of `SentenceTransformer.encode` on a short text: tokenizer, model and pooling.
const ENCODE_SHORT: &str = "pytorch_encode_short";

/// Latencies of other programs for the same inputs, measured in a separate run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The source of the baseline: a file name, or `standard input`.
    pub origin: String,
    /// The measured model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Threads per engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The measured programs, by name.
    pub engines: BTreeMap<String, BaselineEngine>,
    /// The latency of PyTorch's `encode()`, including tokenization, for a text of 11 tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pytorch_encode_short: Option<Timing>,
}

/// The measurements of one program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineEngine {
    /// The minimum cosine to PyTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cos_min: Option<f64>,
    /// The mean cosine to PyTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cos_mean: Option<f64>,
    /// Latencies by tokens per text, one text at a time.
    pub lengths: BTreeMap<usize, Timing>,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The fastest run.
    pub min: f64,
}

/// Why a baseline was rejected.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The baseline could not be read.
    #[error("cannot read the baseline from {origin}: {source}")]
    Io {
        /// The file, or standard input.
        origin: String,
        /// The system's error.
        source: io::Error,
    },
    /// The input is not a baseline.
    #[error(
        "{origin} is not a baseline: {reason}; expected JSON such as {{\"model\": ..., \"threads\": ..., \"engines\": \
         {{\"pytorch\": {{\"L11\": {{\"p50\": ms, \"p95\": ms, \"min\": ms}}}}}}}}"
    )]
    Malformed {
        /// The file, or standard input.
        origin: String,
        /// The problem.
        reason: String,
    },
    /// The baseline is for another model.
    #[error("{origin} was measured on the model `{baseline}`; it cannot be compared with the bundle's model `{model}`")]
    OtherModel {
        /// The file, or standard input.
        origin: String,
        /// The model of the baseline.
        baseline: String,
        /// The model of the bundle.
        model: String,
    },
}

impl Baseline {
    /// Reads a file, or standard input if the path is `-`.
    ///
    /// # Errors
    /// [`BaselineError::Io`] or [`BaselineError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        if path == Path::new(STANDARD_INPUT) {
            return Self::read_from(io::stdin().lock(), "standard input");
        }
        let file =
            File::open(path).map_err(|source| BaselineError::Io { origin: path.display().to_string(), source })?;
        // Reports are shared with others, so they name the file without its folder.
        Self::read_from(file, &path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
    }

    fn read_from(input: impl Read, origin: &str) -> Result<Self, BaselineError> {
        let bytes = read_limited(input).map_err(|source| BaselineError::Io { origin: origin.to_owned(), source })?;
        Self::parse(&bytes, origin)
    }

    /// Parses JSON. Errors and the report name `origin`.
    ///
    /// # Errors
    /// [`BaselineError::Malformed`].
    pub fn parse(bytes: &[u8], origin: &str) -> Result<Self, BaselineError> {
        decode(bytes, origin).map_err(|reason| BaselineError::Malformed { origin: origin.to_owned(), reason })
    }

    /// Checks that the baseline, if it names a model, was measured on this one.
    ///
    /// # Errors
    /// [`BaselineError::OtherModel`].
    pub fn check_model(&self, model: &str) -> Result<(), BaselineError> {
        // Folders in the cache are named `organization--name`.
        let last = |name: &str| {
            let name = name.trim_end_matches('/').replace("--", "/").to_lowercase();
            name.rsplit('/').next().map(str::to_owned)
        };
        match &self.model {
            Some(baseline) if last(baseline) != last(model) => Err(BaselineError::OtherModel {
                origin: self.origin.clone(),
                baseline: baseline.clone(),
                model: model.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// PyTorch's latencies for one text of `tokens` tokens.
    pub fn pytorch(&self, tokens: usize) -> Option<&Timing> {
        self.engines.get(PYTORCH)?.lengths.get(&tokens)
    }
}

fn read_limited(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let problem = format!("it has more than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

fn decode(bytes: &[u8], origin: &str) -> Result<Baseline, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let entries = value.get("engines").and_then(Value::as_object).ok_or("it has no object `engines`")?;
    let mut engines = BTreeMap::new();
    for (name, entry) in entries.iter().filter(|(name, _)| *name != ENCODE_SHORT) {
        engines.insert(name.clone(), engine(entry).map_err(|reason| format!("`{name}`: {reason}"))?);
    }
    if engines.is_empty() {
        return Err("`engines` is empty".to_owned());
    }
    Ok(Baseline {
        origin: origin.to_owned(),
        model: value.get("model").and_then(Value::as_str).map(str::to_owned),
        threads: value.get("threads").and_then(Value::as_u64).map(|threads| threads as usize),
        engines,
        pytorch_encode_short: entries.get(ENCODE_SHORT).map(timing).transpose()?,
    })
}

fn engine(entry: &Value) -> Result<BaselineEngine, String> {
    let fields = entry.as_object().ok_or("it is not an object")?;
    let mut lengths = BTreeMap::new();
    for (key, value) in fields {
        if let Some(tokens) = key.strip_prefix('L').and_then(|tokens| tokens.parse().ok()) {
            lengths.insert(tokens, timing(value).map_err(|reason| format!("`{key}`: {reason}"))?);
        }
    }
    let number = |key: &str| fields.get(key).and_then(Value::as_f64);
    Ok(BaselineEngine { cos_min: number("cos_min"), cos_mean: number("cos_mean"), lengths })
}

fn timing(value: &Value) -> Result<Timing, String> {
    let timing: Timing = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let all = [timing.p50, timing.p95, timing.min];
    if all.iter().all(|&ms| ms.is_finite() && ms > 0.0) {
        Ok(timing)
    } else {
        Err(format!("{all:?} are not positive times"))
    }
}

#[cfg(test)]
mod tests;
