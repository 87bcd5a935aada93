//! The conversion path: a sentence-transformers folder in, a bundle out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, BundleError, FP32_FILE, FileRecord, SourceRecord, Variant};
use crate::progress::{Progress, Unit};

pub mod baseline;
pub mod benchmark;
pub mod encoder;
pub mod machine;
pub mod onnx;
pub mod portable;
pub mod report;
pub mod source;
pub mod validate;
pub mod weights;
mod writer;

use encoder::{Encoder, EncoderError};
use source::{COPIED_FILES, Source, SourceError, WEIGHTS_FILE};
use weights::{Weights, WeightsError};
pub use writer::WriterError;
use writer::{BundleWriter, Description, io_error};

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
}

/// Why a conversion failed. Nothing is left behind, and an older bundle stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source's configuration cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source's weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The source's weights and configuration do not make an encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The tokeniser does not fit the model.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// The tokenizer.json.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The bundle could not be written.
    #[error(transparent)]
    Write(#[from] WriterError),
    /// The bundle that was written cannot be read.
    #[error("the bundle that was written cannot be read: {0}")]
    Bundle(#[from] BundleError),
}

/// Converts: read, describe, lower, write.
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
    write_fp32(&encoder, &mut writer, progress)?;
    let description = describe(conversion, &source, &encoder)?;
    writer.finish(description)?;
    Ok(Bundle::open(&conversion.output)?)
}

fn write_fp32(encoder: &Encoder<'_>, writer: &mut BundleWriter, progress: &Progress) -> Result<(), ConvertError> {
    let graph = portable::lower(encoder);
    let task = progress.task("writing the float32 model", Some(graph.weight_bytes()), Unit::Bytes);
    let metadata = [("architecture", encoder.architecture.to_owned()), ("pooling", encoder.pooling.to_string())];
    writer.stream(FP32_FILE, |out| graph.write(&metadata, out, |bytes| task.advance(bytes)))?;
    writer.add_model(Variant::Fp32, FP32_FILE, "none");
    task.finish();
    Ok(())
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
