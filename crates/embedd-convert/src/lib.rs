//! Converts a sentence-transformers folder into a bundle whose accuracy is proven.

use std::collections::BTreeMap;
use std::path::Path;

use embedd_common::progress::{Progress, Unit};
use embedd_model::bundle::{
    Bundle, FP16_FILE, FP32_FILE, FileRecord, NATIVE_FILE, NATIVE_WEIGHTS_FILE, PORTABLE_FILE, SourceRecord,
    TOKENIZER_FILE, Variant,
};
use embedd_model::tokenize::Tokenizer;

mod architecture;
pub mod baseline;
pub mod benchmark;
mod calibrate;
pub mod describe;
mod encoder;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gptq;
pub mod machine;
mod native;
mod onnx;
mod onnx_proto;
pub mod package;
mod plan;
mod portable;
mod proof;
mod quantize;
pub mod recipe;
pub mod report;
mod rounding;
mod source;
mod tokenizer;
pub mod validate;
mod weights;
mod writer;

use calibrate::Calibration;
use describe::{ModelDescription, ModelOrigin};
use encoder::{Encoder, ModuleWeights};
pub use error::{ConvertError, GateFailure};
use native::NativeRecipe;
use onnx::WeightLocations;
pub use plan::{Conversion, Gate, Making, ProofPlan};
#[doc(hidden)]
pub use portable::LongAttention;
use portable::{PerTokenWeights, Scheme};
use proof::Proof;
use recipe::Recipe;
use source::{COPIED_FILES, Source};
use weights::{Checkpoint, Weights};
pub use writer::WriterError;
use writer::{BundleWriter, Description, io_error};

/// The recipe that the manifest records for a model that is not quantized.
const UNQUANTIZED: &str = "none";
/// The recipe that the manifest records for the model that computes in float16.
const FLOAT16: &str = "float16";
/// The graph for calibration, which exists only during the conversion.
const OBSERVED_FILE: &str = "observed.onnx";
/// The float16 model with emulated float16, for the gate; it exists only during the conversion.
const EMULATED_FILE: &str = "emulated.onnx";
/// A model that is only measured for comparison; it exists only during the conversion.
const TRIED_FILE: &str = "tried.onnx";
/// The usual way to quantize. The report shows its figures for comparison.
const STOCK_RECIPE: Recipe = Recipe::DynamicPerTensor;

/// Converts a model: read, describe, lower, write, calibrate, quantize, compare, time, report.
///
/// # Errors
/// [`ConvertError`], with the file and the tensor.
pub fn convert(conversion: &Conversion, progress: &Progress) -> Result<Bundle, ConvertError> {
    let mut writer = BundleWriter::create(&conversion.output, conversion.replace)?;
    let source = Source::read(&conversion.source)?;
    let checkpoint = Checkpoint::find(&source.transformer())?;
    let weights = Weights::open_checkpoint(&checkpoint)?;
    let modules = module_checkpoints(&source)?;
    let module_weights = module_weights(&modules)?;
    let encoder = Encoder::describe(&source, &weights, &module_weights)?;
    let tokenizer = tokenizer::read(&source.transformer(), source.lowercase)?;
    check_tokenizer(&source, &tokenizer)?;
    writer.write(TOKENIZER_FILE, &tokenizer)?;
    for (file, required) in COPIED_FILES {
        writer.copy(&source.path(file), file, required)?;
    }
    let description = bundle_description(conversion, &source, record(&source, &checkpoint, &modules)?, &encoder);
    let fp32_weights = write_model(&encoder, Scheme::Float32, FP32_FILE, &mut writer, progress)?;
    writer.add_model(Variant::Fp32, FP32_FILE, None, UNQUANTIZED);
    if let Some(plan) = &conversion.proof {
        prove(plan, &encoder, &fp32_weights, &description, &mut writer, progress)?;
    }
    writer.finish(&description)?;
    Ok(Bundle::open(&conversion.output)?)
}

fn prove(
    plan: &ProofPlan,
    encoder: &Encoder<'_>,
    fp32_weights: &WeightLocations,
    description: &Description,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<(), ConvertError> {
    let mut proof = Proof::begin(plan, description, &writer.path(TOKENIZER_FILE), progress)?;
    proof.check(Variant::Fp32, writer)?;
    if plan.making.fp16 {
        write_fp16(encoder, &mut proof, writer, progress)?;
    }
    if let Some(recipe) = plan.making.recipe {
        let calibration = calibrate(encoder, fp32_weights, &proof, writer)?;
        write_portable(encoder, recipe, &calibration, writer, progress)?;
        proof.check(Variant::Portable, writer).or_else(|error| proof.leave_out(Variant::Portable, error, writer))?;
        // A bundle in half precision does not get the native model, which is INT8.
        if recipe != Recipe::Fp16 {
            write_native(encoder, calibration, writer, progress)?;
            writer.add_model(Variant::Native, NATIVE_FILE, Some(NATIVE_WEIGHTS_FILE), native::RECIPE);
            proof.check(Variant::Native, writer)?;
            proof.check_bf16(writer)?;
        }
    }
    if !plan.making.report {
        return Ok(());
    }
    if !plan.making.fp16 && plan.making.recipe != Some(STOCK_RECIPE) {
        write_model(encoder, Scheme::DynamicPerTensor, TRIED_FILE, writer, progress)?;
        proof.try_recipe(STOCK_RECIPE, TRIED_FILE, writer)?;
        writer.discard(TRIED_FILE)?;
    }
    proof.report(description, writer)
}

/// Runs the float32 model to observe the inputs of its linear layers.
///
/// The observed graph reads its weights from the float32 model's file.
fn calibrate(
    encoder: &Encoder<'_>,
    fp32_weights: &WeightLocations,
    proof: &Proof<'_>,
    writer: &mut BundleWriter,
) -> Result<Calibration, ConvertError> {
    let graph = portable::lower_observed(encoder)?;
    writer
        .stream(OBSERVED_FILE, |out| graph.write_without_weights(&metadata(encoder), FP32_FILE, fp32_weights, out))?;
    let inputs = encoder.linear_inputs().into_iter().map(|key| (key, encoder.linears(key)[0].inputs()));
    let calibration = proof.calibrate(&writer.path(OBSERVED_FILE), &inputs.collect::<Vec<_>>())?;
    writer.discard(OBSERVED_FILE)?;
    Ok(calibration)
}

fn write_portable(
    encoder: &Encoder<'_>,
    recipe: Recipe,
    calibration: &Calibration,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<(), ConvertError> {
    let weights;
    let scheme = match recipe {
        Recipe::PerToken => {
            weights = PerTokenWeights::round(encoder, calibration, progress)?;
            Scheme::PerToken(&weights)
        }
        Recipe::DynamicPerTensor => Scheme::DynamicPerTensor,
        Recipe::Fp16 => Scheme::Half,
    };
    write_model(encoder, scheme, PORTABLE_FILE, writer, progress)?;
    writer.add_model(Variant::Portable, PORTABLE_FILE, None, recipe.name());
    Ok(())
}

/// Writes the float16 model, unless it fails the gate.
fn write_fp16(
    encoder: &Encoder<'_>,
    proof: &mut Proof<'_>,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<(), ConvertError> {
    write_model(encoder, Scheme::Float16, FP16_FILE, writer, progress)?;
    writer.add_model(Variant::Fp16, FP16_FILE, None, FLOAT16);
    write_model(encoder, Scheme::EmulatedFloat16, EMULATED_FILE, writer, progress)?;
    // Some models, such as Gemma's, exceed the range of float16. GPUs run their float32 model.
    let checked = proof.check_by(Variant::Fp16, Some(EMULATED_FILE), writer);
    checked.or_else(|error| proof.leave_out(Variant::Fp16, error, writer))?;
    Ok(writer.discard(EMULATED_FILE)?)
}

fn write_model(
    encoder: &Encoder<'_>,
    scheme: Scheme<'_>,
    file: &str,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<WeightLocations, ConvertError> {
    let graph = portable::lower(encoder, scheme)?;
    let task = progress.task(&format!("writing {file}"), Some(graph.weight_bytes()), Unit::Bytes);
    let weights = writer.stream(file, |out| graph.write(&metadata(encoder), out, |bytes| task.advance(bytes)))?;
    task.finish();
    Ok(weights)
}

fn write_native(
    encoder: &Encoder<'_>,
    calibration: Calibration,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<(), ConvertError> {
    let recipe = NativeRecipe::default();
    let rounded = native::round(encoder, &calibration, &recipe, progress)?;
    // Hundreds of megabytes that are no longer needed.
    drop(calibration);
    let native = native::lower(encoder, &rounded, &recipe);
    let task = progress.task(&format!("writing {NATIVE_WEIGHTS_FILE}"), Some(native.weights.bytes()), Unit::Bytes);
    writer.stream(NATIVE_FILE, |out| native.graph.write(&metadata(encoder), out, |_| {}))?;
    writer.stream(NATIVE_WEIGHTS_FILE, |out| native.weights.write(out, |bytes| task.advance(bytes)))?;
    task.finish();
    Ok(())
}

/// The metadata of an ONNX file.
fn metadata(encoder: &Encoder<'_>) -> [(&'static str, String); 2] {
    [("architecture", encoder.architecture.to_owned()), ("pooling", encoder.pooling.to_string())]
}

/// Writes only the float32 graph of the model in `folder`. Tests compare graphs with different limits for long texts.
///
/// # Errors
/// As [`convert`].
#[doc(hidden)]
pub fn write_graph(folder: &Path, output: &Path, long: LongAttention) -> Result<(), ConvertError> {
    let source = Source::read(folder)?;
    let weights = Weights::open_checkpoint(&Checkpoint::find(&source.transformer())?)?;
    let modules = module_weights(&module_checkpoints(&source)?)?;
    let encoder = Encoder::describe(&source, &weights, &modules)?;
    let graph = portable::lower_with_blocks(&encoder, long)?;
    let mut file = std::fs::File::create(output).map(std::io::BufWriter::new).map_err(io_error(output))?;
    let written = graph.write(&metadata(&encoder), &mut file, |_| {});
    written.map_err(|source| WriterError::Model { path: output.to_owned(), source })?;
    Ok(())
}

fn bundle_description(
    conversion: &Conversion,
    source: &Source,
    record: SourceRecord,
    encoder: &Encoder<'_>,
) -> Description {
    Description {
        name: conversion.name.clone(),
        architecture: encoder.architecture.to_owned(),
        source: SourceRecord { revision: conversion.revision.clone(), commit: conversion.commit.clone(), ..record },
        dimension: encoder.width() as u32,
        max_tokens: source.token_limit(),
        position_limit: encoder.position_limit as u32,
        pooling: encoder.pooling.clone(),
        // The tokenizer does it.
        lowercase: false,
        prompts: source.prompts.clone(),
        default_prompt: source.default_prompt.clone(),
        exclude_prompt: source.exclude_prompt,
    }
}

/// The files with the weights of the modules after the pooling, with the modules' folders.
fn module_checkpoints(source: &Source) -> Result<Vec<(&Path, Checkpoint)>, ConvertError> {
    let find = |module: &'_ source::ModuleConfig| Checkpoint::find(&source.folder.join(&module.folder));
    let modules = source.modules.iter();
    modules.map(|module| Ok((module.folder.as_path(), find(module)?))).collect()
}

fn module_weights(modules: &[(&Path, Checkpoint)]) -> Result<ModuleWeights, ConvertError> {
    let weights = modules.iter().map(|(_, checkpoint)| Weights::open_checkpoint(checkpoint));
    Ok(ModuleWeights::new(weights.collect::<Result<_, _>>()?))
}

fn record(
    source: &Source,
    checkpoint: &Checkpoint,
    modules: &[(&Path, Checkpoint)],
) -> Result<SourceRecord, ConvertError> {
    let record = |path: &Path| FileRecord::of(path).map_err(io_error(path));
    let mut files = BTreeMap::new();
    let tokenizer = tokenizer::files(&source.transformer()).iter().map(|file| source.relative(file));
    for file in source.files().chain(tokenizer.filter(|file| source.folder.join(file).exists())) {
        files.insert(file.clone(), record(&source.folder.join(file))?);
    }
    let mut weights = BTreeMap::new();
    for file in checkpoint.files() {
        weights.insert(file.to_owned(), record(&source.path(file))?);
    }
    for (folder, checkpoint) in modules {
        for file in checkpoint.files() {
            let file = folder.join(file).to_string_lossy().into_owned();
            files.insert(file.clone(), record(&source.folder.join(&file))?);
        }
    }
    let weights_sha256 = checkpoint.sha256(&weights);
    files.extend(weights.into_iter().map(|(file, record)| (source.relative(&file), record)));
    Ok(SourceRecord { weights_sha256, revision: None, commit: None, files })
}

/// Checks the configuration and the tokenizer of a folder, which need not contain the weights yet.
///
/// # Errors
/// [`ConvertError`] if the model cannot be converted, whatever its weights.
pub fn check_source(folder: &Path) -> Result<(), ConvertError> {
    read_source(folder).map(drop)
}

/// Describes the model in a folder, which need not contain the weights.
///
/// # Errors
/// As [`check_source`].
pub fn describe_source(folder: &Path, name: String, origin: ModelOrigin) -> Result<ModelDescription, ConvertError> {
    let (source, tokenizer) = read_source(folder)?;
    Ok(ModelDescription::of(&source, &tokenizer, name, origin)?)
}

fn read_source(folder: &Path) -> Result<(Source, Tokenizer), ConvertError> {
    let source = Source::read(folder)?;
    let tokenizer = tokenizer::read(&source.transformer(), source.lowercase)?;
    let tokenizer = check_tokenizer(&source, &tokenizer)?;
    Ok((source, tokenizer))
}

/// Whether a bundle was converted from the folder's current contents.
///
/// # Errors
/// [`ConvertError`] if one of the folder's files cannot be read.
pub fn is_current(bundle: &Bundle, folder: &Path) -> Result<bool, ConvertError> {
    let source = Source::read(folder)?;
    let checkpoint = Checkpoint::find(&source.transformer())?;
    let current = record(&source, &checkpoint, &module_checkpoints(&source)?)?;
    let SourceRecord { weights_sha256, files, .. } = &bundle.manifest().source;
    Ok((&current.weights_sha256, &current.files) == (weights_sha256, files))
}

/// Rejects token ids beyond the embedding table. They would make inference fail, but only for some texts.
fn check_tokenizer(source: &Source, contents: &[u8]) -> Result<Tokenizer, ConvertError> {
    let path = source.path(TOKENIZER_FILE);
    let tokenizer = Tokenizer::parse(contents, &path, 0, false)?;
    let rows = source.config.vocab_size;
    let (id, token) = tokenizer.largest_id();
    if id as usize >= rows {
        let reason =
            format!("the token `{token}` has the id {id}, but vocab_size in config.json allows 0 to {}", rows - 1);
        return Err(ConvertError::Tokenizer { path, reason });
    }
    Ok(tokenizer)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiny;
