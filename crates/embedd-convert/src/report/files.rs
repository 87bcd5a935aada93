//! The report's rows, and its three files.

use super::{HTML_FILE, JSON_FILE, LatencyRow, MARKDOWN_FILE, Measurement, Path, PathBuf, Report, ReportError, SCHEMA};
use super::{Timing, fs, html, markdown};

impl From<Measurement> for LatencyRow {
    fn from(measured: Measurement) -> Self {
        Self {
            engine: measured.engine.clone(),
            from: None,
            tokens: measured.tokens,
            batch: measured.batch,
            p50_ms: measured.p50_ms,
            p95_ms: measured.p95_ms,
            min_ms: measured.min_ms,
            measured: Some(measured),
            speed_up: None,
        }
    }
}

impl LatencyRow {
    pub(super) fn from_elsewhere(engine: &str, origin: &str, tokens: usize, timing: &Timing) -> Self {
        Self {
            engine: engine.to_owned(),
            from: Some(origin.to_owned()),
            tokens,
            batch: 1,
            p50_ms: timing.p50,
            p95_ms: timing.p95,
            min_ms: timing.min,
            measured: None,
            speed_up: None,
        }
    }
}

impl Report {
    /// The report as JSON.
    pub fn to_json(&self) -> String {
        // Cannot fail: serialization fails only for maps whose keys are not strings, and the report has no such maps.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// The report as a self-contained HTML page.
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// The latency section of the Markdown, for terminals.
    pub fn latency_table(&self) -> String {
        markdown::latency(self)
    }

    /// Writes the three files to a folder, which is created if necessary.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 3], ReportError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            |source| ReportError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(error(folder))?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(error(&path))?;
            Ok(path)
        };
        Ok([
            write(JSON_FILE, self.to_json())?,
            write(MARKDOWN_FILE, self.to_markdown())?,
            write(HTML_FILE, self.to_html())?,
        ])
    }

    /// Reads report.json.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = fs::read(path).map_err(|source| ReportError::Io { path: path.to_owned(), source })?;
        let malformed = |reason: String| ReportError::Malformed { path: path.to_owned(), reason };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64);
        if schema != Some(u64::from(SCHEMA)) {
            return Err(malformed(format!("its schema is {schema:?}")));
        }
        serde_json::from_value(value).map_err(|error| malformed(error.to_string()))
    }
}
