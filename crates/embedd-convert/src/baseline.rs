//! Figures of other programs on the same model: read from a file, or from what a command prints.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The engine that speed-ups are told against.
pub const PYTORCH: &str = "pytorch";
/// How long a command may take: PyTorch and its peers on a long text, on a slow machine.
const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);
/// What a command may print; a baseline has a few kilobytes.
const MOST_BYTES: u64 = 8 << 20;
/// How often a command is looked after.
const POLL: Duration = Duration::from_millis(50);
/// The whole of `SentenceTransformer.encode` on a short text: tokeniser, model and pooling.
const ENCODE_SHORT: &str = "pytorch_encode_short";

/// What other programs need for the same inputs. It is another run than the report's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Where it comes from: a file's name, or a command.
    pub origin: String,
    /// The model that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Threads of every engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// By name.
    pub engines: BTreeMap<String, BaselineEngine>,
    /// PyTorch as its users call it, tokeniser included, on a text of 11 tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pytorch_encode_short: Option<Timing>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineEngine {
    /// The least cosine to PyTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cos_min: Option<f64>,
    /// The mean cosine to PyTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cos_mean: Option<f64>,
    /// By tokens of the text; one text at a time.
    pub lengths: BTreeMap<usize, Timing>,
}

/// Times in ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The median.
    pub p50: f64,
    /// What 95 % of the runs were faster than.
    pub p95: f64,
    /// The fastest run.
    pub min: f64,
}

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no baseline.
    #[error(
        "{origin} is no baseline: {reason}; expected JSON such as {{\"model\": ..., \"threads\": ..., \"engines\": \
         {{\"pytorch\": {{\"L11\": {{\"p50\": ms, \"p95\": ms, \"min\": ms}}}}}}}}"
    )]
    Malformed {
        /// The file or command.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of another model.
    #[error("{origin} was measured on the model `{baseline}`, and the bundle's is `{model}`: they cannot be compared")]
    OtherModel {
        /// The file or command.
        origin: String,
        /// Its model.
        baseline: String,
        /// The bundle's.
        model: String,
    },
    /// The command could not be run, or failed, or took too long.
    #[error("the baseline command `{command}` {reason}")]
    Command {
        /// The command.
        command: String,
        /// What became of it.
        reason: String,
    },
}

impl Baseline {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BaselineError::Io`], [`BaselineError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let bytes = fs::read(path).map_err(|source| BaselineError::Io { path: path.to_owned(), source })?;
        // Reports are passed on: the folder is nobody's business.
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self::parse(&bytes, &name.to_string_lossy())
    }

    /// Runs a command in a shell and reads what it prints to standard output, which must be JSON alone; what it writes
    /// to standard error is shown.
    ///
    /// # Errors
    /// [`BaselineError::Command`], [`BaselineError::Malformed`].
    pub fn run(command: &str) -> Result<Self, BaselineError> {
        let printed = run(command, TIME_LIMIT)
            .map_err(|reason| BaselineError::Command { command: command.to_owned(), reason })?;
        Self::parse(&printed, &format!("`{command}`"))
    }

    /// Reads JSON; `origin` is named in errors and in the report.
    ///
    /// # Errors
    /// [`BaselineError::Malformed`].
    pub fn parse(bytes: &[u8], origin: &str) -> Result<Self, BaselineError> {
        decode(bytes, origin).map_err(|reason| BaselineError::Malformed { origin: origin.to_owned(), reason })
    }

    /// Whether it was measured on this model, as far as it says.
    ///
    /// # Errors
    /// [`BaselineError::OtherModel`].
    pub fn check_model(&self, model: &str) -> Result<(), BaselineError> {
        // A folder of the cache is called `organisation--name`.
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

    /// PyTorch's times for one text of so many tokens.
    pub fn pytorch(&self, tokens: usize) -> Option<&Timing> {
        self.engines.get(PYTORCH)?.lengths.get(&tokens)
    }
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
    let fields = entry.as_object().ok_or("it is no object")?;
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
    if all.iter().all(|&ms| ms.is_finite() && ms > 0.0) { Ok(timing) } else { Err(format!("{all:?} are no times")) }
}

fn run(command: &str, limit: Duration) -> Result<Vec<u8>, String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = shell.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let stdout = child.stdout.take().ok_or("has no output")?;
    let (sender, printed) = mpsc::channel();
    // Read while it runs: a full pipe would stop it. What the command left running may keep the pipe open, so that the
    // thread is not waited for beyond the limit.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MOST_BYTES + 1).read_to_end(&mut bytes).map(|_| bytes);
        drop(sender.send(read));
    });
    let deadline = Instant::now() + limit;
    let status = wait(&mut child, deadline)?;
    if !status.success() {
        return Err(format!("failed: {status}"));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let bytes = printed.recv_timeout(left).map_err(|_| "did not close its output".to_owned())?;
    let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("printed more than {MOST_BYTES} bytes"));
    }
    Ok(bytes)
}

fn wait(child: &mut Child, deadline: Instant) -> Result<ExitStatus, String> {
    loop {
        if let Some(status) = child.try_wait().map_err(|error| format!("cannot be waited for: {error}"))? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            // It may have ended just now.
            drop(child.kill());
            drop(child.wait());
            return Err("took too long and was ended".to_owned());
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests;
