//! One file of the hub: begun, gone on with where an earlier try stopped, checked.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::client::{Answer, Client, Rest};
use super::{HubError, Patience};
use crate::copy::{CopyError, copy};
use crate::error::FetchError;
use crate::layout;
use crate::model_ref::ModelId;
use crate::record::FileRecord;
use embedd_common::checksum::Sha256Hex;
use embedd_common::progress::{Progress, Unit};

/// Files smaller than this are not worth a line of progress.
const WORTH_TELLING: u64 = 8 << 20;
/// A hub that asks for a longer pause is asked again after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A file to download.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) patience: Patience,
    pub(super) progress: &'a Progress,
    pub(super) model: &'a ModelId,
    pub(super) revision: &'a str,
    /// Path within the repository.
    pub(super) file: &'a str,
    /// What the file must be, whatever the hub says.
    pub(super) pin: Option<Sha256Hex>,
    /// Where the file grows. Its entity tag is written beside it.
    pub(super) half: PathBuf,
    /// A file that may be the same, and what it was when it was fetched.
    pub(super) old: Option<(PathBuf, Sha256Hex)>,
}

/// A whole file.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) path: PathBuf,
    pub(super) file: FileRecord,
    pub(super) commit: Option<String>,
}

/// Why a try failed.
struct Failure {
    error: FetchError,
    /// Seconds that the hub asked to wait.
    retry_after: Option<u64>,
}

impl<E: Into<FetchError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), retry_after: None }
    }
}

impl Download<'_> {
    /// Downloads the file; `None` where the model has none and need not.
    pub(super) fn run(&self, required: bool) -> Result<Option<Done>, FetchError> {
        let mut failures = 0;
        loop {
            let before = self.received();
            let Failure { error, retry_after } = match self.attempt(required) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            failures = if self.received() > before { 1 } else { failures + 1 };
            let reached = self.client.was_reached();
            let transient = matches!(&error, FetchError::Hub(error) if error.is_transient(reached));
            if !transient || failures > self.patience.retries {
                return Err(error);
            }
            let pause = self.patience.pause * 2_u32.saturating_pow(failures - 1);
            let pause = pause.max(Duration::from_secs(retry_after.unwrap_or(0))).min(LONGEST_PAUSE);
            self.progress.note(&format!("{error}; trying again in {:.1} s", pause.as_secs_f64()));
            thread::sleep(pause);
        }
    }

    /// Removes what is of use to a download under way only: the file has been taken away.
    pub(super) fn end(&self) -> Result<(), FetchError> {
        self.forget()
    }

    fn attempt(&self, required: bool) -> Result<Option<Done>, Failure> {
        let rest = self.rest();
        let answer = self.client.get(self.model.as_str(), self.revision, self.file, rest.as_ref())?;
        let offset = match (answer.status, &rest) {
            (200, _) => 0,
            (206, Some(rest)) if answer.range_start() == Some(rest.from) && !answer.contradicts(rest) => rest.from,
            // All of it has come before, and nobody lived to check it.
            (416, Some(rest)) if answer.range_total() == Some(rest.from) => rest.from,
            (206 | 416, _) => {
                self.forget()?;
                return Err(self.cut(0, "another part of it came than was asked for").into());
            }
            (404, _) if !required && answer.facts.error_code.as_deref().is_none_or(|code| code == "EntryNotFound") => {
                return Ok(None);
            }
            _ => return Err(self.refused(&answer)),
        };
        let expected = self.pin.clone().or_else(|| answer.facts.sha256.clone());
        let commit = answer.facts.commit.clone();
        if !(answer.status == 416 || self.reuse(expected.as_ref())?) {
            self.receive(answer, offset)?;
        }
        Ok(Some(Done { path: self.half.clone(), file: self.check(expected)?, commit }))
    }

    /// Writes the answer's body behind the first `offset` bytes that are here.
    fn receive(&self, answer: Answer, offset: u64) -> Result<(), FetchError> {
        let total = answer.length().map(|length| offset + length);
        let failed = |error| {
            let error = FetchError::io("write", &self.half, error);
            if let Some(total) = total { error.needing(total) } else { error }
        };
        if offset == 0 {
            self.forget()?;
            // Before the first byte: a file without its tag is not gone on with.
            if let Some(etag) = answer.strong_etag() {
                fs::write(self.tag_path(), etag).map_err(failed)?;
            }
        }
        let mut file = File::options().create(true).append(true).open(&self.half).map_err(failed)?;
        let told = if total.is_none_or(|total| total >= WORTH_TELLING) { self.progress } else { &Progress::silent() };
        let task = told.task(&format!("downloading {} of {}", self.file, self.model), total, Unit::Bytes);
        task.set(offset);
        let copied = copy(&mut answer.into_body().into_reader(), &mut file, Some(&task));
        // What has come is kept, also across a power cut.
        file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
        let received = self.received();
        match copied {
            Ok(_) if total.is_some_and(|total| total != received) => Err(self.cut(received, "it ended early").into()),
            Ok(_) => {
                task.finish();
                Ok(())
            }
            Err(CopyError::Read(error)) => Err(self.cut(received, &error.to_string()).into()),
            Err(CopyError::Write(error)) => Err(failed(error)),
        }
    }

    /// Takes the old file where it is what is wanted.
    fn reuse(&self, expected: Option<&Sha256Hex>) -> Result<bool, FetchError> {
        let (Some(expected), Some((old, recorded))) = (expected, &self.old) else { return Ok(false) };
        if recorded != expected || Sha256Hex::of_file(old).ok().as_ref() != Some(expected) {
            return Ok(false);
        }
        self.forget()?;
        // A link costs nothing; where there is none a copy does.
        fs::hard_link(old, &self.half)
            .or_else(|_| fs::copy(old, &self.half).map(drop))
            .map_err(|error| FetchError::io("write", &self.half, error))?;
        Ok(true)
    }

    /// Hashes what lies on the disk, not what passed: the first half may be of an earlier try.
    fn check(&self, expected: Option<Sha256Hex>) -> Result<FileRecord, FetchError> {
        let failed = |error| FetchError::io("read", &self.half, error);
        let found = Sha256Hex::of_file(&self.half).map_err(failed)?;
        match expected {
            Some(expected) if expected != found => {
                self.forget()?;
                Err(FetchError::Checksum {
                    what: self.model.to_string(),
                    file: self.file.to_owned(),
                    found,
                    expected: expected.to_string(),
                })
            }
            _ => Ok(FileRecord { bytes: self.half.metadata().map_err(failed)?.len(), sha256: found }),
        }
    }

    fn refused(&self, answer: &Answer) -> Failure {
        let (model, file, status) = (self.model.to_string(), self.file.to_owned(), answer.status);
        let error = match (status, answer.facts.error_code.as_deref()) {
            (401 | 403, _) => HubError::Refused { model, status, token_sent: self.client.has_token() },
            (404, None | Some("EntryNotFound")) if file == layout::WEIGHTS => HubError::NoSafetensors { model },
            (404, code) => HubError::NotFound { model, revision: self.revision.to_owned(), file, reason: reason(code) },
            _ => HubError::Status { model, file, status },
        };
        Failure { error: error.into(), retry_after: answer.retry_after() }
    }

    fn cut(&self, received: u64, reason: &str) -> HubError {
        HubError::Cut { file: self.file.to_owned(), received, reason: reason.to_owned() }
    }

    fn rest(&self) -> Option<Rest> {
        let etag = fs::read_to_string(self.tag_path()).ok()?;
        let from = self.received();
        (from > 0).then_some(Rest { from, etag })
    }

    fn received(&self) -> u64 {
        self.half.metadata().map_or(0, |half| half.len())
    }

    fn forget(&self) -> Result<(), FetchError> {
        remove(&self.half).and_then(|()| remove(&self.tag_path()))
    }

    fn tag_path(&self) -> PathBuf {
        self.half.with_added_extension("etag")
    }
}

/// What a 404 means and what to do.
fn reason(code: Option<&str>) -> &'static str {
    match code {
        Some("RepoNotFound") => "there is no such model; check its name",
        Some("RevisionNotFound") => "there is no such revision; check its name",
        _ => "check the model's name; only sentence-transformers models, which have this file, can be converted",
    }
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::io("remove", path, error)),
        _ => Ok(()),
    }
}
