//! The configuration of a model without its weights.

use std::path::{Path, PathBuf};

use super::folder::{self, Needed};
use super::hub::Hub;
use super::record::{Record, Source};
use super::work::{Staging, Work};
use super::{FetchError, Fetcher};
use crate::model_ref::ModelRef;

/// A folder with all files of a model, possibly except its weights.
#[derive(Debug)]
pub struct ConfigurationFolder {
    path: PathBuf,
    source: Option<Source>,
    /// Removes downloaded files on drop, in this order.
    _temporary: Option<(Staging, Work)>,
}

impl ConfigurationFolder {
    /// The path of the folder. Downloaded files are removed when this value is dropped.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The origin of a model that was fetched. `None` for the user's own folder.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }
}

impl Fetcher {
    /// The configuration and the tokenizer of the model. The user's own folders and fetched models are used in place. Of
    /// other models, only these files are downloaded from the hub, and not kept.
    ///
    /// # Errors
    /// As [`Fetcher::model`], except that weights may be missing.
    pub fn configuration(&self, model: &ModelRef) -> Result<ConfigurationFolder, FetchError> {
        let (id, revision) = match model {
            ModelRef::Folder(path) => {
                let path = folder::open(path, self.settings.user_home.as_deref(), Needed::AllButWeights)?;
                return Ok(ConfigurationFolder { path, source: None, _temporary: None });
            }
            ModelRef::Hub { id, revision } => (id, revision),
        };
        let target = self.target(model);
        let state = self.inspect(&target)?;
        if state.is_complete() {
            let record = Record::read(&target.destination).ok().flatten();
            let source = record.map(|record| record.source);
            return Ok(ConfigurationFolder { path: target.destination, source, _temporary: None });
        }
        self.reject_if_offline(&target, &state)?;
        let work = Work::begin(&self.home, &target, &self.progress)?;
        let mut staging = work.staging(&target)?;
        let hub = Hub::new(&self.settings.hub, self.settings.check.as_ref(), &self.progress)?;
        let source = hub.configuration(id, revision, &target, &work, &mut staging)?;
        Ok(ConfigurationFolder { path: staging.path(), source: Some(source), _temporary: Some((staging, work)) })
    }
}
