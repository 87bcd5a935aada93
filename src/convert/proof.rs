//! Runs the models that a conversion writes, and compares them with the reference.

use std::path::Path;

use super::calibrate::Calibration;
use super::source::Source;
use super::validate::validate;
use super::writer::{BundleWriter, Description};
use super::{Conversion, ConvertError, Gate, GateFailure};
use crate::bundle::{AccuracyRecord, REFERENCE_FILE, Variant};
use crate::engine::{OnnxRuntime, SessionOptions};
use crate::progress::Progress;
use crate::reference::{ReferenceSet, built_in};
use crate::tokenize::Tokenizer;

/// What models are compared with, and what it takes to run them.
pub(super) struct Proof<'p> {
    runtime: &'p OnnxRuntime,
    progress: &'p Progress,
    options: SessionOptions,
    tokenizer: Tokenizer,
    /// The set, and the bytes of its file; `None` where there is none for the model.
    reference: Option<(ReferenceSet, Vec<u8>)>,
    gate: Gate,
}

impl<'p> Proof<'p> {
    pub(super) fn begin(
        conversion: &Conversion,
        description: &Description,
        source: &Source,
        runtime: &'p OnnxRuntime,
        progress: &'p Progress,
    ) -> Result<Self, ConvertError> {
        let reference = find_reference(conversion, description)?;
        if reference.is_none() {
            progress.note(
                "there is no reference set for this model: nothing is compared with PyTorch; --reference takes one, and \
                 reference/make_reference.py makes it",
            );
        }
        let max_tokens = reference.as_ref().map_or(description.max_tokens, |(set, _)| set.max_tokens);
        let tokenizer = Tokenizer::read(&source.path("tokenizer.json"), max_tokens, source.lowercase)?;
        let threads = std::thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN);
        let options = SessionOptions { threads };
        Ok(Self { runtime, progress, options, tokenizer, reference, gate: conversion.gate })
    }

    pub(super) fn calibrate(&self, model: &Path, layers: usize) -> Result<Calibration, ConvertError> {
        let Self { runtime, tokenizer, options, progress, .. } = self;
        Ok(Calibration::measure(runtime, model, layers, tokenizer, *options, progress)?)
    }

    /// The gate. The reference set becomes part of the bundle.
    pub(super) fn check(
        &self,
        variant: Variant,
        recipe: &str,
        model: &Path,
        writer: &mut BundleWriter,
    ) -> Result<Option<AccuracyRecord>, ConvertError> {
        let Some((set, bytes)) = &self.reference else { return Ok(None) };
        let mut session = self.runtime.session(model, self.options)?;
        let accuracy = validate(session.as_mut(), &self.tokenizer, set, self.gate.min_cosine, self.progress)?;
        let summary = &accuracy.summary;
        self.progress.note(&format!(
            "{variant} ({recipe}): cosine to the reference at least {:.5}, mean {:.5}, {} texts",
            summary.min_cosine, summary.mean_cosine, summary.texts
        ));
        if !summary.passed && !self.gate.allow_inaccurate {
            return Err(GateFailure { variant, recipe: recipe.to_owned(), accuracy }.into());
        }
        writer.write(REFERENCE_FILE, bytes)?;
        Ok(Some(AccuracyRecord::from(&accuracy)))
    }
}

fn find_reference(
    conversion: &Conversion,
    description: &Description,
) -> Result<Option<(ReferenceSet, Vec<u8>)>, ConvertError> {
    let (path, bytes) = match &conversion.reference {
        Some(path) => {
            let bytes = std::fs::read(path)
                .map_err(|source| crate::reference::ReferenceError::Io { path: path.clone(), source })?;
            (path.as_path(), bytes)
        }
        None => match built_in(description.source.weights_sha256.as_str()) {
            Some(bytes) => (Path::new(REFERENCE_FILE), bytes.to_vec()),
            None => return Ok(None),
        },
    };
    Ok(Some((ReferenceSet::parse(&bytes, path)?, bytes)))
}
