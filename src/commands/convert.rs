//! `embedd convert`

use super::{Outcome, fetching, start_logging};
use crate::cli::Convert;
use crate::config::Configuration;
use crate::prepare::{Preparation, PrepareError};
use embedd_convert::ConvertError;
use embedd_model::engine::OnnxRuntime;

pub(super) fn run(convert: &Convert, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let (home, fetcher, progress) = fetching(configuration)?;
    let model = &configuration.settings.model;
    let output = convert.output.clone().unwrap_or_else(|| home.bundle_dir(model));
    let runtime = OnnxRuntime::load(&fetcher.runtime()?)?;
    let preparation = Preparation { home: &home, fetcher: &fetcher, runtime: &runtime, progress: &progress };
    match preparation.convert(model, output, convert.force, convert.making.clone()) {
        Ok(bundle) => println!("bundle  {}", bundle.folder().display()),
        Err(error @ PrepareError::Convert(ConvertError::Gate(_))) => {
            eprintln!("error: {error}");
            return Ok(Outcome::GateFailed);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Outcome::Done)
}
