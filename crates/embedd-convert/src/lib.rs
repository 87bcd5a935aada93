//! The conversion path: a sentence-transformers folder in, a proven bundle out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use embedd_common::progress::{Progress, Unit};
use embedd_model::bundle::{
    Bundle, FP32_FILE, FileRecord, NATIVE_FILE, NATIVE_WEIGHTS_FILE, PORTABLE_FILE, SourceRecord, Variant,
};
use embedd_model::engine::OnnxRuntime;

pub mod baseline;
pub mod benchmark;
mod calibrate;
mod encoder;
mod error;
mod gptq;
pub mod machine;
mod native;
mod onnx;
mod onnx_proto;
pub mod package;
mod portable;
mod proof;
mod quantize;
pub mod recipe;
pub mod report;
mod source;
pub mod validate;
mod weights;
mod writer;

use calibrate::Calibration;
use encoder::Encoder;
pub use error::{ConvertError, GateFailure};
use native::NativeRecipe;
use portable::Scheme;
use proof::Proof;
use recipe::Recipe;
use source::{COPIED_FILES, Source, WEIGHTS_FILE};
use validate::DEFAULT_THRESHOLD;
use weights::Weights;
pub use writer::WriterError;
use writer::{BundleWriter, Description, io_error};

/// What the manifest calls the recipe of a model that is not quantised.
const UNQUANTIZED: &str = "none";
/// A model that is there only while the bundle is made.
const OBSERVED_FILE: &str = "observed.onnx";
/// As `OBSERVED_FILE`.
const TRIED_FILE: &str = "tried.onnx";
/// What everybody does: the report shows its figures beside ours.
const STOCK_RECIPE: Recipe = Recipe::DynamicPerTensor;

/// What to convert, and where to.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// A sentence-transformers folder.
    pub source: PathBuf,
    /// The folder that becomes the bundle.
    pub output: PathBuf,
    /// What the model is called.
    pub name: String,
    /// Whether a bundle in `output` is replaced.
    pub replace: bool,
    /// How the quantised models are made and proven; `None`: there is only the float32 model, and nothing is run.
    pub proof: Option<ProofPlan>,
}

/// How the models are made and proven, and what runs them.
#[derive(Debug, Clone)]
pub struct ProofPlan {
    /// Runs the models.
    pub runtime: OnnxRuntime,
    /// What is made.
    pub making: Making,
}

/// How the models are quantised, compared, timed and reported on.
#[derive(Debug, Clone, PartialEq)]
pub struct Making {
    /// How the portable model is quantised; `None`: there is none. A native model is made beside an INT8 one.
    pub recipe: Option<Recipe>,
    /// What the models must fulfil.
    pub gate: Gate,
    /// The reference set to compare with; `None`: the one that comes with embedd, where there is one for these weights.
    pub reference: Option<PathBuf>,
    /// The times of other programs, for the report: what the `baseline` module reads.
    pub baseline: Option<PathBuf>,
    /// Whether the models are timed, the stock recipe is tried beside ours, and the report is written.
    pub report: bool,
}

impl Default for Making {
    fn default() -> Self {
        Self { recipe: Some(Recipe::default()), gate: Gate::default(), reference: None, baseline: None, report: true }
    }
}

/// What a model must fulfil to be served and packaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// The least cosine to PyTorch that a text may have.
    pub min_cosine: f64,
    /// Whether a model that fails is written all the same, and marked.
    pub allow_inaccurate: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { min_cosine: DEFAULT_THRESHOLD, allow_inaccurate: false }
    }
}

/// Converts: read, describe, lower, write, calibrate, quantise, compare, time, report.
///
/// # Errors
/// [`ConvertError`], naming the file and the tensor.
pub fn convert(conversion: &Conversion, progress: &Progress) -> Result<Bundle, ConvertError> {
    let mut writer = BundleWriter::create(&conversion.output, conversion.replace)?;
    let source = Source::read(&conversion.source)?;
    let weights = Weights::open(&source.path(WEIGHTS_FILE))?;
    let encoder = Encoder::describe(&source, &weights)?;
    check_tokenizer(&source)?;
    for (file, required) in COPIED_FILES {
        writer.copy(&source.path(file), file, required)?;
    }
    let description = describe(conversion, &source, &encoder)?;
    write_model(&encoder, Scheme::Float32, FP32_FILE, &mut writer, progress)?;
    writer.add_model(Variant::Fp32, FP32_FILE, None, UNQUANTIZED);
    if let Some(plan) = &conversion.proof {
        prove(plan, &encoder, &source, &description, &mut writer, progress)?;
    }
    writer.finish(&description)?;
    Ok(Bundle::open(&conversion.output)?)
}

fn prove(
    plan: &ProofPlan,
    encoder: &Encoder<'_>,
    source: &Source,
    description: &Description,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<(), ConvertError> {
    let mut proof = Proof::begin(plan, description, source, progress)?;
    proof.check(Variant::Fp32, writer)?;
    if let Some(recipe) = plan.making.recipe {
        let calibration = calibrate(encoder, &proof, writer, progress)?;
        write_model(encoder, scheme(recipe, &calibration), PORTABLE_FILE, writer, progress)?;
        writer.add_model(Variant::Portable, PORTABLE_FILE, None, recipe.name());
        proof.check(Variant::Portable, writer)?;
        // Who asks for half precision has no use for INT8.
        if recipe != Recipe::Fp16 {
            write_native(encoder, calibration, writer, progress)?;
            writer.add_model(Variant::Native, NATIVE_FILE, Some(NATIVE_WEIGHTS_FILE), native::RECIPE);
            proof.check(Variant::Native, writer)?;
        }
    }
    if !plan.making.report {
        return Ok(());
    }
    if proof.has_reference() && plan.making.recipe != Some(STOCK_RECIPE) {
        write_model(encoder, Scheme::DynamicPerTensor, TRIED_FILE, writer, progress)?;
        proof.try_recipe(STOCK_RECIPE, TRIED_FILE, writer)?;
        writer.discard(TRIED_FILE)?;
    }
    proof.report(description, writer)
}

/// How large the inputs of linear layers become, and some rows of them.
fn calibrate(
    encoder: &Encoder<'_>,
    proof: &Proof<'_>,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<Calibration, ConvertError> {
    write_model(encoder, Scheme::Observed, OBSERVED_FILE, writer, progress)?;
    let calibration = proof.calibrate(&writer.path(OBSERVED_FILE), encoder.layers.len())?;
    writer.discard(OBSERVED_FILE)?;
    Ok(calibration)
}

fn scheme(recipe: Recipe, calibration: &Calibration) -> Scheme<'_> {
    match recipe {
        Recipe::PerToken => Scheme::PerToken(calibration),
        Recipe::DynamicPerTensor => Scheme::DynamicPerTensor,
        Recipe::Fp16 => Scheme::Half,
    }
}

fn write_model(
    encoder: &Encoder<'_>,
    scheme: Scheme<'_>,
    file: &str,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<(), ConvertError> {
    let graph = portable::lower(encoder, scheme)?;
    let task = progress.task(&format!("writing {file}"), Some(graph.weight_bytes()), Unit::Bytes);
    writer.stream(file, |out| graph.write(&metadata(encoder), out, |bytes| task.advance(bytes)))?;
    task.finish();
    Ok(())
}

fn write_native(
    encoder: &Encoder<'_>,
    calibration: Calibration,
    writer: &mut BundleWriter,
    progress: &Progress,
) -> Result<(), ConvertError> {
    let recipe = NativeRecipe::default();
    let rounded = native::round(encoder, &calibration, &recipe, progress)?;
    // Hundreds of megabytes that nothing needs any more.
    drop(calibration);
    let native = native::lower(encoder, &rounded, &recipe);
    let task = progress.task(&format!("writing {NATIVE_WEIGHTS_FILE}"), Some(native.weights.bytes()), Unit::Bytes);
    writer.stream(NATIVE_FILE, |out| native.graph.write(&metadata(encoder), out, |_| {}))?;
    writer.stream(NATIVE_WEIGHTS_FILE, |out| native.weights.write(out, |bytes| task.advance(bytes)))?;
    task.finish();
    Ok(())
}

/// What a graph says of itself.
fn metadata(encoder: &Encoder<'_>) -> [(&'static str, String); 2] {
    [("architecture", encoder.architecture.to_owned()), ("pooling", encoder.pooling.to_string())]
}

fn describe(conversion: &Conversion, source: &Source, encoder: &Encoder<'_>) -> Result<Description, ConvertError> {
    let position_limit = encoder.position_limit as u32;
    Ok(Description {
        name: conversion.name.clone(),
        architecture: encoder.architecture.to_owned(),
        source: record(source)?,
        dimension: encoder.hidden_size as u32,
        max_tokens: source.max_tokens.unwrap_or(position_limit).min(position_limit),
        position_limit,
        pooling: encoder.pooling,
        lowercase: source.lowercase,
    })
}

fn record(source: &Source) -> Result<SourceRecord, ConvertError> {
    let mut files = BTreeMap::new();
    for file in source.files() {
        let path = source.path(file);
        files.insert(file.to_owned(), FileRecord::of(&path).map_err(io_error(&path))?);
    }
    let weights_sha256 = files[WEIGHTS_FILE].sha256.clone();
    Ok(SourceRecord { weights_sha256, files })
}

/// Whether a bundle was converted from the folder as it is now.
///
/// # Errors
/// What reading one of the folder's files failed with.
pub fn is_current(bundle: &Bundle, folder: &Path) -> Result<bool, ConvertError> {
    Ok(record(&Source::read(folder)?)? == bundle.manifest().source)
}

/// A token id beyond the embedding table would make the server fail on some texts only.
fn check_tokenizer(source: &Source) -> Result<(), ConvertError> {
    let path = source.path("tokenizer.json");
    let wrong = |reason: String| ConvertError::Tokenizer { path: path.clone(), reason };
    let tokenizer = load_tokenizer(&path).map_err(wrong)?;
    let rows = source.config.vocab_size;
    let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
    if highest >= rows {
        return Err(wrong(format!(
            "it has the token id {highest}, but vocab_size in config.json allows 0 to {}",
            rows - 1
        )));
    }
    Ok(())
}

fn load_tokenizer(path: &Path) -> Result<tokenizers::Tokenizer, String> {
    tokenizers::Tokenizer::from_file(path).map_err(|error| format!("it is no tokeniser: {error}"))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiny;
