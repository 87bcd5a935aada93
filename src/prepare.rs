//! What serving needs on disk: found, or else fetched and converted.

use std::path::{Path, PathBuf};

use embedd_common::progress::Progress;
use embedd_convert::{Conversion, ConvertError, Making, ProofPlan, WriterError};
use embedd_fetch::home::Home;
use embedd_fetch::model_ref::ModelRef;
use embedd_fetch::{FetchError, Fetcher};
use embedd_model::bundle::{Bundle, BundleError};
use embedd_model::engine::OnnxRuntime;

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
    /// Runs the models that are converted.
    pub runtime: &'a OnnxRuntime,
    /// Tells how far it is.
    pub progress: &'a Progress,
}

impl Preparation<'_> {
    /// The model's bundle in the cache folder; fetched and converted where there is none, or none of this version or of
    /// the folder as it is now.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn bundle(&self, model: &ModelRef) -> Result<Bundle, PrepareError> {
        let model = self.resolve(model)?;
        let output = self.home.bundle_dir(&model);
        let replace = match Bundle::open(&output) {
            Ok(bundle) if self.is_current(&bundle, &model)? => return Ok(bundle),
            Ok(_) | Err(BundleError::Format { .. }) => true,
            Err(BundleError::NotABundle { .. }) => output.exists(),
            Err(error) => return Err(error.into()),
        };
        if replace {
            self.progress.note(&format!("{} is out of date: converting {model} again", output.display()));
        }
        // The report takes longer than all the rest, and serving does not need it.
        let making = Making { report: false, ..Making::default() };
        match self.convert(&model, output.clone(), replace, making) {
            // Another process was faster.
            Err(PrepareError::Convert(ConvertError::Write(WriterError::OutputExists(_)))) => Ok(Bundle::open(&output)?),
            result => result,
        }
    }

    /// A folder by its full path, so that it has one bundle however it is named.
    fn resolve(&self, model: &ModelRef) -> Result<ModelRef, PrepareError> {
        match model {
            ModelRef::Hub(_) => Ok(model.clone()),
            ModelRef::Folder(_) => Ok(ModelRef::Folder(self.fetcher.model(model)?)),
        }
    }

    /// Users change their own folders. What was fetched stays as it is, and may even be gone.
    fn is_current(&self, bundle: &Bundle, model: &ModelRef) -> Result<bool, PrepareError> {
        match model {
            ModelRef::Hub(_) => Ok(true),
            ModelRef::Folder(folder) => Ok(embedd_convert::is_current(bundle, folder)?),
        }
    }

    /// Fetches and converts.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn convert(
        &self,
        model: &ModelRef,
        output: PathBuf,
        replace: bool,
        making: Making,
    ) -> Result<Bundle, PrepareError> {
        let source = self.fetcher.model(model)?;
        let runtime = self.runtime.clone();
        let proof = Some(ProofPlan { runtime, making });
        let conversion = Conversion { source, output, name: model.display_name(), replace, proof };
        Ok(embedd_convert::convert(&conversion, self.progress)?)
    }

    /// A bundle that the user names.
    ///
    /// # Errors
    /// [`PrepareError::Bundle`].
    pub fn open(folder: &Path) -> Result<Bundle, PrepareError> {
        Ok(Bundle::open(folder)?)
    }
}
