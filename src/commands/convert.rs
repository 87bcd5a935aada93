//! `embedd convert`

use super::{fetching, start_logging};
use crate::cli::Convert;
use crate::config::Configuration;
use crate::prepare::Preparation;

pub(super) fn run(convert: &Convert, configuration: &Configuration) -> anyhow::Result<()> {
    start_logging(configuration)?;
    let (home, fetcher, progress) = fetching(configuration)?;
    let model = &configuration.settings.model;
    let output = convert.output.clone().unwrap_or_else(|| home.bundle_dir(model));
    let preparation = Preparation { home: &home, fetcher: &fetcher, progress: &progress };
    let bundle = preparation.convert(model, output, convert.force)?;
    println!("bundle  {}", bundle.folder().display());
    Ok(())
}
