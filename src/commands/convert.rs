//! `embedd convert`

use super::outcome::Outcome;
use super::setup::{preparation, start_logging};
use crate::cli::{Convert, Precision};
use crate::config::{Configuration, Settings};
use crate::prepare::{Preparation, PrepareError};
use embedd_convert::recipe::Recipe;
use embedd_convert::{ConvertError, Gate, Making};
use embedd_model::engine::Device;

pub(super) fn run(convert: &Convert, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let preparation = preparation(configuration)?;
    if convert.describe {
        return describe(&preparation, &configuration.settings, convert.json);
    }
    let model = &configuration.settings.model;
    let output = convert.output.clone().unwrap_or_else(|| preparation.bundle_dir(model));
    // The machine that converts a model for GPUs need not have one.
    let runtime = preparation.cpu_runtime()?;
    let making = making(convert, configuration.settings.device);
    match preparation.convert(model, output, convert.force, making, &runtime) {
        Ok(bundle) => println!("bundle  {}", bundle.folder().display()),
        Err(error @ PrepareError::Convert(ConvertError::Gate(_))) => {
            eprintln!("error: {error}");
            return Ok(Outcome::GateFailed);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Outcome::Done)
}

fn describe(preparation: &Preparation, settings: &Settings, json: bool) -> anyhow::Result<Outcome> {
    let description = preparation.describe(&settings.model)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&description)?),
        false => print!("{description}"),
    }
    Ok(Outcome::Done)
}

fn making(convert: &Convert, device: Device) -> Making {
    let default = Making::of(device);
    let recipe = match (convert.recipe, convert.precision) {
        (Some(recipe), _) => Some(recipe),
        (None, Some(Precision::Fp16)) => Some(Recipe::Fp16),
        (None, Some(Precision::Fp32)) => None,
        (None, Some(Precision::Int8)) => Some(Recipe::default()),
        (None, None) => default.recipe,
    };
    Making {
        recipe,
        fp16: default.fp16,
        gate: Gate {
            min_cosine: convert.min_cosine.unwrap_or(default.gate.min_cosine),
            allow_inaccurate: convert.allow_inaccurate,
        },
        reference: convert.reference.clone(),
        baseline: convert.baseline.clone(),
        report: !convert.no_report,
        emulate: default.emulate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_flags_conversion_uses_its_defaults() {
        assert_eq!(making(&Convert::default(), Device::Cpu), Making::default());
    }

    #[test]
    fn a_bundle_for_gpus_has_int8_models_only_on_request() {
        let gpu = |precision| making(&Convert { precision, ..Convert::default() }, Device::Cuda(0));
        assert_eq!((gpu(None).recipe, gpu(None).fp16), (None, true));
        assert_eq!((gpu(Some(Precision::Int8)).recipe, gpu(None).fp16), (Some(Recipe::PerToken), true));
    }

    #[test]
    fn a_precision_stands_for_a_recipe() {
        for (precision, recipe) in
            [(Precision::Int8, Some(Recipe::PerToken)), (Precision::Fp16, Some(Recipe::Fp16)), (Precision::Fp32, None)]
        {
            let convert = Convert { precision: Some(precision), ..Convert::default() };
            assert_eq!(making(&convert, Device::Cpu).recipe, recipe);
        }
        let convert = Convert { recipe: Some(Recipe::DynamicPerTensor), ..Convert::default() };
        assert_eq!(making(&convert, Device::Cpu).recipe, Some(Recipe::DynamicPerTensor));
    }
}
