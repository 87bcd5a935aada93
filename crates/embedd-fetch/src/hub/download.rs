//! Downloads one file from the hub: resumes an earlier attempt, retries, and checks the result.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::client::{Client, Reply, Rest};
use super::pace::PacedReader;
use super::{HubError, RetryPolicy};
use crate::copy::{CopyError, copy};
use crate::error::FetchError;
use crate::layout;
use crate::model_ref::ModelId;
use embedd_common::checksum::{FileRecord, Sha256Hex};
use embedd_common::files::{available_bytes, create_own, open_own, read_bounded};
use embedd_common::progress::{Progress, Unit};

/// Smaller files are not worth a line of progress.
const MIN_REPORTED: u64 = 8 << 20;
/// The maximum pause. If the hub requests a longer one, the download fails at once: another origin may have the file.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Entity tags have up to a hundred bytes.
const MAX_ETAG_BYTES: u64 = 4096;

/// A file to download.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) retry: RetryPolicy,
    pub(super) progress: &'a Progress,
    pub(super) model: &'a ModelId,
    pub(super) revision: &'a str,
    /// Path in the repository.
    pub(super) file: &'a str,
    /// The required digest. It overrides the one that the hub reports.
    pub(super) pin: Option<Sha256Hex>,
    /// The incomplete file. Its entity tag is written beside it.
    pub(super) incomplete: PathBuf,
    /// A file from an earlier fetch that may be identical, and its recorded digest.
    pub(super) previous: Option<(PathBuf, Sha256Hex)>,
}

/// A complete file.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) path: PathBuf,
    pub(super) file: FileRecord,
    pub(super) commit: Option<String>,
}

/// A failed attempt.
struct Failure {
    error: FetchError,
    /// The wait requested by the hub, in seconds.
    retry_after: Option<u64>,
}

impl<E: Into<FetchError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), retry_after: None }
    }
}

impl Download<'_> {
    /// Downloads the file; `None` if it is optional and does not exist.
    pub(super) fn run(&self, required: bool) -> Result<Option<Done>, FetchError> {
        let mut failures = 0;
        let mut paused = Duration::ZERO;
        loop {
            let before = self.received();
            let Failure { error, retry_after } = match self.attempt(required) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let progressed = self.received() >= before + self.retry.progress_bytes;
            failures = if progressed { 1 } else { failures + 1 };
            paused = if progressed { Duration::ZERO } else { paused };
            let reached = self.client.was_reached();
            let transient = matches!(&error, FetchError::Hub(error) if error.is_transient(reached));
            let requested = Duration::from_secs(retry_after.unwrap_or(0));
            if !transient || failures > self.retry.retries || requested > MAX_PAUSE {
                return Err(error);
            }
            let pause = self.retry.pause * 2_u32.saturating_pow(failures - 1);
            let pause = pause.max(requested).min(MAX_PAUSE);
            paused += pause;
            if paused > self.retry.total_pause {
                return Err(error);
            }
            self.progress.note(&format!("{error}; retrying in {:.1} s", pause.as_secs_f64()));
            thread::sleep(pause);
        }
    }

    /// Removes the temporary files once the caller has moved the downloaded file away.
    pub(super) fn end(&self) -> Result<(), FetchError> {
        self.discard()
    }

    fn attempt(&self, required: bool) -> Result<Option<Done>, Failure> {
        let rest = self.rest();
        let reply = self.client.get(self.model.as_str(), self.revision, self.file, rest.as_ref())?;
        let offset = match (reply.status, &rest) {
            (200, _) => 0,
            (206, Some(rest)) if reply.range_start() == Some(rest.offset) && !reply.contradicts(rest) => rest.offset,
            // An earlier process received all of it but was killed before checking it.
            (416, Some(rest)) if reply.range_total() == Some(rest.offset) => rest.offset,
            (206 | 416, _) => {
                self.discard()?;
                return Err(self.interrupted(0, "the response is not the requested range").into());
            }
            (404, _) if !required && reply.facts.error_code.as_deref().is_none_or(|code| code == "EntryNotFound") => {
                return Ok(None);
            }
            _ => return Err(self.refused(&reply)),
        };
        let expected = self.pin.clone().or_else(|| reply.facts.sha256.clone());
        let commit = reply.facts.commit.clone();
        if !(reply.status == 416 || self.reuse(expected.as_ref())?) {
            self.receive(reply, offset)?;
        }
        Ok(Some(Done { path: self.incomplete.clone(), file: self.check(expected)?, commit }))
    }

    /// Writes the body after the first `offset` bytes of the incomplete file.
    fn receive(&self, reply: Reply, offset: u64) -> Result<(), FetchError> {
        let total = reply.length().map(|length| offset.saturating_add(length));
        let max = layout::max_bytes(self.file);
        if total.is_some_and(|total| total > max) {
            return Err(self.too_large(max));
        }
        self.check_space(total.unwrap_or(0).saturating_sub(offset))?;
        let max = total.unwrap_or(max);
        let failed = |error| {
            let error = FetchError::io("write", &self.incomplete, error);
            if let Some(total) = total { error.needing(total) } else { error }
        };
        if offset == 0 {
            self.discard()?;
            // Written before the first byte: a file without its tag is not resumed.
            if let Some(etag) = reply.strong_etag() {
                create_own(&self.tag_path()).and_then(|mut tag| tag.write_all(etag.as_bytes())).map_err(failed)?;
            }
        }
        let mut file = open_own(&self.incomplete, File::options().create(true).append(true)).map_err(failed)?;
        let progress =
            if total.is_none_or(|total| total >= MIN_REPORTED) { self.progress } else { &Progress::silent() };
        let task = progress.task(&format!("downloading {} of {}", self.file, self.model), total, Unit::Bytes);
        task.set(offset);
        // One byte more than announced is enough to notice that there are more.
        let mut body = PacedReader::new(reply.into_body().into_reader()).take(max.saturating_sub(offset) + 1);
        let copied = copy(&mut body, &mut file, Some(&task));
        // Keep the received bytes, even across a power failure.
        file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
        let received = self.received();
        match copied {
            Ok(_) if received > max => Err(self.too_large(max)),
            Ok(_) if total.is_some_and(|total| total != received) => {
                Err(self.interrupted(received, "the response ended early").into())
            }
            Ok(_) => {
                task.finish();
                Ok(())
            }
            Err(CopyError::Read(error)) => Err(self.interrupted(received, &error.to_string()).into()),
            Err(CopyError::Write(error)) => Err(failed(error)),
        }
    }

    /// The error for a file that is too large. Nothing of it is kept.
    fn too_large(&self, max: u64) -> FetchError {
        match self.discard() {
            Ok(()) => HubError::TooLarge { file: self.file.to_owned(), max }.into(),
            Err(error) => error,
        }
    }

    /// Fails early if `needed` bytes do not fit on the disk, instead of filling it.
    fn check_space(&self, needed: u64) -> Result<(), FetchError> {
        let folder = self.incomplete.parent().unwrap_or(&self.incomplete);
        match available_bytes(folder) {
            Some(available) if available < needed => {
                Err(FetchError::DiskFull { path: self.incomplete.clone(), needed: Some(needed) })
            }
            _ => Ok(()),
        }
    }

    /// Reuses the previous file if it has the expected digest.
    fn reuse(&self, expected: Option<&Sha256Hex>) -> Result<bool, FetchError> {
        let (Some(expected), Some((previous, recorded))) = (expected, &self.previous) else { return Ok(false) };
        if recorded != expected || Sha256Hex::of_file(previous).ok().as_ref() != Some(expected) {
            return Ok(false);
        }
        self.discard()?;
        // A link is free. Copy the file where links are not supported.
        fs::hard_link(previous, &self.incomplete)
            .or_else(|_| fs::copy(previous, &self.incomplete).map(drop))
            .map_err(|error| FetchError::io("write", &self.incomplete, error))?;
        Ok(true)
    }

    /// Hashes the file on disk rather than the received bytes, because an earlier attempt may have written the start.
    fn check(&self, expected: Option<Sha256Hex>) -> Result<FileRecord, FetchError> {
        let failed = |error| FetchError::io("read", &self.incomplete, error);
        let found = Sha256Hex::of_file(&self.incomplete).map_err(failed)?;
        match expected {
            Some(expected) if expected != found => {
                self.discard()?;
                Err(FetchError::Checksum {
                    what: self.model.to_string(),
                    file: self.file.to_owned(),
                    found,
                    expected: expected.to_string(),
                })
            }
            _ => Ok(FileRecord { bytes: self.incomplete.metadata().map_err(failed)?.len(), sha256: found }),
        }
    }

    fn refused(&self, reply: &Reply) -> Failure {
        let model = self.model.to_string();
        let file = self.file.to_owned();
        let status = reply.status;
        let error = match (status, reply.facts.error_code.as_deref()) {
            (401 | 403, _) => HubError::Refused { model, status, token: self.client.token_origin().map(str::to_owned) },
            (404, code) => HubError::NotFound { model, revision: self.revision.to_owned(), file, reason: reason(code) },
            _ => HubError::Status { model, file, status },
        };
        Failure { error: error.into(), retry_after: reply.retry_after() }
    }

    fn interrupted(&self, received: u64, reason: &str) -> HubError {
        HubError::Interrupted { file: self.file.to_owned(), received, reason: reason.to_owned() }
    }

    fn rest(&self) -> Option<Rest> {
        let etag = read_bounded(&self.tag_path(), MAX_ETAG_BYTES).ok()?;
        let etag = String::from_utf8(etag).ok()?;
        let offset = self.received();
        (offset > 0).then_some(Rest { offset, etag })
    }

    fn received(&self) -> u64 {
        self.incomplete.metadata().map_or(0, |file| file.len())
    }

    fn discard(&self) -> Result<(), FetchError> {
        remove(&self.incomplete).and_then(|()| remove(&self.tag_path()))
    }

    fn tag_path(&self) -> PathBuf {
        self.incomplete.with_added_extension("etag")
    }
}

/// The meaning of a 404, and what to do.
fn reason(code: Option<&str>) -> &'static str {
    match code {
        Some("RepoNotFound") => "no such model; check its name",
        Some("RevisionNotFound") => "no such revision; check its name",
        _ => "check the model's name; every sentence-transformers model has this file",
    }
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::io("remove", path, error)),
        _ => Ok(()),
    }
}
