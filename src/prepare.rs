//! Finds the bundle and ONNX Runtime on disk, and fetches and converts whatever is missing.

use std::path::{Path, PathBuf};

use crate::config::Settings;
use embedd_common::progress::Progress;
use embedd_convert::describe::{ModelDescription, ModelOrigin};
use embedd_convert::{Conversion, ConvertError, Making, ProofPlan, WriterError};
use embedd_fetch::home::{Home, NoHome};
use embedd_fetch::model_ref::ModelRef;
use embedd_fetch::{FetchError, Fetcher, Record, RuntimeBuild, RuntimeLibrary, Source};
use embedd_model::bundle::{Bundle, BundleError};
use embedd_model::engine::{Device, Gpu, LoadError, OnnxRuntime};

/// Why the bundle, or the library that runs it, is not available.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// There is no cache folder.
    #[error(transparent)]
    Home(#[from] NoHome),
    /// The model or ONNX Runtime could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// ONNX Runtime could not be loaded.
    #[error(transparent)]
    Runtime(#[from] LoadError),
    /// The model could not be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// The cache folder, and how files get there.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// The cache folder.
    pub home: Home,
    /// Fetches models and ONNX Runtime.
    pub fetcher: Fetcher,
    /// Reports the progress of conversions.
    pub progress: Progress,
    /// Where models run.
    pub device: Device,
}

impl Preparation {
    /// The cache folder and the sources that the settings name. Without a cache folder, all files must be named.
    ///
    /// # Errors
    /// [`PrepareError::Home`].
    pub fn new(settings: &Settings, progress: Progress) -> Result<Self, PrepareError> {
        let home = home(Home::find(settings.home.clone()), settings)?;
        if let Some(warning) = home.warning() {
            progress.note(&warning);
        }
        let fetcher = Fetcher::from_env(home.clone(), progress.clone())
            .offline(settings.offline)
            .runtime_library(settings.onnxruntime.clone())
            .check(|folder| embedd_convert::check_source(folder).map_err(|error| error.to_string()));
        Ok(Self { home, fetcher, progress, device: settings.device })
    }

    /// The folder of converted models for the device.
    pub fn bundles_dir(&self) -> PathBuf {
        match self.device {
            Device::Cpu => self.home.bundles_dir(),
            Device::Cuda(_) => self.home.gpu_bundles_dir(),
        }
    }

    /// The folder of the bundle converted from a model for the device.
    pub fn bundle_dir(&self, model: &ModelRef) -> PathBuf {
        self.bundles_dir().join(model.as_file_name())
    }

    /// The build of ONNX Runtime for the device.
    pub fn runtime_build(&self) -> RuntimeBuild {
        match self.device {
            Device::Cpu => RuntimeBuild::Cpu,
            Device::Cuda(_) => RuntimeBuild::Cuda,
        }
    }

    /// Loads ONNX Runtime for the device. The library is fetched if it is missing, and must have its pinned digest then.
    ///
    /// # Errors
    /// [`PrepareError::Fetch`] or [`PrepareError::Runtime`].
    pub fn runtime(&self) -> Result<OnnxRuntime, PrepareError> {
        match self.device {
            Device::Cpu => self.cpu_runtime(),
            Device::Cuda(number) => self.gpu_runtime(number),
        }
    }

    /// As [`runtime`](Self::runtime), with sessions on the CPU, for which the machine needs no GPU.
    ///
    /// # Errors
    /// [`PrepareError::Fetch`] or [`PrepareError::Runtime`].
    pub fn cpu_runtime(&self) -> Result<OnnxRuntime, PrepareError> {
        let RuntimeLibrary { path, sha256, .. } = self.fetcher.runtime(RuntimeBuild::Cpu)?;
        Ok(match &sha256 {
            Some(sha256) => OnnxRuntime::load_verified(&path, sha256)?,
            None => OnnxRuntime::load(&path)?,
        })
    }

    fn gpu_runtime(&self, number: u32) -> Result<OnnxRuntime, PrepareError> {
        // Before gigabytes are fetched that this machine cannot use.
        let gpu = Gpu::open(number)?;
        let RuntimeLibrary { path, sha256, dependencies } = self.fetcher.runtime(RuntimeBuild::Cuda)?;
        Ok(OnnxRuntime::load_with_gpu(&path, sha256.as_ref(), &dependencies, gpu)?)
    }

    /// The bundle that the settings name, else the bundle of their model in the cache folder. Only the latter may need
    /// the runtime, to convert the model.
    ///
    /// # Errors
    /// [`PrepareError`], including that of `runtime`.
    pub fn bundle(
        &self,
        settings: &Settings,
        runtime: impl FnOnce() -> Result<OnnxRuntime, PrepareError>,
    ) -> Result<Bundle, PrepareError> {
        match &settings.bundle {
            Some(folder) => Ok(Bundle::open(folder)?),
            None => self.bundle_of(&settings.model, &runtime()?),
        }
    }

    /// The bundle of the model in the cache folder. The model is fetched and converted if there is no bundle, if the
    /// bundle is from another version, or if it was made from a folder that has changed.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn bundle_of(&self, model: &ModelRef, runtime: &OnnxRuntime) -> Result<Bundle, PrepareError> {
        let model = self.resolve(model)?;
        let output = self.bundle_dir(&model);
        let replace = match Bundle::open(&output) {
            Ok(bundle) if is_current(&bundle, &model)? => return Ok(bundle),
            Ok(_) | Err(BundleError::Format { .. }) => true,
            Err(BundleError::NotABundle { .. }) => output.exists(),
            Err(error) => return Err(error.into()),
        };
        if replace {
            self.progress.note(&format!("{} is out of date: converting {model} again", output.display()));
        }
        self.home.create().map_err(FetchError::from)?;
        // These take longer than everything else, and serving on this machine does not need them.
        let making = Making { report: false, emulate: false, ..Making::of(self.device) };
        match self.convert(&model, output.clone(), replace, making, runtime) {
            // Another process has created the bundle in the meantime.
            Err(PrepareError::Convert(ConvertError::Write(WriterError::OutputExists(_)))) => Ok(Bundle::open(&output)?),
            result => result,
        }
    }

    /// Makes the path of a folder absolute, so that the folder has one bundle however it is named.
    fn resolve(&self, model: &ModelRef) -> Result<ModelRef, PrepareError> {
        match model {
            ModelRef::Hub { .. } => Ok(model.clone()),
            ModelRef::Folder(_) => Ok(ModelRef::Folder(self.fetcher.model(model)?)),
        }
    }

    /// Fetches the model if it is missing, and converts it, on the CPU whatever the runtime's device is.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn convert(
        &self,
        model: &ModelRef,
        output: PathBuf,
        replace: bool,
        making: Making,
        runtime: &OnnxRuntime,
    ) -> Result<Bundle, PrepareError> {
        let source = self.fetcher.model(model)?;
        let proof = Some(ProofPlan { runtime: runtime.on_cpu(), making });
        let (revision, commit) = fetched_revision(model, &source);
        let name = model.display_name();
        let conversion = Conversion { source, output, name, revision, commit, replace, proof };
        Ok(embedd_convert::convert(&conversion, &self.progress)?)
    }

    /// Describes the model. Downloads neither its weights nor ONNX Runtime, and keeps nothing of a model that was not
    /// fetched before.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn describe(&self, model: &ModelRef) -> Result<ModelDescription, PrepareError> {
        let configuration = self.fetcher.configuration(model)?;
        let folder = configuration.path();
        let origin = match (model, configuration.source()) {
            (ModelRef::Folder(_), _) => ModelOrigin::Folder { folder: folder.to_owned() },
            (ModelRef::Hub { id, revision }, source) => ModelOrigin::Hub {
                model: id.to_string(),
                revision: revision.to_string(),
                commit: match source {
                    Some(Source::Hub { commit, .. }) => commit.clone(),
                    _ => None,
                },
            },
        };
        Ok(embedd_convert::describe_source(folder, model.display_name(), origin)?)
    }
}

fn home(found: Result<Home, NoHome>, settings: &Settings) -> Result<Home, NoHome> {
    let needs_none = settings.bundle.is_some() && settings.onnxruntime.is_some();
    found.or_else(|missing| if needs_none { Ok(Home::nowhere()) } else { Err(missing) })
}

/// The requested revision of a fetched model, and its commit. Only the hub has revisions.
fn fetched_revision(model: &ModelRef, folder: &Path) -> (Option<String>, Option<String>) {
    let ModelRef::Hub { .. } = model else { return (None, None) };
    match Record::read(folder) {
        Ok(Some(Record { source: Source::Hub { revision, commit, .. }, .. })) => (Some(revision), commit),
        _ => (None, None),
    }
}

/// Users change their own folders. Fetched models never change, and may even have been deleted.
fn is_current(bundle: &Bundle, model: &ModelRef) -> Result<bool, PrepareError> {
    match model {
        ModelRef::Hub { .. } => Ok(true),
        ModelRef::Folder(folder) => Ok(embedd_convert::is_current(bundle, folder)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Configuration, Sources};

    #[test]
    fn a_cache_folder_is_needed_unless_all_files_are_named() {
        let settings = |flags: &[(&'static str, &str)]| {
            let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            Configuration::resolve(&Sources { flags, ..Sources::default() }).expect("valid").settings
        };
        let named = settings(&[("bundle", "/b"), ("onnxruntime", "/o")]);
        assert_eq!(home(Err(NoHome), &named), Ok(Home::nowhere()));
        assert_eq!(home(Err(NoHome), &settings(&[("bundle", "/b")])), Err(NoHome));
        assert_eq!(home(Ok(Home::at("/h")), &named), Ok(Home::at("/h")));
        assert!(Home::nowhere().create().is_err());
    }
}
