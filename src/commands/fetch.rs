//! `embedd fetch`

use super::{fetching, start_logging};
use crate::cli::Fetch;
use crate::config::Configuration;

pub(super) fn run(fetch: &Fetch, configuration: &Configuration) -> anyhow::Result<()> {
    start_logging(configuration)?;
    let (home, fetcher, _) = fetching(configuration)?;
    let fetcher = fetcher.origin(fetch.from).verify(fetch.verify);
    let runtime = fetcher.runtime()?;
    let model = if fetch.no_model { None } else { Some(fetcher.model(&configuration.settings.model)?) };
    println!("cache folder  {}", home.root().display());
    println!("ONNX Runtime  {}", runtime.display());
    if let Some(model) = model {
        println!("model         {}", model.display());
    }
    Ok(())
}
