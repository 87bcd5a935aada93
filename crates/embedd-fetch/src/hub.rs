//! The Hugging Face hub, or a mirror of it, over HTTP.

mod client;
mod download;
mod error;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::HubError;

use self::client::Client;
use self::download::Download;
use super::error::FetchError;
use super::layout;
use super::record::{Record, Source};
use super::work::{Goal, Staging, Work};
use crate::model_ref::ModelId;
use embedd_common::progress::Progress;

/// The hub that everybody means.
pub(super) const PUBLIC_HUB: &str = "https://huggingface.co";
/// The branch that is fetched where no revision is named.
pub(super) const MAIN: &str = "main";
/// Where half files are kept from one try to the next.
const HALVES: &str = "hub";

/// A secret that is never printed.
#[derive(Clone)]
pub(super) struct Token(pub(super) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How long to wait, and how often to try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a name, and then for a connection.
    pub(super) connect: Duration,
    /// For the next bytes of an answer.
    pub(super) idle: Duration,
    /// How often a request that failed on its way is repeated. A try that brought bytes starts the count anew.
    pub(super) retries: u32,
    /// Before the first repetition; each further pause is twice as long.
    pub(super) pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5), // a hub that is walled off must not hold up what pip can bring
            idle: Duration::from_secs(30),
            retries: 5, // 15 seconds in all: a router that restarts, not a hub that is down
            pause: Duration::from_millis(500),
        }
    }
}

/// How to reach the hub.
#[derive(Debug, Clone)]
pub(super) struct HubSettings {
    /// Scheme, host and perhaps a path.
    pub(super) endpoint: String,
    pub(super) token: Option<Token>,
    pub(super) proxy: Option<ureq::Proxy>,
    pub(super) patience: Patience,
}

/// The hub as a source of models.
pub(super) struct Hub<'a> {
    client: Client,
    patience: Patience,
    progress: &'a Progress,
}

impl<'a> Hub<'a> {
    pub(super) fn new(settings: &HubSettings, progress: &'a Progress) -> Result<Self, FetchError> {
        Ok(Self { client: Client::new(settings)?, patience: settings.patience, progress })
    }

    /// Adds the model's files to the staging folder.
    ///
    /// The first answer says which commit the revision is; the other files are asked for by that commit, so they belong
    /// together even if someone uploads meanwhile.
    pub(super) fn model(
        &self,
        model: &ModelId,
        revision: &str,
        goal: &Goal,
        work: &Work,
        staging: &mut Staging,
    ) -> Result<Source, FetchError> {
        let halves = work.kept(HALVES)?;
        let old = Old::of(&goal.place);
        let mut repository =
            Repository { hub: self, model, revision: revision.to_owned(), commit: None, halves, old, goal };
        repository.file(layout::MODULES, true, staging)?;
        let modules = staging.read(layout::MODULES)?;
        let wanted =
            layout::wanted(&modules).map_err(|reason| FetchError::Modules { what: model.to_string(), reason })?;
        for file in &wanted {
            repository.file(&file.file, file.required, staging)?;
        }
        Ok(Source::Hub { model: model.to_string(), revision: revision.to_owned(), commit: repository.commit })
    }
}

/// A model of the hub while it is fetched.
struct Repository<'a> {
    hub: &'a Hub<'a>,
    model: &'a ModelId,
    revision: String,
    commit: Option<String>,
    halves: PathBuf,
    old: Option<Old>,
    goal: &'a Goal,
}

impl Repository<'_> {
    fn file(&mut self, file: &str, required: bool, staging: &mut Staging) -> Result<(), FetchError> {
        let revision = self.commit.as_deref().unwrap_or(&self.revision);
        let pin = self.goal.pins.iter().find(|pin| pin.file == file);
        let download = Download {
            client: &self.hub.client,
            patience: self.hub.patience,
            progress: self.hub.progress,
            model: self.model,
            revision,
            file,
            pin: pin.and_then(|pin| pin.sha256.parse().ok()),
            half: self.halves.join(file.replace('/', "--")),
            old: self.old.as_ref().and_then(|old| old.file(file)),
        };
        let Some(done) = download.run(required)? else { return Ok(()) };
        staging.adopt(file, &done.path, done.file)?;
        download.end()?;
        self.commit = self.commit.take().or(done.commit);
        Ok(())
    }
}

/// A folder of which something is wrong: what is right of it need not be fetched again.
#[derive(Debug)]
struct Old {
    folder: PathBuf,
    record: Record,
}

impl Old {
    fn of(place: &Path) -> Option<Self> {
        let record = Record::read(place).ok().flatten()?;
        Some(Self { folder: place.to_owned(), record })
    }

    fn file(&self, file: &str) -> Option<(PathBuf, embedd_common::checksum::Sha256Hex)> {
        let recorded = self.record.files.get(file)?;
        Some((self.folder.join(file), recorded.sha256.clone()))
    }
}
