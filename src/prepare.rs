//! What serving needs on disk: found, or else fetched and converted.

use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, BundleError};
use crate::convert::{Conversion, ConvertError, WriterError, convert};
use crate::fetch::{FetchError, Fetcher};
use crate::home::Home;
use crate::model_ref::ModelRef;
use crate::progress::Progress;

/// Why there is no bundle to serve.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The source could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The source could not be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Where a model's bundle lives, and how to make it.
#[derive(Debug)]
pub struct Preparation<'a> {
    /// The cache folder.
    pub home: &'a Home,
    /// Brings the model.
    pub fetcher: &'a Fetcher,
    /// Tells how far it is.
    pub progress: &'a Progress,
}

impl Preparation<'_> {
    /// The model's bundle in the cache folder; fetched and converted where there is none, or one of another version.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn bundle(&self, model: &ModelRef) -> Result<Bundle, PrepareError> {
        let output = self.home.bundle_dir(model);
        let replace = match Bundle::open(&output) {
            Ok(bundle) => return Ok(bundle),
            Err(BundleError::NotABundle { .. }) => output.exists(),
            Err(BundleError::Format { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        match self.convert(model, output.clone(), replace) {
            // Another process was faster.
            Err(PrepareError::Convert(ConvertError::Write(WriterError::OutputExists(_)))) => Ok(Bundle::open(&output)?),
            result => result,
        }
    }

    /// Fetches and converts.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn convert(&self, model: &ModelRef, output: PathBuf, replace: bool) -> Result<Bundle, PrepareError> {
        let source = self.fetcher.model(model)?;
        let conversion = Conversion { source, output, name: model.display_name(), replace };
        Ok(convert(&conversion, self.progress)?)
    }

    /// A bundle that the user names.
    ///
    /// # Errors
    /// [`PrepareError::Bundle`].
    pub fn open(folder: &Path) -> Result<Bundle, PrepareError> {
        Ok(Bundle::open(folder)?)
    }
}
