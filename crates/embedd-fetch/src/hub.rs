//! Fetches models from the Hugging Face hub or a mirror over HTTP.

mod client;
mod download;
mod error;
mod pace;
mod token;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::HubError;
pub(super) use token::{Token, login_file};

use self::client::Client;
use self::download::Download;
use super::check::Check;
use super::error::FetchError;
use super::layout::{self, Layout};
use super::record::{Record, Source};
use super::work::{Staging, Target, Work};
use crate::model_ref::ModelId;
use crate::revision::Revision;
use embedd_common::checksum::Sha256Hex;
use embedd_common::progress::Progress;

/// The default hub.
pub(super) const PUBLIC_HUB: &str = "https://huggingface.co";
/// The folder in which incomplete files are kept between attempts.
const INCOMPLETE: &str = "hub";

/// Timeouts and retries.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryPolicy {
    /// Timeout for name resolution, and separately for connecting.
    pub(super) connect: Duration,
    /// Timeout for the next bytes of a response.
    pub(super) idle: Duration,
    /// Number of retries after a transient error. Progress in a download resets the count.
    pub(super) retries: u32,
    /// Pause before the first retry. Each further pause is twice as long.
    pub(super) pause: Duration,
    /// The progress that resets the count. Without a minimum, a hub that sends a byte in each attempt would be tried
    /// forever.
    pub(super) progress_bytes: u64,
    /// The maximum of all pauses for one file.
    pub(super) total_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5), // an unreachable hub must not delay the fallback to pip
            idle: Duration::from_secs(30),
            retries: 5, // 15 seconds in total: enough for a network glitch, not for an outage
            pause: Duration::from_millis(500),
            progress_bytes: 256 << 10,
            total_pause: Duration::from_secs(45),
        }
    }
}

/// How to reach the hub.
#[derive(Debug, Clone)]
pub(super) struct HubSettings {
    /// The URL of the hub.
    pub(super) endpoint: String,
    pub(super) token: Option<Token>,
    /// The file with the token that is sent if there is no other. It is read before the first request.
    pub(super) token_file: Option<PathBuf>,
    pub(super) proxy: Option<ureq::Proxy>,
    pub(super) retry: RetryPolicy,
}

/// A hub as an origin of models.
pub(super) struct Hub<'a> {
    client: Client,
    retry: RetryPolicy,
    /// Decides whether the weights are worth the download.
    check: Option<&'a Check>,
    progress: &'a Progress,
}

impl<'a> Hub<'a> {
    pub(super) fn new(
        settings: &HubSettings,
        check: Option<&'a Check>,
        progress: &'a Progress,
    ) -> Result<Self, FetchError> {
        let token = token::resolve(settings, progress)?;
        Ok(Self { client: Client::new(settings, token)?, retry: settings.retry, check, progress })
    }

    /// Adds the model's files to the staging folder.
    ///
    /// The first response reports the commit of the revision. The other files are requested by that commit, so they are
    /// consistent even if someone uploads a new version during the fetch.
    pub(super) fn model(
        &self,
        model: &ModelId,
        revision: &Revision,
        target: &Target,
        work: &Work,
        staging: &mut Staging,
    ) -> Result<Source, FetchError> {
        let mut repository = self.repository(model, revision, target, work)?;
        let layout = repository.checked_configuration(staging)?;
        repository.weights(&layout, staging)?;
        Ok(repository.source())
    }

    /// Adds the model's files to the staging folder, except the weights.
    pub(super) fn configuration(
        &self,
        model: &ModelId,
        revision: &Revision,
        target: &Target,
        work: &Work,
        staging: &mut Staging,
    ) -> Result<Source, FetchError> {
        let mut repository = self.repository(model, revision, target, work)?;
        repository.checked_configuration(staging)?;
        Ok(repository.source())
    }

    fn repository<'r>(
        &'r self,
        model: &'r ModelId,
        revision: &Revision,
        target: &'r Target,
        work: &Work,
    ) -> Result<Repository<'r>, FetchError> {
        let incomplete = work.kept(INCOMPLETE)?;
        let previous = Previous::of(&target.destination);
        Ok(Repository { hub: self, model, revision: revision.to_string(), commit: None, incomplete, previous, target })
    }
}

/// A model on the hub while it is fetched.
struct Repository<'a> {
    hub: &'a Hub<'a>,
    model: &'a ModelId,
    revision: String,
    commit: Option<String>,
    incomplete: PathBuf,
    previous: Option<Previous>,
    target: &'a Target,
}

impl Repository<'_> {
    /// What the files that were added are.
    fn source(self) -> Source {
        Source::Hub { model: self.model.to_string(), revision: self.revision, commit: self.commit }
    }

    /// Adds everything but the weights, and checks that the model can be used.
    fn checked_configuration(&mut self, staging: &mut Staging) -> Result<Layout, FetchError> {
        let layout = self.configuration(staging)?;
        self.tokenizer(&layout, staging)?;
        if let Some(check) = self.hub.check {
            staging.inspect(check)?;
        }
        Ok(layout)
    }

    /// Adds the configuration files, and returns where the others are.
    fn configuration(&mut self, staging: &mut Staging) -> Result<Layout, FetchError> {
        let layout = if self.file(layout::MODULES, false, staging)? {
            let invalid = |reason| FetchError::Modules { what: self.model.to_string(), reason };
            Layout::parse(&staging.read(layout::MODULES)?).map_err(invalid)?
        } else {
            Layout::plain()
        };
        for wanted in layout.configuration() {
            self.file(&wanted.file, wanted.required, staging)?;
        }
        Ok(layout)
    }

    /// Adds `tokenizer.json` or, if the model has none, the files from which transformers makes its tokenizer.
    fn tokenizer(&mut self, layout: &Layout, staging: &mut Staging) -> Result<(), FetchError> {
        if self.file(&layout.of_transformer(layout::TOKENIZER), false, staging)? {
            return Ok(());
        }
        let mut found = !layout.has_transformer();
        for file in layout::VOCABULARIES {
            found |= self.file(&layout.of_transformer(file), false, staging)?;
        }
        if found { Ok(()) } else { Err(HubError::NoTokenizer { model: self.model.to_string() }.into()) }
    }

    /// Adds the weights of the other modules, which are small, and then those of the transformer.
    fn weights(&mut self, layout: &Layout, staging: &mut Staging) -> Result<(), FetchError> {
        for files in layout.module_weights() {
            self.first_of(&files, staging)?;
        }
        let files = layout::ALL_WEIGHTS.map(|file| layout.of_transformer(file));
        let found = self.first_of(&files, staging)?;
        if !layout::is_index(found) {
            return Ok(());
        }
        let invalid = |reason| FetchError::Index { what: self.model.to_string(), file: found.to_owned(), reason };
        let shards = layout::shards(found, &staging.read(found)?).map_err(invalid)?;
        for shard in shards {
            self.file(&layout.of_transformer(&shard), true, staging)?;
        }
        Ok(())
    }

    /// Adds the first of the files that the model has.
    fn first_of<'f>(&mut self, files: &'f [String], staging: &mut Staging) -> Result<&'f str, FetchError> {
        for file in files {
            if self.file(file, false, staging)? {
                return Ok(file);
            }
        }
        Err(HubError::NoWeights { model: self.model.to_string(), files: files.to_vec() }.into())
    }

    /// Adds a file. Returns whether the model has it. A pinned file is always required: another one in its place would
    /// not be pinned.
    fn file(&mut self, file: &str, required: bool, staging: &mut Staging) -> Result<bool, FetchError> {
        let revision = self.commit.as_deref().unwrap_or(&self.revision);
        let pin = self.target.pins.iter().find(|pin| pin.file == file);
        let download = Download {
            client: &self.hub.client,
            retry: self.hub.retry,
            progress: self.hub.progress,
            model: self.model,
            revision,
            file,
            pin: pin.and_then(|pin| pin.sha256.parse().ok()),
            incomplete: self.incomplete.join(file.replace('/', "--")),
            previous: self.previous.as_ref().and_then(|previous| previous.file(file)),
        };
        let Some(done) = download.run(required || pin.is_some())? else { return Ok(false) };
        staging.move_in(file, &done.path, done.file)?;
        download.end()?;
        self.commit = self.commit.take().or(done.commit);
        Ok(true)
    }
}

/// An existing folder that is damaged. Its intact files are reused.
#[derive(Debug)]
struct Previous {
    folder: PathBuf,
    record: Record,
}

impl Previous {
    fn of(folder: &Path) -> Option<Self> {
        let record = Record::read(folder).ok().flatten()?;
        Some(Self { folder: folder.to_owned(), record })
    }

    fn file(&self, file: &str) -> Option<(PathBuf, Sha256Hex)> {
        let recorded = self.record.files.get(file)?;
        Some((self.folder.join(file), recorded.sha256.clone()))
    }
}
