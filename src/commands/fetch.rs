//! `embedd fetch`

use super::outcome::Outcome;
use super::setup::{preparation, start_logging};
use crate::cli::Fetch;
use crate::config::Configuration;
use crate::prepare::Preparation;

pub(super) fn run(fetch: &Fetch, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let preparation = preparation(configuration)?;
    let build = preparation.runtime_build();
    let Preparation { home, fetcher, .. } = preparation;
    let fetcher = fetcher.origin(fetch.from).verify(fetch.verify);
    let runtime = fetcher.runtime(build)?;
    let model = if fetch.no_model { None } else { Some(fetcher.model(&configuration.settings.model)?) };
    println!("cache folder  {}", home.root().display());
    println!("ONNX Runtime  {}", runtime.path.display());
    if let Some(model) = model {
        println!("model         {}", model.display());
    }
    Ok(Outcome::Done)
}
